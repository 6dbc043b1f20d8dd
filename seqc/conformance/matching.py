"""Comparing whole results with an answer of the oracle: all outputs and all states of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from seqc.conformance.case import Answer
from seqc.conformance.compare import VALUES, distance, judged
from seqc.conformance.report import Finding
from seqc.conformance.subject import Subject
from seqc.ir.recurrence import Store


def short(dtype: torch.dtype) -> str:
    return {torch.float64: "fp64", torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]


def compare_run(
    subject: Subject,
    got: Sequence[Tensor],
    after: Any,
    answer: Answer,
    what: str,
    rows: slice = slice(None),
) -> Iterator[Finding]:
    """One finding an output and one a state of a run to the end, in the answer's width, of some rows."""
    yield from compare_outputs([x[rows] for x in got], answer, what, rows)
    if answer.case.steps:
        yield from compare_states(subject, after, answer, what, rows)


def compare_outputs(
    got: Sequence[Tensor], answer: Answer, what: str, rows: slice = slice(None), stop: int | None = None
) -> Iterator[Finding]:
    """`got` may be the outputs of some rows only, and of the tokens before `stop`."""
    if len(got) != len(answer.outputs):
        yield Finding(f"{what}, number of outputs", float("inf"), VALUES[answer.dtype])
        return
    for i, x in enumerate(got):
        cut = (rows, slice(None, stop)) if answer.case.varying[i] else (rows,)
        error = distance(x, answer.outputs[i][cut])
        name = "output" if len(got) == 1 else f"output {i}"
        moves = partial(_output_moves, answer, i, cut)
        yield judged(f"{what}, {name}", error, VALUES, answer.dtype, moves)


def compare_states(
    subject: Subject, after: Any, answer: Answer, what: str, rows: slice = slice(None)
) -> Iterator[Finding]:
    """The states of recurrences and convolutions; how a store is kept is the backend's own business."""
    found = subject.states(after)
    for name, known in answer.case.states.items():
        if not isinstance(known.source, Store):
            want = answer.states[name][rows]
            error = distance(found[name][rows], want) if name in found else float("inf")
            moves = partial(_state_moves, answer, name, rows)
            yield judged(f"{what}, state `{name}`", error, VALUES, answer.dtype, moves)


def _output_moves(answer: Answer, index: int, cut: tuple[slice, ...]) -> float:
    return distance(answer.shaken[0][index][cut], answer.outputs[index][cut])


def _state_moves(answer: Answer, name: str, rows: slice) -> float:
    return distance(answer.shaken[1][name][rows], answer.states[name][rows])
