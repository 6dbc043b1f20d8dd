"""The record of what kernels take: nothing spills more than it did, and the page shows the record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from seqc import bundled, zoo
from tools.kernels import record
from tools.kernels.__main__ import PAGE, examine
from tools.kernels.page import fits, page
from tools.kernels.record import Record, Row, Taken, of
from tools.kernels.units import Work, kernels_of

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
ONE, OTHER = Taken("1a", 4, 100, 0, 1024, 0), Taken("2b", 8, 255, 16, 999_999, 72)


def changed(path: str) -> list[tuple[Taken | None, Work]]:
    """The kernels of a spec that are not what was compiled, with what was; first those that took most registers."""
    row = record.read().get(path, {})
    found = list[tuple[Taken | None, Work]]()
    for work in kernels_of(bundled.folder("specs") / path, *([each] for each in EACH)):
        known = row.get(work.rule, {}).get(work.kernel, {}).get(of(*EACH))
        if known is None or known.digest != work.digest:
            found.append((known, work))
    return sorted(found, key=lambda each: each[0].registers if each[0] else 0, reverse=True)


def worse(work: Sequence[tuple[Taken | None, Work]]) -> dict[str, Taken]:
    """The kernels that spill and did not, or more, or need more shared memory than there is."""
    made = {each.kernel: (known, each.compiled()) for known, each in work}
    return {
        kernel: taken
        for kernel, (known, taken) in made.items()
        if taken.spills > (known.spills if known else 0) or not fits(of(*EACH), taken)
    }


@pytest.mark.parametrize("name", CLASSES)
def test_the_largest_kernel_that_has_changed_spills_no_more_than_it_did(name: str) -> None:
    pytest.importorskip("triton")
    assert worse(changed(f"{name}.seq")[:1]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(record.read()))
def test_nothing_that_has_changed_spills_more_than_it_did(path: str) -> None:
    """`make kernels` compiles it too, and remembers."""
    pytest.importorskip("triton")
    assert worse(changed(path)) == {}


def test_comments_do_not_count() -> None:
    pytest.importorskip("triton")
    work = next(iter(kernels_of(bundled.folder("specs") / "gated/hgrn.seq", *([each] for each in EACH))))
    source = work.source

    def digest(text: str) -> str:
        return work._replace(source=source._replace(text=text)).digest

    assert digest(f"# Written today.\n{source.text}") != digest(f"x = 1\n{source.text}")
    assert digest(f"# Written today.\n{source.text}") == digest(f"# Or not.\n{source.text}")
    assert work._replace(target="sm_80").digest != work.digest


def test_the_page_shows_the_record() -> None:
    found = record.read()
    assert found
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
    assert "| `one.forward` | 100, 1,024 | 255 (16 spilled), 999,999 · 72 |" in text


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
