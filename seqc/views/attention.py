"""The implicit attention matrix: what a recurrence that is linear in an input does to the past of that input.

    output[t] = Σ_s≤t A[t, s] · value[s]  (+ what it answers where the value is 0)

A column of A is the answer to a value that is 1 at one token and 0 at all others, which the oracle gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from rich.text import Text
from torch import Tensor

from seqc.diagnostics import SpecError
from seqc.diagnostics.views import NoAttention
from seqc.errors import UserError
from seqc.ir.expr import Axes, Leaf
from seqc.ir.recurrence import Recurrence
from seqc.oracle import run_recurrence
from seqc.source import Span
from seqc.views.heat import heat
from seqc.views.linearity import Form, Linear, is_linear, linear_inputs
from seqc.views.uses import Use

# Numbers in a matrix, and numbers that a run may hold at once.
LARGEST, TOGETHER = 2**24, 2**24
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False, slots=True)
class Attention:
    """`matrix` is `[token, past, *axes]`: it varies over `axes` and is the same along every other axis of the output.

    An axis of the value that is mixed with others stands in `axes` as `value.axis`. `offset` is the answer to no value
    at all, `[token, *output axes]`, None where that is 0; `error` is how far matrix times value is from the recurrence,
    relative to the largest sum of absolute terms. `also` names other inputs that the output is linear in.
    """

    use: Use
    value: Leaf
    output: Axes
    axes: Axes
    matrix: Tensor
    offset: Tensor | None
    error: float
    also: tuple[str, ...]


def attention(use: Use, of: str | None = None, place: Span | None = None) -> Attention:
    """The matrix of the input `of`, by default of the one with the simplest; of the first output that has one."""
    found = linear_inputs(use.rule)
    chosen = next((linear for linear in found if of in (None, linear.leaf.name)), None)
    if chosen is None:
        names = tuple(linear.leaf.name for linear in found)
        span = place or next(iter(use.rule.origins.values()))
        raise SpecError([NoAttention(span, use.rule.name, of or "", names)])
    also = tuple(linear.leaf.name for linear in found if linear is not chosen)
    index = next(i for i, form in enumerate(chosen.outputs) if is_linear(form))
    return _Probe(use, chosen, index).attention(also)


@dataclass(frozen=True, slots=True)
class _Probe:
    """One input and one output of a use."""

    use: Use
    linear: Linear
    index: int

    @property
    def rule(self) -> Recurrence:
        return self.use.rule

    @property
    def value(self) -> Leaf:
        return self.linear.leaf

    @property
    def form(self) -> Form:
        return self.linear.outputs[self.index]

    @property
    def output(self) -> Axes:
        return self.rule.output_axes(self.index)

    @property
    def mixed(self) -> Axes:
        """The axes of the value whose entries are not kept apart."""
        kept = {own for own, _ in self.form.kept}
        return tuple(axis for axis in self.value.axes if axis not in kept)

    @property
    def same(self) -> Axes:
        """The axes of the output along which the matrix is the same."""
        return tuple(now for own, now in self.form.kept if own not in self.form.varies)

    def lengths(self, axes: Axes) -> tuple[int, ...]:
        return tuple(self.rule.sizes[axis] for axis in axes)

    def attention(self, also: tuple[str, ...]) -> Attention:
        kept = tuple(axis for axis in self.output if axis not in self.same)
        axes = (*kept, *(f"{self.value.name}.{axis}" for axis in self.mixed))
        time, size = self.use.time, prod(self.lengths((*kept, *self.mixed)))
        if time * time * size > LARGEST:
            raise UserError(
                f"the matrix of `{self.rule.name}` has {time} x {time} x {size} numbers",
                "choose fewer `--tokens`, or shorter axes with `--set`",
            )
        with torch.no_grad():
            nothing, matrix = self.answers()
            error = self.error(nothing, matrix)
        if not matrix.isfinite().all() or not nothing.isfinite().all():
            raise UserError(f"`{self.rule.name}` overflows", "`seqc trace` shows where")
        assert error <= TOLERANCE, f"{self.rule.name}: matrix times value is off by {error:.1e}"
        matrix = matrix.squeeze(tuple(2 + self.output.index(axis) for axis in self.same))
        offset = nothing if nothing.count_nonzero() else None
        return Attention(self.use, self.value, self.output, axes, matrix, offset, error, also)

    def answers(self) -> tuple[Tensor, Tensor]:
        """The output where the value is 0, `[token, *output]`, and the matrix `[token, past, *axes]`."""
        entries = prod(self.lengths(self.mixed))
        nothing = self.run(torch.zeros(1, self.use.time, *self.lengths(self.value.axes), dtype=torch.float64))
        states = sum(prod(self.lengths(state.axes)) for state in self.rule.states)
        rows = max(1, TOGETHER // (nothing.numel() + states + 1))
        numbers = torch.arange(self.use.time * entries).split(rows)
        columns = torch.cat([self.column(each, entries) for each in numbers]) - self.once(nothing)
        columns = columns.unflatten(0, (self.use.time, *self.lengths(self.mixed)))
        # [past, *mixed, token, *output] as [token, past, *output, *mixed]
        after = 1 + len(self.mixed)
        order = (after, 0, *range(after + 1, columns.ndim), *range(1, after))
        return nothing[0], columns.permute(order)

    def column(self, numbers: Tensor, entries: int) -> Tensor:
        """The answers to values that are 1 at one token and at one place along the mixed axes."""
        kept = [axis for axis in self.value.axes if axis not in self.mixed]
        unit = torch.nn.functional.one_hot(numbers, self.use.time * entries).to(torch.float64)
        unit = unit.reshape(-1, self.use.time, *self.lengths(self.mixed), *(1 for _ in kept))
        where = [[*self.mixed, *kept].index(axis) for axis in self.value.axes]
        unit = unit.permute(0, 1, *(2 + place for place in where))
        return self.once(self.run(unit.expand(len(numbers), self.use.time, *self.lengths(self.value.axes))))

    def once(self, answer: Tensor) -> Tensor:
        """With length 1 where the matrix is the same."""
        for axis in self.same:
            answer = answer.narrow(2 + self.output.index(axis), 0, 1)
        return answer

    def run(self, value: Tensor) -> Tensor:
        """The output for one row a value."""
        rows = value.shape[0]
        inputs = {name: x.expand(rows, *x.shape[1:]) for name, x in self.use.inputs.items()}
        outputs, _ = run_recurrence(self.rule, {**inputs, self.value.name: value}, self.use.parameters)
        return outputs[self.index]

    def error(self, nothing: Tensor, matrix: Tensor) -> float:
        """How far the matrix times the value is from what the recurrence answers."""
        value = self.use.inputs[self.value.name].to(torch.float64)
        value = value.expand(1, self.use.time, *self.lengths(self.value.axes))
        want = self.run(value)[0]
        got = self.product(matrix, value[0]) + nothing
        terms = self.product(matrix.abs(), value[0].abs()) + nothing.abs()
        return float((got - want).abs().max() / (terms.max() or 1.0))

    def product(self, matrix: Tensor, value: Tensor) -> Tensor:
        """Σ_s matrix[t, s] · value[s], over the mixed axes too: `[token, *output]`."""
        names = dict(self.form.kept)
        labels: dict[str, int] = {}

        def label(name: str) -> int:
            return labels.setdefault(name, len(labels))

        token, past = label("%token"), label("%past")
        left = [token, past, *map(label, self.output), *(label(f"%{axis}") for axis in self.mixed)]
        right = [past, *(label(names.get(axis, f"%{axis}")) for axis in self.value.axes)]
        full = matrix.expand(*matrix.shape[:2], *self.lengths(self.output), *self.lengths(self.mixed))
        result: Tensor = torch.einsum(
            full, left, value.to(matrix.dtype), right, [token, *map(label, self.output)]
        )
        return result


def data(found: Attention) -> dict[str, Any]:
    """As JSON."""
    return {
        "rule": found.use.rule.name,
        "use": found.use.path,
        "value": found.value.name,
        "also": list(found.also),
        "tokens": found.use.time,
        "axes": ["token", "past", *found.axes],
        "error": found.error,
        "matrix": found.matrix.tolist(),
        "offset": None if found.offset is None else found.offset.tolist(),
    }


# --- as text -------------------------------------------------------------------------------------------------------

MOST_SHOWN = 4


def lines(found: Attention) -> list[str]:
    """What the matrix is."""
    value, rule = found.value, found.use.rule
    used = f"  used as {found.use.path}" if found.use.path else ""
    mixed = [axis for axis in found.axes if axis.startswith(f"{value.name}.")]
    out, read = ", ".join(("t", *found.output)), ", ".join(("s", *value.axes))
    over = ", ".join(("s", *mixed))
    offset = " + b[t]" if found.offset is not None else ""
    varying = ", ".join(found.axes)
    kind = f"a matrix for every {varying}" if varying else "one matrix for all"
    return [
        f"rule {rule.name}{used}",
        f"  output[{out}] = sum over {over} of A[t, s] * {value.name}[{read}]{offset}, over {found.use.time} tokens",
        f"  A is {kind}; with the values it gives the output to {found.error:.0e}",
        *([f"  the output is linear in {', '.join(found.also)} too (--of)"] if found.also else []),
    ]


def pictures(found: Attention) -> list[Text]:
    """The matrix as a heat map, or its first entries along the axes over which it varies."""
    flat = found.matrix.flatten(2) if found.axes else found.matrix.unsqueeze(-1)
    shape = found.matrix.shape[2:]
    titles: list[str] = []
    for number in range(min(MOST_SHOWN, flat.shape[-1])):
        at = torch.unravel_index(torch.tensor(number), shape) if found.axes else ()
        places = [f"{axis} = {int(place)}" for axis, place in zip(found.axes, at, strict=True)]
        titles.append(", ".join(places) or "A")
    return [heat(flat[..., number], title) for number, title in enumerate(titles)]
