"""What a unit exports, forwards and backwards: its tasks, called by the loops over time in `runtime`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from seqc.ir.expr import Leaf
from seqc.ir.plan import TOKEN

from .layout import Layout, dense, is_whole
from .lines import call, filled
from .names import Names
from .program import Program, Task, cotangent, differentiable
from .shown import shown

STATES = ("const real* before", "real* after", "real* scratch")
COTANGENTS = (
    "const real* before", "const real* after", "const real* d_after", "real* d_before", "real* d_shared",
    "real* scratch",
)  # fmt: skip
AFTER, BEFORE = "std::min(at + 1, batch * time - 1)", "std::max<std::int64_t>(at, 1) - 1"
AFTER_BLOCK = "std::min(at + BLOCK, batch * time - BLOCK)"
BEFORE_BLOCK = "std::max<std::int64_t>(at, BLOCK) - BLOCK"
BUSY = 4  # numbers of the states for one that is loaded, from which on a token works while the next is loaded


@dataclass(slots=True)
class Loops:
    """How the rows of a batch are cut into work, and what each task is passed."""

    program: Program
    layout: Layout
    row_of: dict[str, str] = field(default_factory=dict[str, str])
    shown: int | None = None  # the output that is the state after a token

    def __post_init__(self) -> None:
        names = Names()
        self.row_of = {axis: names.fresh(f"at_{axis}") for axis in self.layout.rows}
        self.shown = shown(self.program, self.layout)

    def _rows(self) -> list[str]:
        """Where the row `row` lies along each row axis."""
        layout, lines = self.layout, list[str]()
        step = layout.count
        for axis in layout.rows:
            step //= layout.sizes[axis]
            place = "row" if step == 1 else f"row / {step}"
            wrapped = "" if step * layout.sizes[axis] == layout.count else f" % {layout.sizes[axis]}"
            lines.append(f"[[maybe_unused]] const std::int64_t {self.row_of[axis]} = {place}{wrapped};")
        if layout.slices > 1:
            place = f"row % {layout.slices}" if layout.rows else "row"
            lines.append(f"[[maybe_unused]] const std::int64_t slice = {place};")
        return lines

    def _offset(self, leaf: Leaf) -> str:
        """Where the row's part of a token begins."""
        layout = self.layout
        view = dense("", layout.arranged(leaf.axes), layout.sizes)
        terms = [_times(self.row_of[axis], step) for axis, step in view.strides if axis in layout.rows]
        if layout.slices > 1 and layout.vector in leaf.axes:
            terms.append(f"slice * {layout.width}")
        return "".join(f" + {term}" for term in terms)

    def _token(self, leaf: Leaf, at: str = "at") -> str:
        """Where the row's part of a token begins in a tensor [batch, time, ...]."""
        return f"{_times(at, self.layout.volume(leaf.axes))}{self._offset(leaf)}"

    def _inputs(self, task: Task, step: Program) -> list[str]:
        """What a task reads; `step` is the program of a token or of a block."""
        made = self.program
        passed = [
            f"inputs[{k}] + {self._token(leaf)}"
            for k, (leaf, own) in enumerate(zip(made.inputs, step.inputs, strict=True))
            if own in task.reads
        ]
        return passed + [
            f"constants[{k}]{self._offset(leaf)}"
            for k, leaf in enumerate(made.constants)
            if leaf in task.reads
        ]

    def _soon(self, task: Task, step: Program) -> list[str]:
        """What begins to load a later token or block, where one works long enough for that to be done."""
        made, layout = self.program, self.layout
        pairs = zip(made.inputs, step.inputs, strict=True)
        read = {f"inputs[{k}]": leaf for k, (leaf, own) in enumerate(pairs) if own in task.reads}
        both = zip(made.outputs, step.outputs, strict=True)
        read |= {
            f"d_outputs[{k}]": leaf for k, (leaf, own) in enumerate(both) if cotangent(own) in task.reads
        }
        states = sum(layout.local(state.axes) for state in made.states)
        if layout.count == 1 or states < BUSY * sum(layout.local(leaf.axes) for leaf in read.values()):
            return []
        places = {f"{name} + {self._token(leaf, 'next')}": leaf for name, leaf in read.items()}
        places |= self._written(task, step)
        lines = [
            f"{self._ahead(leaf, step)}({place});"
            for place, leaf in places.items()
            if is_whole(leaf.axes, layout)
        ]
        block, back = step is not made, task is step.reverse
        later = (BEFORE_BLOCK if back else AFTER_BLOCK) if block else BEFORE if back else AFTER
        return [f"const std::int64_t next = {later};", *lines] if lines else []

    def _written(self, task: Task, step: Program) -> dict[str, Leaf]:
        """Where a task writes for the token `next`: memory is loaded before a part of it is written."""
        if task is step.token:
            outputs = enumerate(self.program.outputs)
            return {f"outputs[{k}] + {self._token(leaf, 'next')}": leaf for k, leaf in outputs}
        return self._found("next") if task is step.reverse else {}

    def _found(self, at: str) -> dict[str, Leaf]:
        """Where the cotangents of the inputs of the token `at` are written."""
        return {
            f"d_inputs[{k}] + {self._token(leaf, self._partial(leaf) + at)}": leaf
            for k, leaf in enumerate(differentiable(self.program.inputs))
        }

    def _ahead(self, leaf: Leaf, step: Program) -> str:
        count = self.layout.local(leaf.axes)
        if step is self.program:
            return f"soon<{count}>"
        return f"soon_block<{step.sizes[TOKEN]}, {count}, {self.layout.volume(leaf.axes)}>"

    def forward(self) -> list[str]:
        made = self.program
        block = made.block if made.ahead else None
        called = ["initial", "before", "reset", "after", "kept", "token_at", *(["block_at"] if block else [])]
        return [
            "// A whole sequence. Tensors are dense: inputs and outputs [batch, time, ...], `before` and `after`",
            "// [batch, ROWS, STATE], `initial` [ROWS, STATE]; `reset` [batch, time], where the states begin anew, and",
            "// `kept` [batch, ROWS, ceil(time / KEPT), STATE], the states before every KEPT tokens, may be null.",
            'extern "C" void forward(',
            "    int threads, std::int64_t batch, std::int64_t time, [[maybe_unused]] const real* const* inputs,",
            "    [[maybe_unused]] const real* const* constants, const real* initial, const real* before,",
            "    const std::uint8_t* reset, real* const* outputs, real* after, real* kept) {",
            *self._forward(made),
            *(self._forward(block) if block else []),
            f"    forwards{'_in_blocks' if block else ''}(threads, batch, time, {', '.join(called)});",
            "}",
        ]  # fmt: skip

    def _forward(self, step: Program) -> list[str]:
        outputs = [f"outputs[{k}] + {self._token(leaf)}" for k, leaf in enumerate(self.program.outputs)]
        arguments = [*self._inputs(step.token, step), "before", "after", *outputs, "scratch"]
        return self._task(step.token, step, STATES, arguments)

    def _task(self, task: Task, step: Program, more: Sequence[str], arguments: Sequence[str]) -> list[str]:
        """A task as a function of the token `at` and the row `row`."""
        rows, called = [*self._rows(), *self._soon(task, step)], call(task.name, arguments, 8)
        used = re.findall(r"\w+", "\n".join([*rows, *called]))
        places = [
            f"{'' if name in used else '[[maybe_unused]] '}std::int64_t {name}" for name in ("at", "row")
        ]
        return [
            *filled(f"    const auto {task.name}_at = [=](", [*places, *more], ") {", 8),
            *(f"        {line}" for line in rows),
            *called,
            "    };",
        ]

    def _partial(self, leaf: Leaf) -> str:
        """Which part of a sum over rows this row writes."""
        text, layout = "", self.layout
        dims = [(self.row_of[a], layout.sizes[a]) for a in layout.rows if a not in leaf.axes]
        if layout.slices > 1 and layout.vector not in leaf.axes:
            dims.append(("slice", layout.slices))
        for name, size in dims:
            text = f"({text} * {size} + {name})" if text else name
        return f"{text} * batch * time + " if text else ""

    def backward(self) -> list[str]:
        made = self.program
        states = ["shown_at"] if self.shown is not None else ["advance_at"]
        blocks = ["advance_block_at", "reverse_block_at"] if made.block else []
        name = "in_blocks" if blocks else "again" if self.shown is None else "over"
        return [
            "// The way back. An input that rows share has a cotangent for each of them: `d_inputs` [rows that",
            "// share it ..., batch, time, ...]; `d_constants` [batch, ROWS, SHARED], `d_initial` and `d_before`",
            "// [batch, ROWS, STATE] are those of each row.",
            'extern "C" void backward(',
            "    int threads, std::int64_t batch, std::int64_t time, [[maybe_unused]] const real* const* inputs,",
            "    [[maybe_unused]] const real* const* constants, const real* initial, const real* kept,",
            "    const std::uint8_t* reset, [[maybe_unused]] const real* const* outputs,",
            "    [[maybe_unused]] const real* const* d_outputs, const real* d_after,",
            "    [[maybe_unused]] real* const* d_inputs, real* d_constants, real* d_initial, real* d_before) {",
            *self._states(),
            *self._backward(made),
            *(self._backward(made.block) if made.block else []),
            f"    backwards_{name}(",
            "        threads, batch, time, initial, kept, reset, d_after, d_constants, d_initial, d_before,",
            f"        {', '.join([*states, 'reverse_at', *blocks])});",
            "}",
        ]  # fmt: skip

    def _backward(self, step: Program) -> list[str]:
        made = self.program
        cotangents = [
            f"d_outputs[{k}] + {self._token(leaf)}"
            for k, (leaf, own) in enumerate(zip(made.outputs, step.outputs, strict=True))
            if cotangent(own) in step.reverse.reads
        ]
        arguments = [*self._inputs(step.reverse, step), *cotangents, "before", "after", "d_after", "d_before",
                     *self._found("at"), "d_shared", "scratch"]  # fmt: skip
        return self._task(step.reverse, step, COTANGENTS, arguments)

    def _states(self) -> list[str]:
        """How the states around a token are found: read where they are an output, else computed again."""
        if self.shown is None:
            made = self.program
            return [*self._advance(made), *(self._advance(made.block) if made.block else [])]
        place = self._token(self.program.outputs[self.shown])
        return [
            "    const auto shown_at = [=](std::int64_t at, [[maybe_unused]] std::int64_t row) -> const real* {",
            *(f"        {line}" for line in self._rows()),
            f"        return outputs[{self.shown}] + {place};",
            "    };",
        ]

    def _advance(self, step: Program) -> list[str]:
        arguments = [*self._inputs(step.advance, step), "before", "after", "scratch"]
        return self._task(step.advance, step, STATES, arguments)


def _times(place: str, size: int) -> str:
    if size == 1:
        return place
    return f"({place}) * {size}" if " + " in place else f"{place} * {size}"
