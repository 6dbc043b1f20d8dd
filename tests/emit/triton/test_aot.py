"""Machine code without a GPU: how kernels are launched, and that those of rules that begin anew spill nothing.

`test_kernels.py` has those of all specs, without resets.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from seqc.ir.recurrence import Recurrence
from tests.emit.triton import parts
from tests.emit.triton.parts import aot, of_spec

if TYPE_CHECKING:
    from backends.triton import aot_shapes, aot_write  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.triton.runtime.launch import Choice  # noqa: TID251
else:
    from seqc.backends.triton import aot_shapes, aot_write
    from seqc.backends.triton.runtime.launch import Choice

pytest.importorskip("triton")

KEYS = {"n": 64, "m": 64}
WIDE: dict[str, Callable[[], Recurrence]] = {
    "diagonal": of_spec("gated/hgrn", "hgrn", d=256),
    "diagonal, complex": of_spec("gated/lru", "lru", d=256),
    "gate an element": of_spec("gated/mamba", "selective_scan", d=256, n=16),
    "gate a head": of_spec("linear/mamba2", "mamba2", p=64, n=64),
    "gate a key": of_spec("linear/gla", "gla", **KEYS),
    "delta": of_spec("delta/deltanet", "delta", **KEYS),
    "delta, gate a head": of_spec("delta/gated_delta", "gated_delta", **KEYS),
    "stabilised": of_spec("xlstm/mlstm", "mlstm", **KEYS),
    "dense": of_spec("nonlinear/gru", "gru", d=64),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WIDE)
def test_kernels_spill_nothing(name: str) -> None:
    (gpu,) = aot.targets("sm_90")
    sources = aot.sources(parts.kernels_of(WIDE[name]()), gpu, "bfloat16", resets=True)
    made = [aot.fitted(each, gpu)[1] for each in sources]
    assert all(each.code for each in made)
    assert [(x.kernel, x.spills, x.shared) for x in made if x.spills or x.shared > gpu.shared] == []


WAVE = """
rule wave(x[d]) {
    state h[d] = 0
    h' = sin(h + x)
    return h'
}
"""


def test_arrays_of_sines_are_no_spills() -> None:
    """Of large numbers they are computed in an array, which lies where spills do."""
    made = aot.compiled(parts.looped(parts.written(WAVE, d=5)(), ""), "forward", aot.targets("sm_90")[0])
    assert "__local_depot" in made.assembly
    assert made.spills == 0


class Compiler:
    """In place of the compiler: what kernels spill and share, by how they are launched; remembers what was asked."""

    def __init__(self, taken: Callable[[Choice], tuple[int, int]]) -> None:
        self.taken, self.asked = taken, list[Choice]()

    def __call__(self, given: Any, target: Any) -> Any:
        self.asked.append(given.choice)
        spills, shared = self.taken(given.choice)
        return aot.Compiled(
            given.kernel, target.name, given.dtype, given.choice, 100, spills, shared, 0, b"code", "text"
        )


def launched(
    taken: Callable[[Choice], tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, list[Choice]]:
    """The loop of gated delta at 64, by default 8 warps and a tile of 64, as it is launched; what was tried."""
    (gpu,) = aot.targets("sm_90")
    compiler = Compiler(taken)
    monkeypatch.setattr(aot, "compile_source", compiler)
    rule = parts.kernels_of(of_spec("delta/gated_delta", "gated_delta", **KEYS)())
    return aot.fitted(aot.source(rule, "backward", "bfloat16"), gpu)[0], compiler.asked


def test_what_spills_nothing_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found, tried = launched(lambda _: (0, 1024), monkeypatch)
    assert tried == [found.choice] == [Choice(8, 1, 64)]


def test_what_spills_is_launched_as_it_spills_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With half the tile there are twice the programs, and what they share has no longer one writer."""
    default = launched(lambda _: (0, 1024), monkeypatch)[0]
    found, tried = launched(lambda choice: (8 * (choice.tile > 32), 1024), monkeypatch)
    assert tried == [Choice(8, 1, 64), Choice(8, 1, 32)]
    assert (found.choice, found.fixed["TILE"]) == (tried[1], 32)
    assert (default.grid, found.grid) == ("batch * 1", "batch * 2")
    assert (default.types["d_inputs"][0], found.types["d_inputs"][0]) == ("*bf16", "*fp32")
    assert found.options == {"num_warps": 8}


def test_the_least_spilled_bytes_are_chosen_of_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(choice: Choice) -> tuple[int, int]:
        return choice.tile - choice.warps, 10**6 if choice.warps == 16 else 1024

    found, tried = launched(taken, monkeypatch)
    assert found.choice == Choice(8, 1, 16)
    assert {choice.warps for choice in tried} == {4, 8, 16}


def test_the_launch_is_written_beside_the_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (gpu,) = aot.targets("sm_90")
    monkeypatch.setattr(aot, "compile_source", Compiler(lambda choice: (8 * (choice.warps > 4), 1024)))
    rule = parts.kernels_of(of_spec("linear/gla", "gla", **KEYS)())
    aot_write.compile_all(rule, gpu, tmp_path, "gla")
    facts = json.loads((tmp_path / "gla_sm_90.json").read_text())
    assert {fact["threads"] for fact in facts} == {128}
    assert {fact["spills"] for fact in facts} == {0}
    assert facts[0]["grid"] == "batch * 1"
    assert facts[2]["grid"] == "batch * ceil(time / 16) * 2"
    for fact in facts:
        several = {name for name, kind in fact["arguments"].items() if isinstance(kind, list)}
        assert {name: len(fact["arguments"][name]) for name in several} == {
            name: len(fact["shapes"][name]) for name in several
        }
    assert facts[1]["shapes"]["kept"] == [["batch", "segments", 64, 64]]
    assert facts[3]["shapes"]["starts"] == [["batch", "blocks", 64, 64]]
    (parted,) = [fact for fact in facts if fact["function"] == "differentiate1"]
    assert parted["shapes"]["d_sources"] == [[2, "batch", "time", 64]]


@pytest.mark.parametrize(
    ("kernel", "name", "shape"),
    [
        ("combine0", "common", ["batch", "blocks", 4, 32, 64]),
        ("prepare", "made", ["batch", "blocks", 32, 64]),
        ("sweep", "carried", ["batch", 64, 64]),
    ],
)
def test_shapes_are_those_that_are_allocated(kernel: str, name: str, shape: list[int | str]) -> None:
    """At a tile of 16, of which there are four."""
    (stage,) = parts.kernels_of(of_spec("delta/gated_delta", "gated_delta", **KEYS)()).stages
    face = stage.kernels.face.cut(16)
    assert shape in aot_shapes.of_stage(face, aot.written(face, kernel))[name]
