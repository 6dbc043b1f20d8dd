"""The standard library: every item is right alone, and those that only compute can be called in rules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import seqc
from seqc.bundled import folder
from seqc.check import check_source
from seqc.check.library import standard
from seqc.source import Source
from tests.check.programs import checked, codes, faults

FILES = sorted((folder("specs") / "std").glob("*.seq"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_is_right(path: Path) -> None:
    _, diagnostics = check_source(Source(path.read_text(encoding="utf-8"), path.name))
    assert not diagnostics, "\n".join(map(str, diagnostics))


def test_every_item_is_found_by_name() -> None:
    library = standard()
    assert all(library.lookup(name) is not None for name in library.callables())


PURE = (
    *("square", "rsqrt", "softcap", "softsign", "leaky_relu", "elu", "elu_plus_one"),
    *("min_gru_activation", "unit_rms", "l2_norm"),
)


@pytest.mark.parametrize("name", PURE)
def test_what_only_computes_can_be_called_in_a_rule(name: str) -> None:
    checked(f"rule r(x[d]) {{ return {name}(x) }}").elaborate_rule("r", {"d": 4})


def test_a_definition_of_ones_own_takes_the_place_of_the_librarys() -> None:
    text = "block swiglu(x[d]) { return 2 * x }\nblock b(x[d]) { return swiglu(x) }"
    assert not checked(text).elaborate_block("b", {"d": 4}).parameters


def test_the_library_does_not_see_what_a_program_defines() -> None:
    text = "rule position() { return 0 }\nblock b(x[d]) { return attention(x, h = 2) }"
    found = checked(text).elaborate_block("b", {"d": 8})
    assert found.returns == (("d",),)


def test_using_the_library_does_nothing() -> None:
    assert codes("use std\nrule r(x[d]) { return x }") == []


def test_a_fault_inside_the_library_shows_the_call() -> None:
    (fault,) = faults("model m(x[d]; d = 5) { return rotary(x, position()) }")
    assert fault.span.source.name == "std/positions.seq"
    assert [label.span.text for label in fault.labels] == ["rotary(x, position())"]


def test_positions_of_what_has_no_axis_are_spread_along_it() -> None:
    """What is 0 is so before it is cut and joined again."""
    model = seqc.loads("model m(x[d]; d = 4) { return x + rotary[d](0, position()) }").model()
    assert model.torch()(torch.ones(1, 3, 4))[0].tolist() == torch.ones(1, 3, 4).tolist()
