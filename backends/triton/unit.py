"""A whole unit: a rule's own functions, and the kernels that call them."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from seqc.ir.expr import Expr, Leaf
from seqc.ir.recurrence import Recurrence

from ..cpu.program import Program, Task, cotangent, differentiable, gradient, program
from ..torch.names import RESERVED, Names
from ..torch.splice import imports, used
from .accessors import Accessors, function_text, hint, packed, unit_text
from .layout import Layout, layout, resident, stages, warps
from .moves import without_moves
from .outer import outer, ports
from .prepare import prepare_text
from .printing import Body
from .runtime.kernel import Interface, Port

SEGMENT = 32  # tokens between two states that are kept for the way back
KERNELS = Path(__file__).parent / "kernels"
WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


@dataclass(frozen=True, slots=True)
class Unit:
    """Python text, how to call what it makes, and how many numbers a program keeps on the way back."""

    text: str
    interface: Interface
    resident: int


def emit(recurrence: Recurrence, origin: str = "") -> Unit:
    """The unit of a recurrence.  Raises `Unsupported`."""
    made = program(recurrence)
    tasks = {task.name: without_moves(task, made.sizes) for task in (made.token, made.advance, made.reverse)}
    return _Writer(made, layout(made, tasks.values()), tasks, origin or f"rule {recurrence.name}").unit()


@cache
def definitions(file: str) -> dict[str, str]:
    """The functions of a file of `kernels/` by name."""
    source = (KERNELS / f"{file}.py").read_text(encoding="utf-8")
    lines = source.splitlines()
    return {
        node.name: "\n".join(lines[node.decorator_list[0].lineno - 1 : node.end_lineno])
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
    }


def spliced(text: str, file: str = "math") -> list[str]:
    """The functions of a file of `kernels/` that a text uses, and those that they use, in order."""
    known = definitions(file)
    wanted, pending = set[str](), [word for word in WORD.findall(text) if word in known]
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending += [word for word in WORD.findall(known[name]) if word in known]
    return [known[name] for name in known if name in wanted]


def _taken() -> frozenset[str]:
    """Names that mean something in a unit already."""
    kernels = "\n".join([*definitions("loop").values(), *definitions("math").values()])
    return (
        RESERVED | frozenset(WORD.findall(kernels)) | {"pointers", "values", "known", "flow", "old", "TILE"}
    )


class _Writer:
    def __init__(self, made: Program, found: Layout, tasks: dict[str, Task], origin: str) -> None:
        self.program, self.layout, self.origin = made, found, origin
        self.outer = outer(tasks["reverse"], made.inputs, made.constants, found)
        self.tasks = {**tasks, "reverse": self.outer.task}
        self.names = Names(_taken())
        self.states = [state.leaf for state in made.states]
        self.hints: dict[Expr, str] = {expr: name for name, expr in made.recurrence.names}

    def unit(self) -> Unit:
        kernels = list(definitions("loop").values())
        rule = ["\n".join(lines) for lines in (*self._accessors(), *self._tuples(), *self._tasks())]
        lines = prepare_text(self.program)
        prepare = "\n".join(lines)
        helpers = [piece.text for piece in used("\n".join(line for line in lines if '"""' not in line))]
        parts = [*helpers, prepare, *spliced("\n".join(rule)), *rule, *kernels]
        text = self._text(parts, imports("\n".join([*helpers, prepare])))
        return Unit(text, self._interface(), resident(self.layout, self.program, self.outer.summed))

    def _text(self, parts: Sequence[str], needed: Sequence[str]) -> str:
        made = self.program
        own = {axis for leaf in (*made.inputs, *made.outputs, *self.states) for axis in leaf.axes}
        sizes = [f"{axis.lstrip('%')}: {made.sizes[axis]}" for axis in made.sizes if axis in own]
        about = f"The rule `{made.recurrence.name}` as kernels over time, forwards and backwards."
        facts = f"Dimensions: {'; '.join(['batch', 'time', *sizes])}.  {self.layout.words}"
        return unit_text(self.origin, about, facts, parts, [line for line in needed if line])

    # --- between memory and registers -----------------------------------------------------------------------------

    def _accessors(self) -> list[list[str]]:
        made, prints = self.program, Accessors(self.layout, self.names)
        real = differentiable(made.inputs)
        return [
            prints.locate(),
            prints.load("load_inputs", made.inputs, "The inputs of a token."),
            prints.load("load_constants", made.constants, "What all tokens share.", place=False),
            prints.load("load_states", self.states, "States."),
            prints.load("load_cotangents", made.outputs, "The cotangents of a token's outputs."),
            prints.store("store_outputs", made.outputs, "The outputs of a token."),
            prints.store("store_states", self.states, "States."),
            prints.store(
                "store_gradients",
                real,
                "The cotangents of a token's inputs: [programs that share one, tokens, …].",
                "({share} * tokens + place)",
                "tokens, ",
                same=self.outer.sides,
            ),
            prints.store(
                "store_constants",
                self.outer.summed,
                "The cotangents of what all tokens share: [batch, programs that share one, …].",
                "(place * ({shares}) + {share})",
            ),
        ]

    # --- tuples ---------------------------------------------------------------------------------------------------

    def _tuples(self) -> list[list[str]]:
        found = list[list[str]]()
        for name, leaves in (("states", self.states), ("constants", self.outer.summed)):
            zeros = [f"tl.full({self.layout.shape(leaf.axes)}, 0.0, tl.float32)" for leaf in leaves]
            sums = [f"x[{k}] + y[{k}]" for k in range(len(leaves))]
            found.append(function_text(f"zero_{name}", "", "Zeros.", [f"return {packed(zeros)}"]))
            found.append(function_text(f"add_{name}", "x, y", "A sum.", [f"return {packed(sums)}"]))
        chosen = [f"tl.where(flag, yes[{k}], no[{k}])" for k in range(len(self.states))]
        doc = "`yes` where the flag is set."
        found.append(function_text("choose_states", "flag, yes, no", doc, [f"return {packed(chosen)}"]))
        return found

    # --- a token --------------------------------------------------------------------------------------------------

    def _tasks(self) -> list[list[str]]:
        made = self.program
        after, real = [state.next for state in made.states], differentiable(made.inputs)
        given: dict[str, Sequence[Leaf]] = {
            "state": self.states,
            "given": made.inputs,
            "shared": made.constants,
        }
        back: dict[str, Sequence[Leaf]] = {
            "old": self.states,
            "state": after,
            "given": made.inputs,
            "shared": made.constants,
            "known": [cotangent(leaf) for leaf in made.outputs],
            "flow": [cotangent(leaf) for leaf in after],
        }
        before, inputs, shared = (
            [gradient(leaf) for leaf in leaves] for leaves in (self.states, real, self.outer.summed)
        )
        return [
            self._task("token", given, [after, made.outputs], "The states after a token, and its outputs."),
            self._task("advance", given, [after], "The states after a token."),
            self._task(
                "reverse",
                back,
                [before, [*inputs, *self.outer.sides], shared],
                "The cotangents of the states before a token, of its inputs and of what all tokens share.",
            ),
        ]

    def _task(
        self, name: str, given: dict[str, Sequence[Leaf]], results: Sequence[Sequence[Leaf]], doc: str
    ) -> list[str]:
        task, body = self.tasks[name], Body(self.layout, self.names.copy())
        body.hints = self.hints
        reads = set(task.reads)
        for argument, leaves in given.items():
            for k, leaf in enumerate(leaves):
                if leaf in reads:
                    variable = body.names.fresh(_called(leaf))
                    body.lines.append(f"{variable} = {argument}[{k}]")
                    body.bind(leaf, variable)
        found = body.emit([target.value for target in task.targets], [_called(t.leaf) for t in task.targets])
        texts = {
            target.leaf: body.full(value, target.leaf.axes)
            for target, value in zip(task.targets, found, strict=True)
        }
        packs = [packed([texts[leaf] for leaf in leaves]) for leaves in results]
        body.lines.append(f"return {', '.join(packs)}")
        return function_text(name, f"{', '.join(given)}, tile", doc, body.lines)

    # --- how it is called -----------------------------------------------------------------------------------------

    def _interface(self) -> Interface:
        made, found = self.program, self.layout
        return Interface(
            rows=found.count,
            vector=found.size(found.vector) if found.vector else 0,
            tile=found.tile,
            warps=warps(found, made, self.tasks.values()),
            segment=SEGMENT,
            stages=stages(found, made),
            inputs=[self._port(leaf) for leaf in made.inputs],
            outputs=[self._port(leaf) for leaf in made.outputs],
            states=[self._port(leaf) for leaf in self.states],
            constants=[self._port(leaf) for leaf in made.constants],
            parameters=[leaf.name for leaf in made.parameters],
            sides=ports(self.outer.sides, found),
            products=self.outer.products,
        )

    def _port(self, leaf: Leaf) -> Port:
        found = self.layout
        shares = found.entries(axis for axis in found.rows if axis not in leaf.axes)
        return Port(
            leaf.name,
            tuple(found.size(axis) for axis in leaf.axes),
            shares,
            bool(found.vector) and found.vector not in leaf.axes,
            leaf in differentiable([leaf]),
        )


def _called(leaf: Leaf) -> str:
    """What to call the value of a leaf in a function."""
    name = hint(leaf)
    match leaf.kind.value:
        case "next":
            return f"{name}_next"
        case "cotangent":
            return f"d_{leaf.name.partition('.')[2].lstrip('%').split('.')[-1]}"
        case _:
            return name
