"""The table of memories, objectives, retentions and learners: what combines means what it says, the rest is refused.

Every run takes a sample in which each pair of words occurs together; the whole table is `slow`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

import pytest
import torch

from seqc.oracle import run_recurrence
from tests.check.programs import checked, codes
from tests.miras.choices import HEADER, KEY, LEARNERS, MEMORIES, OBJECTIVES, RETENTIONS, VALUE, Run, tokens

Row = tuple[str, str, str, str]
WORDS = (tuple(MEMORIES), tuple(OBJECTIVES), tuple(RETENTIONS), tuple(LEARNERS))
TABLE: list[Row] = list(product(*WORDS))


def program(row: Row) -> str:
    memory, objective, retention, learner = row
    structure, keep = MEMORIES[memory], RETENTIONS[retention]
    kept = keep.text.format(over="[n]" if memory == "matrix" else "")
    return f"""
rule r({HEADER}) {{
    {structure.text(keep.mirrors.get(memory, ""))}
    objective {OBJECTIVES[objective].text.format(y=structure.read("S", "k"))}
    {kept}
    learner {LEARNERS[learner].text}
    return {structure.read("S'", "q")}
}}
"""


def refusals(row: Row) -> set[str]:
    """Why a row makes no sense: the codes that it may be refused with."""
    return of_axes(row) | of_structure(row)


def of_axes(row: Row) -> set[str]:
    """Gates with an axis, and functions of more axes, than each tensor of the memory has."""
    memory, _, retention, learner = row
    tensors = {"vector": [{"m"}], "matrix": [{"m", "n"}]}.get(memory, [{"n"}, {"m"}])
    gate = {"key gate": "n", "value gate": "m"}.get(retention)
    found: set[str] = set()
    if gate is not None and not all(gate in has for has in tensors):
        found.add("E0503")
    of_matrices = retention in ("q norm", "published norm") or learner == "muon"
    if (memory in ("vector", "deep") and of_matrices) or (memory, retention) == ("deep", "simplex"):
        found.add("E0523")
    if memory in ("mlp", "deep") and retention == "sphere":
        found.add("E0305")  # along which axis?
    return found


def of_structure(row: Row) -> set[str]:
    """Closed forms that there are not, and learners that solve for the memory and leave nothing to other choices."""
    memory, objective, retention, learner = row
    keep = RETENTIONS[retention]
    linear = memory in ("vector", "matrix") and not keep.mirrors
    found: set[str] = set()
    if learner in ("rls", "exact") and keep.text:
        found.add("E0522")
    if (memory, learner) == ("vector", "exact"):
        found.add("E0516")  # nothing is solved for
    closed = ("implicit", "diagonal", "rls", "exact")
    if learner in closed and not (linear and objective in ("dot", "l2", "shifted")):
        found.add("E0513")
    if learner == "normalised" and not linear:
        found.add("E0522")
    return found


def sample() -> Iterator[Row]:
    """Rows, far from each other in the table, until every pair of words has occurred together."""
    open_pairs = {pair for row in TABLE for pair in combinations(enumerate(row), 2)}
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(TABLE), generator=generator).tolist()
    for least in (6, 5, 4, 3, 2, 1):
        for index in order:
            pairs = set(combinations(enumerate(TABLE[index]), 2)) & open_pairs
            if len(pairs) >= least:
                open_pairs -= pairs
                yield TABLE[index]


def examine(row: Row) -> None:
    text, wrong = program(row), refusals(row)
    found = set(codes(text))
    if wrong:
        assert found, text
        assert found <= wrong, (text, found)
        return
    assert not found, (text, found)
    memory, objective, retention, learner = row
    structure = MEMORIES[memory]
    rec = checked(text).elaborate_rule("r", {"n": KEY, "m": VALUE})
    inputs = tokens()
    parameters = {p.name: structure.start.get(p.name, torch.ones(VALUE).double()) for p in rec.parameters}
    (answers,), after = run_recurrence(rec, {name: x[None] for name, x in inputs.items()}, parameters)
    want, held = Run(structure, OBJECTIVES[objective], RETENTIONS[retention]).answers(
        LEARNERS[learner], inputs
    )
    torch.testing.assert_close(answers[0], want, rtol=1e-9, atol=1e-10)
    for name, value in held.items() if LEARNERS[learner].holds_memory else ():
        torch.testing.assert_close(after[name][0], value, rtol=1e-9, atol=1e-10)


SAMPLE = list(sample())


@pytest.mark.against("automatic differentiation and numerical minimisers")
@pytest.mark.parametrize("row", SAMPLE, ids=" + ".join)
def test_a_row_of_the_table(row: Row) -> None:
    examine(row)


def test_the_sample_pairs_every_word_with_every_other() -> None:
    pairs = {pair for row in TABLE for pair in combinations(enumerate(row), 2)}
    assert pairs == {pair for row in SAMPLE for pair in combinations(enumerate(row), 2)}


@pytest.mark.slow
@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("learner", LEARNERS)
def test_all_rows_of_the_table(memory: str, learner: str) -> None:
    for row in TABLE:
        if row[0] == memory and row[3] == learner:
            examine(row)
