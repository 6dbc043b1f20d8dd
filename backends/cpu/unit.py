"""A whole translation unit: the tasks of a recurrence as functions, and the loops over time that call them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from seqc.ir.expr import Leaf
from seqc.ir.recurrence import Recurrence
from seqc.passes.classify import classify

from .effort import settled
from .functions import print_once, print_reverse, print_token
from .layout import Layout, choose, grouped, kept, over_blocks, segment
from .program import Program, Task, differentiable, gradient, program
from .runtime.cost import BLOCK
from .runtime.kernel import Interface, Port
from .shown import NEVER, shown
from .time_loops import Loops
from .write_loops import Body

FOLDER = Path(__file__).parent / "runtime"
NONLINEAR = ("K10", "K11")  # classes of states


@dataclass(frozen=True, slots=True)
class Unit:
    """C++ text, and how to call what it makes."""

    text: str
    interface: Interface


def emit(recurrence: Recurrence, origin: str = "", blocks: bool | None = None) -> Unit:
    """The unit of a recurrence.  Raises `Unsupported`.

    If `blocks`, tokens are taken in blocks where that is possible, if not, one by one; None: as it is faster.
    """
    made = settled(program(recurrence), blocks)
    exact = any(found.code in NONLINEAR for found in classify(recurrence))
    return _Writer(made, choose(made), origin or f"rule {recurrence.name}", exact).unit()


@cache
def _functions() -> dict[str, tuple[str, frozenset[str]]]:
    """Every definition of `math.h` by name: its text, and the words in it."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for piece in (FOLDER / "math.h").read_text(encoding="utf-8").split("\n\n")[1:]:
        named = re.search(r"(?:struct|inline \w+) (\w+)", piece)
        assert named is not None, piece
        found[named[1]] = (piece.strip("\n"), frozenset(re.findall(r"\w+", piece)))
    return found


def _math(functions: Sequence[str]) -> list[str]:
    pieces = spliced("\n".join(functions))
    inside = "\n\n".join(pieces).split("\n")
    return ["namespace math {", "", *inside, "", "}  // namespace math", ""] if pieces else []


def spliced(text: str) -> list[str]:
    """The definitions that a text uses, and those that they use, in order."""
    known = _functions()
    wanted: set[str] = set()
    pending = re.findall(r"math::(\w+)", text)
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending += [word for word in known[name][1] if word in known]
    return [piece for name, (piece, _) in known.items() if name in wanted]


