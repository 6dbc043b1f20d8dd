"""A task of one row as a C++ function: what it is passed, and where its leaves lie."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from seqc.ir.expr import Expr, Leaf, LeafKind
from seqc.ir.plan import TOKEN

from .layout import Layout, View, dense, external
from .lines import indented, signature
from .names import Names
from .program import Program, Task, cotangent, differentiable, gradient
from .write_loops import Body, Printer

MOST = 8192  # numbers of a block of an input that are brought together

Text = tuple[list[str], Body]


@dataclass(slots=True)
class Function:
    """Collects the arguments of a task, in the order in which they are added."""

    task: Task
    layout: Layout
    names: Names = field(default_factory=Names)
    views: dict[Leaf, View] = field(default_factory=dict[Leaf, View])
    arguments: list[str] = field(default_factory=list[str])
    lines: list[str] = field(default_factory=list[str])

    def reads(self, leaves: Sequence[Leaf]) -> None:
        """Tensors that hold all rows: the pointers are at the row's first entries."""
        known = set(self.task.reads)
        for leaf in leaves:
            if leaf in known:
                self.arguments.append(f"const real* __restrict {self._external(leaf)}")
                self._gathered(leaf)

    def writes(self, leaves: Sequence[Leaf]) -> None:
        written = {target.leaf for target in self.task.targets}
        for leaf in leaves:
            if leaf in written:
                self.arguments.append(f"real* __restrict {self._external(leaf)}")

    def _gathered(self, leaf: Leaf) -> None:
        """The tokens of a block, which lie apart, side by side."""
        layout, there = self.layout, self.views[leaf]
        here = dense("", layout.inner(leaf.axes), layout.inside)
        entries = layout.local(leaf.axes)
        if TOKEN not in leaf.axes or there.strides[1:] != here.strides[1:] or entries > MOST:
            return
        name, count = self.names.pointer(hint(leaf)), layout.sizes[TOKEN]
        stride = dict(there.strides)[TOKEN]
        self.lines.append(f"real {name}[{entries}];")
        self.lines.append(f"matrices::gather<{count}, {entries // count}, {stride}>({there.name}, {name});")
        self.views[leaf] = replace(here, name=name)

    def _external(self, leaf: Leaf) -> str:
        name = self.names.pointer(hint(leaf))
        self.views[leaf] = external(name, leaf.axes, self.layout)
        return name

    def packed(self, kind: str, argument: str, leaves: Sequence[Leaf]) -> None:
        """Tensors of one row, one after another from `argument` on."""
        layout, start = self.layout, 0
        self.arguments.append(f"{kind} {argument}")
        used = {*self.task.reads, *(target.leaf for target in self.task.targets)}
        for leaf in leaves:
            if leaf in used:
                view = dense(self.names.pointer(hint(leaf)), layout.inner(leaf.axes), layout.inside)
                place = f"{argument} + {start}" if start else argument
                self.lines.append(f"{kind.partition(' __')[0]} const {view.name} = {place};")
                self.views[leaf] = view
            start += prod(layout.inside[axis] for axis in layout.inner(leaf.axes))

    def text(
        self,
        about: Sequence[str],
        mutable: Mapping[Leaf, Leaf],
        hints: Mapping[Expr, str],
        late: bool = False,
    ) -> Text:
        self.arguments.append("real* __restrict scratch")
        layout = self.layout
        body = Printer(
            self.task, layout, layout.inside, layout.rows, self.views, mutable, self.names, hints, late
        ).body()
        lines = indented([*self.lines, *body.lines])
        head = [*about, *signature(f"inline void {self.task.name}", _marked(self.arguments, lines))]
        return [*head, *lines, "}"], body


def print_token(program: Program, layout: Layout, task: Task) -> Text:
    """`token` or `advance`."""
    function = Function(task, layout)
    function.reads((*program.inputs, *program.constants))
    function.packed("const real*", "before", [state.leaf for state in program.states])
    function.packed("real*", "after", [state.next for state in program.states])
    function.writes(program.outputs)
    results = "outputs, and states after it" if task is program.token else "states after it alone"
    mutable = {state.next: state.leaf for state in program.states}
    return function.text([f"// One {_step(program)} of one row: {results}."], mutable, _names(program))


def print_reverse(program: Program, layout: Layout) -> Text:
    function, states = Function(program.reverse, layout), program.states
    function.reads((*program.inputs, *program.constants, *(cotangent(leaf) for leaf in program.outputs)))
    function.packed("const real*", "before", [state.leaf for state in states])
    function.packed("const real*", "after", [state.next for state in states])
    function.packed("const real*", "d_after", [cotangent(state.next) for state in states])
    function.packed("real*", "d_before", [gradient(state.leaf) for state in states])
    function.writes([gradient(leaf) for leaf in differentiable(program.inputs)])
    function.packed(
        "real* __restrict", "d_shared", [gradient(leaf) for leaf in differentiable(program.constants)]
    )
    about = [
        f"// One {_step(program)} of one row, backwards: from the cotangents of its outputs and the states after it,",
        "// those of its inputs, of the states before it, and, added up, of the constants.",
    ]
    mutable = {gradient(state.leaf): cotangent(state.next) for state in states}
    return function.text(about, mutable, _names(program), late=True)


def _step(program: Program) -> str:
    return program.token.name


def print_once(task: Task, layout: Layout, reads: Sequence[Leaf], writes: Sequence[Leaf]) -> list[str]:
    """A task that is done once a call, over all rows."""
    names, views, lines, used = Names(), dict[Leaf, View](), list[str](), {*task.reads}
    for leaves, source, kind in ((reads, "from", "const real*"), (writes, "to", "real*")):
        for k, leaf in enumerate(leaves):
            if leaf in used or leaves is writes:
                name = names.pointer(hint(leaf))
                views[leaf] = dense(name, layout.arranged(leaf.axes), layout.sizes)
                lines.append(f"{kind} const {name} = {source}[{k}];")
    whole = Layout(layout.sizes, layout.order, layout.vector, layout.rows, layout.sizes[layout.vector])
    body = Printer(task, whole, layout.sizes, (), views, {}, names).body()
    if body.scratch:
        lines.append(f"const std::unique_ptr<real[]> memory(new real[{body.scratch}]);")
        lines.append("real* const scratch = memory.get();")
    forwards = task.name == "prepare"
    about = "From the parameters, what" if forwards else "The cotangents of the parameters from those of what"
    lines = indented([*lines, *body.lines])
    arguments = _marked(("const real* const* from", "real* const* to"), lines)
    head = signature(f"void {task.name}{'_once' if forwards else ''}", arguments)
    return [f"// {about} all tokens share.", *head, *lines, "}"]


def _marked(arguments: Sequence[str], lines: Sequence[str]) -> list[str]:
    """Arguments of which the compiler is told where a function does not use them."""
    used = set(re.findall(r"\w+", "\n".join(lines)))
    return [text if text.split()[-1] in used else f"[[maybe_unused]] {text}" for text in arguments]


def _names(program: Program) -> dict[Expr, str]:
    return {expr: name for name, expr in program.recurrence.names}


def hint(leaf: Leaf) -> str:
    """What a leaf is called in the text, if nothing else is."""
    match leaf.kind:
        case LeafKind.PARAM:
            return leaf.name.split(".")[-1]
        case LeafKind.NEXT:
            return f"{leaf.name}_next"
        case LeafKind.COTANGENT:
            kind, _, name = leaf.name.partition(".")
            return f"d_{name.lstrip('%')}{'_next' if kind == 'next' else ''}"
        case _:
            return leaf.name
