"""Printing blocks and models: one class for each distinct function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from seqc.ir.expr import Axes, Conv, DType, Expr, Invoke, Item, Leaf, Rename
from seqc.ir.plan import Plan
from seqc.ir.program import Function, Model, Repeat
from seqc.ir.recurrence import Recurrence
from seqc.ir.timing import reads_future, varying_outputs
from seqc.ir.traverse import walk

from .annotate import is_untyped
from .calls import WIDTH, Calls
from .cells import find_cell, with_projections
from .expressions import Scope
from .gates import Gates, find_gates
from .initial import print_constructor
from .layout import split_statement
from .names import RESERVED, Names, path_text
from .reading import all_axes, merged_order
from .rules import PrintedRule, print_rule
from .sequences import print_sequence
from .splice import pieces
from .values import Value

if TYPE_CHECKING:
    from seqc.source import Span

PlanOf = Callable[[Recurrence], Plan | None]
Key = tuple[object, tuple[str, ...], tuple[bool, ...]]

OVERRIDES = "  # type: ignore[override]  # a `Network` has one input"


@dataclass(slots=True)
class Classes:
    """The classes of a program, callees first; each distinct callee is printed once."""

    plan: PlanOf
    names: Names = field(default_factory=lambda: Names({*RESERVED, *pieces()}))
    texts: list[str] = field(default_factory=list[str])
    rules: list[PrintedRule] = field(default_factory=list[PrintedRule])
    known: dict[Key, str] = field(default_factory=dict[Key, str])
    cells: dict[Recurrence, bool] = field(default_factory=dict[Recurrence, bool])
    printers: dict[str, _FunctionPrinter] = field(default_factory=dict[str, "_FunctionPrinter"])
    around: Set[Recurrence] = (
        frozenset()
    )  # called as `self.around[name]`, which whoever uses the text provides

    def is_cell(self, rec: Recurrence) -> bool:
        """Whether a rule is printed as a `CellRule`, unless callers pass parameters in."""
        if rec not in self.cells:
            self.cells[rec] = find_cell(rec, self.plan(rec)) is not None
        return self.cells[rec]

    def rule(self, rec: Recurrence, given: tuple[str, ...]) -> str:
        key: Key = (rec, given, ())
        if key not in self.known:
            printed = print_rule(rec, self.plan(rec), self.names, given, place=place(rec.origins))
            self.known[key] = printed.name
            self.rules.append(printed)
            self.texts.append(printed.text)
        return self.known[key]

    def function(
        self,
        function: Function,
        given: tuple[str, ...],
        static: tuple[bool, ...],
        returns: tuple[Axes, ...] | None,
    ) -> str:
        key: Key = (function, given, static)
        if key not in self.known:
            printer = _FunctionPrinter(self, function, given, static, returns or function.returns)
            text = printer.text(self.names.fresh_class(function.name), "Block")
            self.known[key] = printer.name
            self.printers[printer.name] = printer
            self.texts.append(text)
        return self.known[key]

    def forward(self, name: str, function: Function, around: Set[Recurrence]) -> str:
        """The class of a block with nothing but `forward`, as `function` computes it, which calls `around`."""
        printer = replace(self.printers[name], classes=replace(self, around=around), function=function)
        lines = printer.forward()
        return "\n".join([f"class {name}(Block):", f'    """{printer.signature()}"""', *lines])

    def model(self, model: Model) -> str:
        function = model.body
        static = (False,) * len(function.inputs)
        printer = _FunctionPrinter(self, function, (), static, function.returns, model)
        text = printer.text(self.names.fresh_class(model.name), "Network")
        self.texts.append(text)
        return printer.name


def place(origins: Mapping[Expr, Span]) -> str:
    """`griffin.seq:6`, where a definition begins to say something."""
    spans = sorted(origins.values(), key=lambda span: span.start)
    return f"{PurePath(spans[0].source.name).name}:{spans[0].line}" if spans else ""


@dataclass(slots=True)
class _FunctionPrinter:
    classes: Classes
    function: Function
    given: tuple[str, ...]
    static: tuple[bool, ...]
    returns: tuple[Axes, ...]
    model: Model | None = None
    name: str = ""
    calls: Calls = field(init=False)
    gates: Gates = field(init=False)

    def __post_init__(self) -> None:
        self.calls, self.gates = Calls(self.classes), Gates()

    def text(self, name: str, base: str) -> str:
        self.name = name
        body = self.forward()
        lines: list[str] = []
        if where := place(self.function.origins):
            lines.append(f"# {where}")
        lines += [f"class {name}({base}):", f'    """{self.signature()}"""']
        if self.model is not None and reads_future(self.model):
            pooled = not varying_outputs(self.function)[0]
            lines += ["", "    reads_future = True", *["    pooled = True"] * pooled]
        own = [p for p in self.function.parameters if p.name not in self.given]
        if own or self.calls.places:
            lines += print_constructor(own, self.function.sizes, self.calls.places)
        lines += self._initial()
        if self.model is not None and len(self.locals) > 1:
            body = [*self._entries(), *body]
        return "\n".join([*lines, *body])

    def _entries(self) -> list[str]:
        """`forward` and `step` of a model with several inputs: those of `Network` take one."""
        names = self.locals
        given, first = ", ".join(f"{name}: Tensor" for name in names), names[0]
        tokens = ", ".join(f"{name}[:, None]" for name in names)
        state = "state: States | None = None"
        return [
            "",
            f"    def forward({OVERRIDES}",
            f"        self, {given}, {state}, reset: Tensor | None = None",
            "    ) -> tuple[Tensor, States]:",
            '        """Outputs and states for sequences [batch, time, …]; see `Network`."""',
            f"        run = self.run({first}.shape[0], {first}.shape[1], state, reset, False)",
            f"        out = self.body(run, {', '.join(names)})",
            "        return out[:, 0] if self.pooled else out, run.new",
            "",
            f"    def step({OVERRIDES}",
            f"        self, {given}, {state}",
            "    ) -> tuple[Tensor, States]:",
            '        """One token a row of every input, [batch, …]."""',
            f"        run = self.run({first}.shape[0], 1, state, None, True)",
            f"        return self.body(run, {tokens})[:, 0], run.new",
        ]

    def signature(self) -> str:
        inputs = ", ".join(
            f"{leaf.name}[{', '.join(leaf.axes)}]" if leaf.axes else leaf.name
            for leaf in self.function.inputs
        )
        outputs = ", ".join(f"[{', '.join(axes)}]" for axes in self.returns)
        return f"{self.function.name}({inputs}) -> {outputs}"

    # --- names ------------------------------------------------------------------------------------------------------

    @property
    def locals(self) -> list[str]:
        names = Names({*RESERVED, *pieces()} - {"tokens"})
        return [
            names.fresh(leaf.name) if leaf.name != "tokens" else "tokens" for leaf in self.function.inputs
        ]

    @property
    def given_locals(self) -> list[str]:
        names = Names({*RESERVED, *pieces(), *self.locals})
        return [names.fresh(name.split(".")[-1]) for name in self.given]

    def _scope(self, roots: Sequence[Expr], extra: Sequence[str] = ()) -> Scope:
        function = self.function
        names = Names({*RESERVED, *pieces(), *self.locals, *self.given_locals, *extra})
        order = merged_order([*(leaf.axes for leaf in function.inputs), *all_axes(roots), *self.returns])
        sizes: dict[str, int] = {}
        for node in walk(roots):
            if isinstance(node, Invoke):
                callee = node.callee.bodies[0] if isinstance(node.callee, Repeat) else node.callee
                sizes.update(callee.sizes)
        scope = Scope(names, order, {**sizes, **function.sizes}, self._like(), mixed=True, width=WIDTH - 8)
        scope.special = self._special
        return scope

    def _like(self) -> str:
        for leaf, name, static in zip(self.function.inputs, self.locals, self.static, strict=True):
            if leaf.dtype is DType.REAL and not static:
                return name
        return "run.clock"

    def _bind(self, scope: Scope) -> None:
        for leaf, name, static in zip(self.function.inputs, self.locals, self.static, strict=True):
            scope.bind(leaf, name, lead=not static)
        given = dict(zip(self.given, self.given_locals, strict=True))
        for parameter in self.function.parameters:
            text = given.get(parameter.name) or f"self{path_text(parameter.name)}"
            scope.bind(parameter.leaf, text, lead=False)

    # --- methods ----------------------------------------------------------------------------------------------------

    def forward(self) -> list[str]:
        function, count = self.function, len(self.function.outputs)
        scope = self._scope(function.outputs)
        scope.reusable.update(self.locals)
        self._bind(scope)
        known = [*function.outputs, *(expr for _, expr in function.bindings)]
        roots = scope.prepared(with_projections(known, self.classes.is_cell))
        roots, bindings = roots[:count], roots[count:]
        self.gates.nodes = find_gates(roots)
        for (name, _), expr in zip(function.bindings, bindings, strict=True):
            if not isinstance(expr, Leaf):
                self.calls.hints.setdefault(expr, name)
                while isinstance(expr, Rename):
                    expr = expr.arg
                self.calls.hints.setdefault(expr, name)
                if not isinstance(expr, Item):
                    scope.hints.setdefault(expr, name)
        values = scope.emit(roots)
        texts = [scope.full(v, axes).text for v, axes in zip(values, self.returns, strict=True)]
        arguments = "".join(f", {name}: Tensor" for name in (*self.locals, *self.given_locals))
        kind = "Tensor" if len(texts) == 1 else f"tuple[{', '.join(['Tensor'] * len(texts))}]"
        method = "body" if self.model is not None else "forward"
        head = f"def {method}(self, run: Run{arguments}) -> {kind}:"
        lines = ["", *split_statement(head, WIDTH, 4)]
        if self.model is not None and len(self.locals) > 1:
            lines[1] += OVERRIDES
        body = list(scope.lines)
        if len(texts) == 1 and body and body[-1].startswith(f"{texts[0]} = "):
            texts[0] = body.pop()[len(texts[0]) + 3 :].split("  # ")[0]
        if len(texts) == 1 and is_untyped(texts[0], body, [*self.locals, *self.given_locals]):
            out = scope.names.fresh("out")
            body += split_statement(f"{out}: Tensor = {texts[0]}", WIDTH - 8)
            texts[0] = out
        if any("*lead" in line for line in [*body, *texts]):
            body.insert(0, f"lead = {self._like()}.shape[:2]")
        result = texts[0] if len(texts) == 1 else f"({', '.join(texts)})"
        return [
            *lines,
            *(f"        {line}" for line in body),
            *split_statement(f"return {result}", WIDTH, 8),
        ]

    def _initial(self) -> list[str]:
        """The states before the first token, of this block and of all that it calls."""
        body: list[str] = []
        for conv in (n for n in walk(self.function.outputs) if isinstance(n, Conv)):
            sizes = self.function.sizes
            shape = ", ".join(["batch", str(sizes[conv.taps] - 1), *(str(sizes[a]) for a in conv.arg.axes)])
            body.append(f'run.write("{conv.name}.window", run.zeros({shape}))')
        given = self.calls.given()
        scope = self._scope(given)
        self._bind(scope)
        scope.emit(given)
        body += self.calls.beginnings(scope)
        if not body:
            return []
        arguments = "".join(f", {name}: Tensor" for name in self.given_locals)
        return [
            "",
            *split_statement(f"def initial(self, run: Run, batch: int{arguments}) -> None:", WIDTH, 4),
            *(f"        {line}" for line in [*scope.lines, *body]),
        ]

    # --- operations on sequences ------------------------------------------------------------------------------------

    def _special(self, scope: Scope, node: Expr) -> Value | None:
        match node:
            case Item():
                return scope.known[node.call] if node in scope.known else None
            case Invoke():
                return self.calls.invoke(scope, node)
            case _:
                return print_sequence(scope, node) or self.gates.value(scope, node)
