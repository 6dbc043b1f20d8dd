"""What kernels take: nothing spills, everything fits into shared memory, and the page shows the record."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqc import bundled, zoo
from tools.kernels import record
from tools.kernels.__main__ import PAGE, examine
from tools.kernels.page import fits, page
from tools.kernels.record import Record, Row, Taken, of
from tools.kernels.units import Work, called, kernels_of

EACH = "sm_90", "bfloat16"
CLASSES = (  # one spec each
    "attention/fox",
    "complex/s5",
    "deep/titans",
    "delta/gated_delta",
    "gated/hgrn",
    "gated/mamba",
    "linear/gla",
    "linear/mamba2",
    "nonlinear/gru",
    "xlstm/mlstm",
)
SPECS = sorted(map(zoo.key, bundled.specs()))
SPILLING = ("momentum_delta_M_S.combine1",)  # in blocks: what the cotangents of two states have in common
ONE, OTHER = Taken("1a", 4, 3, 64, 100, 0, 1024, 0), Taken("2b", 8, 1, 0, 255, 16, 999_999, 72)


def recorded(path: str) -> dict[str, Taken]:
    """What the kernels of a spec took when they were compiled last."""
    rules = record.read().get(path, {}).values()
    return {name: found[of(*EACH)] for row in rules for name, found in row.items() if of(*EACH) in found}


def taken(path: str, most: int) -> dict[str, Taken]:
    """What the kernels of a spec take, as it was recorded; of those that have changed at most so many are compiled,
    first those that took most registers, and of new ones those with most text.
    """
    before, known = recorded(path), record.known(record.read())
    work = list(kernels_of(bundled.folder("specs") / path, *([each] for each in EACH)))

    def size(each: Work) -> tuple[int, int]:
        took = before[each.kernel].registers if each.kernel in before else 0
        return took, len(called(each.source.text, each.source.kernel))

    changed = sorted((each for each in work if each.digest not in known), key=size, reverse=True)
    found = {each.kernel: each.compiled() for each in changed[:most]}
    return found | {each.kernel: known[each.digest] for each in work if each.digest in known}


def faults(found: dict[str, Taken]) -> dict[str, Taken]:
    """What spills, or needs more shared memory than there is."""
    return {name: each for name, each in found.items() if each.spills or not fits(of(*EACH), each)}


def worse(path: str, most: int) -> dict[str, Taken]:
    """What is wrong with the kernels of a spec, but for loops that spill no more than was recorded."""
    pytest.importorskip("triton")
    before, found = recorded(path), faults(taken(path, most))
    loops = {name for name in found if name.endswith((".forward", ".backward")) or name in SPILLING}
    return {
        name: x
        for name, x in found.items()
        if name not in loops & before.keys() or x.spills > before[name].spills
    }


@pytest.mark.parametrize("name", CLASSES)
def test_kernels_spill_nothing(name: str) -> None:
    """One spec a class; of what has changed since `make kernels`, the largest kernel is compiled."""
    pytest.importorskip("triton")
    assert faults(taken(f"{name}.seq", 1)) == {}


@pytest.mark.parametrize("path", SPECS)
def test_a_spec_that_has_changed_spills_no_more_than_it_did(path: str) -> None:
    """The largest kernel that has changed of every spec. Many recurrent weights do not fit into registers beside their
    cotangents; `make kernels` remembers what their loops spill.
    """
    assert worse(path, 1) == {}


@pytest.mark.slow
@pytest.mark.parametrize("path", SPECS)
def test_all_kernels_that_have_changed_spill_no_more_than_they_did(path: str) -> None:
    assert worse(path, 1000) == {}


def test_only_what_a_kernel_calls_counts() -> None:
    pytest.importorskip("triton")
    work = next(iter(kernels_of(bundled.folder("specs") / "gated/hgrn.seq", *([each] for each in EACH))))
    source = work.source
    assert work.kernel == "hgrn.forward"

    def digest(old: str = "", new: str = "") -> str:
        assert old in source.text
        return work._replace(source=source._replace(text=source.text.replace(old, new))).digest

    assert digest() == digest("# Generated", "# Written")
    assert digest() == digest("The inputs of a token.", "What a token reads.")
    assert digest() == digest("def reverse(", "def reversed(")
    assert digest() != digest("def token(", "def token(unused, ")
    assert work._replace(target="sm_80").digest != work.digest


def test_the_page_shows_the_record() -> None:
    found = record.read()
    if not found:
        pytest.skip("the record has another form: `make kernels` writes it again")
    assert PAGE.read_text(encoding="utf-8") == page(found)
    assert found.keys() <= {zoo.key(path) for path in bundled.specs()}


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    found: Record = {
        "b.seq": {"two": {"two.forward": {"sm_90 bfloat16": ONE}, "two.backward": {}}, "three": {}},
        "a.seq": {},
        "c.seq": {"one": {"one.forward": {"sm_90 bfloat16": ONE, "gfx942 float32": OTHER}}},
    }
    file = tmp_path / "kernels.json"
    file.write_text(record.text(found))
    assert record.read(file) == {**found, "b.seq": {"two": found["b.seq"]["two"]}}
    assert record.known(found) == {"1a": ONE, "2b": OTHER}


def test_what_spills_or_does_not_fit_is_listed() -> None:
    text = page({"a.seq": {"one": {"one.forward": {"sm_90 bfloat16": ONE, "gfx942 float32": OTHER}}}})
    assert "| sm_90 bfloat16 | 1 | 1 | 100 | 0 |" in text
    assert "| gfx942 float32 | 1 | 0 | 255 | 1 |" in text
    assert "| a.seq | `one.forward` | gfx942 float32 | 255 | 16 | 999999 |" in text
    assert "| `one.forward` | 100, 1,024 · 4w 64t | 255 (16 spilled), 999,999 · 72 · 8w |" in text


def test_other_targets_are_kept_and_what_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    written = list[Record]()

    def write(found: Record) -> None:
        written.append(dict(found))

    monkeypatch.setattr("tools.kernels.__main__.write", write)
    known: Record = {"a.seq": {"one": {"one.forward": {"sm_80 bfloat16": OTHER}, "one.gone": {}}}}

    def measure(path: str) -> tuple[Row, list[str]]:
        if path == "b.seq":
            raise ValueError("its process ended")
        return {"one": {"one.forward": {"sm_90 bfloat16": ONE}}}, ["one.backward for sm_90: too large"]

    failed = examine(known, ["a.seq", "b.seq"], 1, measure)
    assert failed == ["a.seq: one.backward for sm_90: too large", "b.seq: its process ended"]
    expected = {"one": {"one.forward": {"sm_80 bfloat16": OTHER, "sm_90 bfloat16": ONE}}}
    assert written == [{"a.seq": expected}]
