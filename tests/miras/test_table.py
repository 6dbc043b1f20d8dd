"""The table of memories, objectives, retentions and learners: what combines means what it says, the rest is refused.

Every run takes a sample in which each pair of words occurs together; the whole table is `slow`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

import pytest
import torch
from torch import Tensor

from seqc.oracle import run_recurrence
from tests.check.programs import checked, codes
from tests.miras.choices import LEARNERS, OBJECTIVES, RETENTIONS, answers, tokens
from tests.miras.structures import MEMORIES, SCALE, Memory, draw

Row = tuple[str, str, str, str]
Pair = tuple[tuple[int, str], tuple[int, str]]
WORDS = (tuple(MEMORIES), tuple(OBJECTIVES), tuple(RETENTIONS), tuple(LEARNERS))
TABLE: list[Row] = list(product(*WORDS))
HEADER = "q[n], k[n], v[m], alpha, a[n], b[m], c[m, n], beta, eta, g, delta"
AXES = "e = n, own = n, other = n, one = 1, rest = max(1, m - 2 * n - 1)"


def program(row: Row) -> str:
    structure, keep = MEMORIES[row[0]], RETENTIONS[row[2]]
    loss = OBJECTIVES[row[1]].text.format(y=structure.read, v=structure.target)
    more, choices = structure.beside
    lines = [structure.before]
    lines += [memory.text(keep.mirrors.get(memory.kind, "")) for memory in structure.memories]
    lines += ["memory H: n -> e"] if more else []
    lines += [structure.between, f"objective {loss}{more}", choices]
    for memory in structure.memories:
        lines += [
            keep.text(memory),
            f"learner {memory.name}: {LEARNERS[row[3]].text.format(r=structure.rate)}",
        ]
    body = "\n    ".join(line for line in lines if line)
    return f"rule r({HEADER}; {AXES}) {{\n    {body}\n    return {structure.answer}\n}}\n"


def refusals(row: Row) -> set[str]:
    """Why a row makes no sense: the codes that it may be refused with."""
    memories = MEMORIES[row[0]].memories
    return {code for memory in memories for code in of_axes(memory, row) | of_structure(memory, row)}


def of_axes(memory: Memory, row: Row) -> set[str]:
    """Gates and rates with an axis, and functions of more axes, than each tensor of the memory has."""
    _, _, retention, learner = row
    gates = {"key gate": "n", "value gate": "m", "entry gate": "mn"}.get(retention, "")
    rate = "m" if learner == "channels" else ""
    found: set[str] = set()
    if any(axis not in tensor for tensor in memory.tensors.values() for axis in gates + rate):
        found.add("E0503")
    of_matrices = retention in ("q norm", "published norm") or learner in ("muon", "atlas")
    flat = any(len(axes) < 2 for axes in memory.tensors.values())
    if (flat and of_matrices) or (flat and memory.kind == "mlp" and retention == "simplex"):
        found.add("E0523")
    if retention == "sphere" and not memory.linear:
        found.add("E0305")  # along which axis?
    return found


def of_structure(memory: Memory, row: Row) -> set[str]:
    """Closed forms that there are not, and learners that solve for the memory and leave nothing to other choices."""
    name, objective, retention, learner = row
    keep = RETENTIONS[retention]
    linear = memory.linear and not keep.mirrors and name != "self"
    found: set[str] = set()
    if learner in ("rls", "exact") and (keep.gate_text or keep.after_text):
        found.add("E0522")
    if learner == "exact" and memory.kind == "vector":
        found.add("E0516")  # nothing is solved for
    closed = ("implicit", "diagonal", "rls", "exact")
    if learner in closed and not (linear and objective in ("dot", "l2", "shifted")):
        found.add("E0513")
    if learner == "normalised" and not linear:
        found.add("E0522")
    return found


def sample() -> Iterator[Row]:
    """Rows, far from each other in the table, until every pair of words has occurred together.

    Rows that mean something come first: a pair is left to a refusal only where every row with it is refused.
    """
    generator = torch.Generator().manual_seed(0)
    shuffled = [TABLE[i] for i in torch.randperm(len(TABLE), generator=generator).tolist()]
    seen: set[Pair] = set()
    for refused in (False, True):
        rows = [(row, pairs(row)) for row in shuffled if bool(refusals(row)) == refused]
        for least in (6, 5, 4, 3, 2, 1):
            for row, own in rows:
                if len(own - seen) >= least:
                    seen |= own
                    yield row


def pairs(row: Row) -> set[Pair]:
    return set(combinations(enumerate(row), 2))


def examine(row: Row) -> None:
    """Hold a row against its meaning, or against its refusal.

    Where they differ, they may by what rounding does: what the meaning itself makes of inputs that are shaken by 1e-15.
    """
    text, wrong = program(row), refusals(row)
    refused = set(codes(text))
    if wrong:
        assert refused, text
        assert refused <= wrong, (text, refused)
        return
    assert not refused, (text, refused)
    memory, objective, retention, learner = row
    structure = MEMORIES[memory]
    rec = checked(text).elaborate_rule("r", structure.sizes)
    inputs, start = tokens(structure.sizes), structure.start()
    parameters = {
        p.name: start["S"] if p.name == "start" else start.get(p.name, SCALE) for p in rec.parameters
    }
    (found,), after = run_recurrence(rec, {name: x[None] for name, x in inputs.items()}, parameters)
    got = {"": found[0], **{name: value[0] for name, value in after.items()}}

    def meant(shaken: float, seed: int = 0) -> dict[str, Tensor]:
        given = {
            name: x * (1 + shaken * draw(*x.shape, seed=100 * seed + i))
            for i, (name, x) in enumerate(inputs.items())
        }
        rows, held = answers(
            structure, OBJECTIVES[objective], RETENTIONS[retention], LEARNERS[learner], given
        )
        return {"": rows, **(held if LEARNERS[learner].holds_memory else {})}

    want = meant(0.0)
    if any(differs(got[name], value) for name, value in want.items()):
        others = [meant(1e-15, seed) for seed in range(1, 6)]
        for name, value in want.items():
            moved = max(float((other[name] - value).abs().max()) for other in others)
            assert float((got[name] - value).abs().max()) <= 10 * moved, (text, name)


def differs(got: Tensor, want: Tensor) -> bool:
    return not torch.allclose(got, want, rtol=1e-9, atol=1e-10)


SAMPLE = list(sample())


@pytest.mark.against("automatic differentiation and numerical minimisers")
@pytest.mark.parametrize("row", SAMPLE, ids=" + ".join)
def test_a_row_of_the_table(row: Row) -> None:
    examine(row)


def test_the_sample_pairs_every_word_with_every_other() -> None:
    assert set[Pair]().union(*map(pairs, TABLE)) == set[Pair]().union(*map(pairs, SAMPLE))


@pytest.mark.slow
@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("learner", LEARNERS)
def test_all_rows_of_the_table(memory: str, learner: str) -> None:
    for row in TABLE:
        if row[0] == memory and row[3] == learner:
            examine(row)
