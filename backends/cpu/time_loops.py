"""The loops over time that call a unit's tasks: forwards, and backwards from states that were kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from seqc.ir.expr import Leaf

from .layout import Layout, dense
from .names import Names
from .program import Program, Task, cotangent, differentiable
from .write_loops import Body


@dataclass(slots=True)
class Loops:
    """How the rows of a batch are cut into work, and what each task is passed."""

    program: Program
    layout: Layout
    row_of: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        names = Names()
        self.row_of = {axis: names.fresh(f"at_{axis}") for axis in self.layout.rows}

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

    def _inputs(self, task: Task) -> list[str]:
        made = self.program
        passed = [
            f"inputs[{k}] + {_times('at', self.layout.volume(leaf.axes))}{self._offset(leaf)}"
            for k, leaf in enumerate(made.inputs)
            if leaf in task.reads
        ]
        return passed + [
            f"constants[{k}]{self._offset(leaf)}"
            for k, leaf in enumerate(made.constants)
            if leaf in task.reads
        ]

    def forward(self, body: Body) -> list[str]:
        made, layout = self.program, self.layout
        arguments = self._inputs(made.token)
        arguments += ["now + r * STATE", "later + r * STATE"]
        arguments += [
            f"outputs[{k}] + {_times('at', layout.volume(leaf.axes))}{self._offset(leaf)}"
            for k, leaf in enumerate(made.outputs)
        ]
        arguments.append("scratch")
        swap = ["            std::swap(now, later);"] if body.unsafe else []
        return [
            "// A whole sequence. Tensors are dense: inputs and outputs [batch, time, ...], `before` and `after`",
            "// [batch, ROWS, STATE], `initial` [ROWS, STATE]; `reset` [batch, time], where the states begin anew, and",
            "// `kept` [batch, ROWS, ceil(time / SEGMENT), STATE], the states before every segment, may be null.",
            'extern "C" void forward(',
            "    int threads, std::int64_t batch, std::int64_t time, const real* const* inputs,",
            "    [[maybe_unused]] const real* const* constants, const real* initial, const real* before,",
            "    const std::uint8_t* reset, real* const* outputs, real* after, real* kept) {",
            "    const std::int64_t segments = (time + SEGMENT - 1) / SEGMENT;",
            *_UNITS,
            f"        const std::unique_ptr<real[]> memory(new real[{'2 * ' * body.unsafe}rows * STATE + SCRATCH]);",
            "        real* now = memory.get();",
            f"        real* {'later = now + rows * STATE' if body.unsafe else 'const later = now'};",
            f"        real* const scratch = memory.get() + {'2 * ' * body.unsafe}rows * STATE;",
            "        std::copy_n(before + (b * ROWS + first) * STATE, rows * STATE, now);",
            "        for (std::int64_t t = 0; t < time; ++t) {",
            "            const std::int64_t at = b * time + t;",
            "            if (reset && reset[at]) std::copy_n(initial + first * STATE, rows * STATE, now);",
            "            for (std::int64_t r = 0; r < rows; ++r) {",
            "                const std::int64_t row = first + r;",
            *(f"                {line}" for line in self._rows()),
            "                if (kept && t % SEGMENT == 0) {",
            "                    real* const here = kept + ((b * ROWS + row) * segments + t / SEGMENT) * STATE;",
            "                    std::copy_n(now + r * STATE, STATE, here);",
            "                }",
            *_call("token", arguments, 16),
            "            }",
            *swap,
            "        }",
            "        std::copy_n(now, rows * STATE, after + (b * ROWS + first) * STATE);",
            "    }",
            "}",
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

    def backward(self, body: Body) -> list[str]:
        made, layout = self.program, self.layout
        around = [
            "fresh ? initial + row * STATE : history + (i * rows + r) * STATE",
            "history + ((i + 1) * rows + r) * STATE",
        ]
        again = [*self._inputs(made.advance), *around, "scratch"]
        arguments = self._inputs(made.reverse)
        arguments += [
            f"d_outputs[{k}] + {_times('at', layout.volume(leaf.axes))}{self._offset(leaf)}"
            for k, leaf in enumerate(made.outputs)
            if cotangent(leaf) in made.reverse.reads
        ]
        arguments += [*around, "now + r * STATE", "later + r * STATE"]
        arguments += [
            f"d_inputs[{k}] + {_times(self._partial(leaf) + 'at', layout.volume(leaf.axes))}{self._offset(leaf)}"
            for k, leaf in enumerate(differentiable(made.inputs))
        ]
        arguments += ["d_constants + (b * ROWS + row) * SHARED", "scratch"]
        copies = 2 if body.unsafe else 1
        swap = ["                std::swap(now, later);"] if body.unsafe else []
        return [
            "// The way back: states are computed again, a segment at a time. An input that rows share has a cotangent",
            "// for each of them, `d_inputs` [rows that share it ..., batch, time, ...]; `d_constants` [batch, ROWS,",
            "// SHARED], `d_initial` and `d_before` [batch, ROWS, STATE] are those of each row.",
            'extern "C" void backward(',
            "    int threads, std::int64_t batch, std::int64_t time, const real* const* inputs,",
            "    [[maybe_unused]] const real* const* constants, const real* initial, const real* kept,",
            "    const std::uint8_t* reset, const real* const* d_outputs, const real* d_after, real* const* d_inputs,",
            "    real* d_constants, real* d_initial, real* d_before) {",
            "    const std::int64_t segments = (time + SEGMENT - 1) / SEGMENT;",
            "    std::fill_n(d_constants, batch * ROWS * SHARED, real(0));",
            "    std::fill_n(d_initial, batch * ROWS * STATE, real(0));",
            *_UNITS,
            f"        const std::int64_t size = (SEGMENT + {1 + copies}) * rows * STATE;",
            "        const std::unique_ptr<real[]> memory(new real[size + SCRATCH]);",
            "        real* const history = memory.get();",
            "        real* now = history + (SEGMENT + 1) * rows * STATE;",
            f"        real* {'later = now + rows * STATE' if body.unsafe else 'const later = now'};",
            "        real* const scratch = history + size;",
            "        std::copy_n(d_after + (b * ROWS + first) * STATE, rows * STATE, now);",
            "        for (std::int64_t s = segments - 1; s >= 0; --s) {",
            "            const std::int64_t count = std::min(SEGMENT, time - s * SEGMENT);",
            "            for (std::int64_t r = 0; r < rows; ++r) {",
            "                const real* const here = kept + ((b * ROWS + first + r) * segments + s) * STATE;",
            "                std::copy_n(here, STATE, history + r * STATE);",
            "            }",
            "            for (std::int64_t i = 0; i < count; ++i) {",
            "                const std::int64_t at = b * time + s * SEGMENT + i;",
            "                const bool fresh = reset && reset[at];",
            "                for (std::int64_t r = 0; r < rows; ++r) {",
            "                    const std::int64_t row = first + r;",
            *(f"                    {line}" for line in self._rows()),
            *_call("advance", again, 20),
            "                }",
            "            }",
            "            for (std::int64_t i = count - 1; i >= 0; --i) {",
            "                const std::int64_t at = b * time + s * SEGMENT + i;",
            "                const bool fresh = reset && reset[at];",
            "                for (std::int64_t r = 0; r < rows; ++r) {",
            "                    const std::int64_t row = first + r;",
            *(f"                    {line}" for line in self._rows()),
            *_call("reverse", arguments, 20),
            "                }",
            *swap,
            "                if (fresh) {",
            "                    real* const begin = d_initial + (b * ROWS + first) * STATE;",
            "                    for (std::int64_t k = 0; k < rows * STATE; ++k) begin[k] += now[k];",
            "                    std::fill_n(now, rows * STATE, real(0));",
            "                }",
            "            }",
            "        }",
            "        std::copy_n(now, rows * STATE, d_before + (b * ROWS + first) * STATE);",
            "    }",
            "}",
        ]


# Which rows of which sequence a thread takes: rows are independent, so that how they are cut changes no result.
_UNITS = (
    "    const std::int64_t group = std::min(GROUP, std::max<std::int64_t>(1, batch * ROWS / threads));",
    "    const std::int64_t groups = (ROWS + group - 1) / group;",
    "    #pragma omp parallel for num_threads(threads) schedule(static)",
    "    for (std::int64_t unit = 0; unit < batch * groups; ++unit) {",
    "        const std::int64_t b = unit / groups;",
    "        const std::int64_t first = unit % groups * group;",
    "        const std::int64_t rows = std::min(group, ROWS - first);",
)


def _times(place: str, size: int) -> str:
    if size == 1:
        return place
    return f"({place}) * {size}" if " + " in place else f"{place} * {size}"


def _call(function: str, arguments: Sequence[str], indent: int) -> list[str]:
    pad = " " * indent
    return [f"{pad}{function}(", *(f"{pad}    {a}," for a in arguments[:-1]), f"{pad}    {arguments[-1]});"]