class _Writer:
    def __init__(self, made: Program, layout: Layout, origin: str, exact: bool) -> None:
        self.program, self.layout, self.origin, self.exact = made, layout, origin, exact
        self.state = sum(layout.local(state.axes) for state in made.states)
        self.shown = shown(made, layout)
        self.kept = kept(made, layout) if self.shown is None else NEVER
        self.blocks = None if made.block is None else over_blocks(layout, made.block)

    # --- the whole --------------------------------------------------------------------------------------------

    def unit(self) -> Unit:
        made = self.program
        shared = (*made.constants, *made.initial)
        known = (*made.parameters, *(gradient(leaf) for leaf in differentiable(shared)))
        prepare = print_once(made.prepare, self.layout, made.parameters, shared)
        back = print_once(
            made.prepare_reverse, self.layout, known, [gradient(leaf) for leaf in made.parameters]
        )
        token, token_body = print_token(made, self.layout, made.token)
        advance, advance_body = print_token(made, self.layout, made.advance)
        reverse, reverse_body = print_reverse(made, self.layout)
        again = self.shown is None
        functions = [*prepare, "", *back, "", *token, "", *(advance if again else []), "", *reverse, ""]
        bodies = [token_body, advance_body, reverse_body]
        if made.block is not None and self.blocks is not None:
            texts = [print_token(made.block, self.blocks, task) for task in self._forwards(made.block)]
            texts.append(print_reverse(made.block, self.blocks))
            bodies += [body for _, body in texts]
            functions += [*_header("products"), *(line for text, _ in texts for line in [*text, ""])]
        loops = Loops(made, self.layout)
        lines = [
            *self._about(),
            *_header("head"),
            *self._constants(bodies),
            *_math(functions),
            *functions,
            *_header("loops"),
            *_header("blocks" if made.block else "recompute" if again else "reread"),
            *("}  // namespace", ""),
            *self._exports(),
            *loops.forward(),
            "",
            *loops.backward(),
        ]
        text = "\n".join(lines)
        return Unit(f"{text}\n", self._interface())

    def _forwards(self, block: Program) -> tuple[Task, ...]:
        return (block.token, block.advance) if self.program.ahead else (block.advance,)

    def _about(self) -> list[str]:
        made, layout = self.program, self.layout
        axes = {a for leaf in (*made.inputs, *made.outputs) for a in leaf.axes}
        axes |= {a for state in made.states for a in state.axes}
        sizes = [f"{_plain(axis)}: {made.sizes[axis]}" for axis in layout.arranged(axes)]
        rows = ", ".join(map(_plain, layout.rows)) or "none"
        return [
            f"// Generated by seqc from {self.origin}.",
            "// Edits are lost when it is generated again.",
            "//",
            f"// The rule `{made.recurrence.name}`, a token at a time.",
            f"// Dimensions: {'; '.join(['batch', 'time', *sizes])}.",
            f"// Innermost: {_plain(layout.vector)}, {layout.width} at a time. Rows: {rows}.",
            "",
        ]

    def _constants(self, bodies: Sequence[Body]) -> list[str]:
        made, layout = self.program, self.layout
        shared = sum(layout.local(leaf.axes) for leaf in differentiable(made.constants))
        numbers = {
            "ROWS": (layout.count, "independent sequences in each row of the batch"),
            "GROUP": (grouped(made, layout), "of which at most so many go side by side"),
            "STATE": (self.state, "numbers that a token hands to the next"),
            "SHARED": (shared, "numbers of the constants that a sequence sees"),
            "KEPT": (self.kept, "tokens between two states that are kept"),
            "SEGMENT": (segment(made, layout), "tokens whose states are computed again together"),
            "SCRATCH": (
                max(body.scratch for body in bodies),
                "numbers of larger values in between",
            ),
        }
        if made.block is not None:
            numbers["BLOCK"] = (BLOCK, "tokens that are products of matrices together")
        if self.shown is not None or made.block is not None:
            del numbers["SEGMENT"]
        forwards = not any(body.unsafe for body in [*bodies[:2], *bodies[3:-1]])
        backwards = not (bodies[2].unsafe or bodies[-1].unsafe)
        return [
            *(
                f"constexpr std::int64_t {name} = {value};  // {about}"
                for name, (value, about) in numbers.items()
            ),
            f"constexpr bool FORWARDS_IN_PLACE = {_truth(forwards)};  // over the states that they read",
            f"constexpr bool BACKWARDS_IN_PLACE = {_truth(backwards)};  // over their cotangents",
            f"constexpr bool LAST_ROW_FIRST = {_truth(bodies[2].descends)};  // backwards, as tokens go",
            "",
        ]

    def _exports(self) -> list[str]:
        return [
            'extern "C" void prepare(const real* const* parameters, real* const* constants) {',
            "    prepare_once(parameters, constants);",
            "}",
            "",
            'extern "C" void prepare_backward(',
            "    const real* const* parameters, real* const* d_parameters) {",
            "    prepare_reverse(parameters, d_parameters);",
            "}",
            "",
        ]

    # --- how it is called -----------------------------------------------------------------------------------------

    def _interface(self) -> Interface:
        made, layout = self.program, self.layout
        return Interface(
            rows=(*(layout.sizes[axis] for axis in layout.rows), layout.slices),
            kept=self.kept,
            width=layout.width,
            inputs=[self._port(leaf) for leaf in made.inputs],
            outputs=[self._port(leaf) for leaf in made.outputs],
            states=[self._port(state.leaf) for state in made.states],
            constants=[self._port(leaf) for leaf in made.constants],
            parameters=[self._port(leaf) for leaf in made.parameters],
            shown=self.shown is not None,
            exact=self.exact,
        )

    def _port(self, leaf: Leaf) -> Port:
        layout = self.layout
        arranged = layout.arranged(leaf.axes)
        has = [axis in leaf.axes for axis in layout.rows]
        has.append(layout.slices > 1 and layout.vector in leaf.axes)
        return Port(
            leaf.name,
            tuple(leaf.axes.index(axis) for axis in arranged),
            layout.shape(leaf.axes),
            tuple(has),
            leaf in differentiable([leaf]),
        )


def _header(name: str) -> list[str]:
    return (FOLDER / f"{name}.h").read_text(encoding="utf-8").split("\n")


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _plain(axis: str) -> str:
    return axis.lstrip("%")
