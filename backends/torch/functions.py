"""Printing blocks and models: one class for each distinct function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from seqc.ir.expr import (
    Apply,
    Axes,
    Concat,
    Conv,
    Dropout,
    DType,
    Expr,
    Flip,
    Gather,
    Index,
    Invoke,
    Item,
    Leaf,
    LeafKind,
    Pool,
    Reduce,
    Rename,
    Slice,
    Softmax,
    children,
    leaves,
    walk,
)
from seqc.ir.plan import Plan
from seqc.ir.program import Function, Model, Repeat
from seqc.ir.recurrence import Recurrence
from seqc.ir.timing import reads_future, varying_outputs

from .diagnose import Unsupported
from .expressions import Scope, Value, all_axes, merged_order, operands, sign
from .initial import print_constructor
from .layout import split_statement
from .names import RESERVED, Names, path_text
from .primitives import ATOM, Code
from .rules import print_rule, targets_text
from .splice import pieces

if TYPE_CHECKING:
    from seqc.source import Span

WIDTH = 110
LONG_CALL = 80  # the longest call that stands inside an expression
PlanOf = Callable[[Recurrence], Plan | None]
Key = tuple[object, tuple[str, ...], tuple[bool, ...]]


@dataclass(slots=True)
class Classes:
    """The classes of a program, callees first; each distinct callee is printed once."""

    plan: PlanOf
    names: Names = field(default_factory=lambda: Names({*RESERVED, *pieces()}))
    texts: list[str] = field(default_factory=list[str])
    known: dict[Key, str] = field(default_factory=dict[Key, str])

    def rule(self, rec: Recurrence, given: tuple[str, ...]) -> str:
        key: Key = (rec, given, ())
        if key not in self.known:
            printed = print_rule(rec, self.plan(rec), self.names, given, place=place(rec.origins))
            self.known[key] = printed.name
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
            self.texts.append(text)
        return self.known[key]

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
    places: list[str] = field(default_factory=list[str])
    begin: list[tuple[Invoke, str, str]] = field(default_factory=list[tuple[Invoke, str, str]])
    gates: set[Expr] = field(default_factory=set[Expr])
    hints: dict[Expr, str] = field(default_factory=dict[Expr, str])

    def text(self, name: str, base: str) -> str:
        self.name = name
        body = self._forward()
        lines: list[str] = []
        if where := place(self.function.origins):
            lines.append(f"# {where}")
        lines += [f"class {name}({base}):", f'    """{self._signature()}"""']
        if self.model is not None and reads_future(self.model):
            pooled = not varying_outputs(self.function)[0]
            lines += ["", "    reads_future = True", *["    pooled = True"] * pooled]
        own = [p for p in self.function.parameters if p.name not in self.given]
        if own or self.places:
            lines += print_constructor(own, self.function.sizes, self.places)
        lines += self._initial()
        return "\n".join([*lines, *body])

    def _signature(self) -> str:
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
        scope = Scope(names, order, {**sizes, **function.sizes}, self._like(), width=WIDTH - 8)
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

    def _forward(self) -> list[str]:
        function = self.function
        scope = self._scope(function.outputs)
        scope.reusable.update(self.locals)
        self._bind(scope)
        roots = scope.prepared(function.outputs)
        self.gates = _gates(roots)
        bindings = scope.prepared([expr for _, expr in function.bindings])
        for (name, _), expr in zip(function.bindings, bindings, strict=True):
            if not isinstance(expr, Leaf):
                self.hints.setdefault(expr, name)
                while isinstance(expr, Rename):
                    expr = expr.arg
                self.hints.setdefault(expr, name)
                if not isinstance(expr, Item):
                    scope.hints.setdefault(expr, name)
        values = scope.emit(function.outputs)
        texts = [self._full(scope, v, axes) for v, axes in zip(values, self.returns, strict=True)]
        arguments = "".join(f", {name}: Tensor" for name in (*self.locals, *self.given_locals))
        kind = "Tensor" if len(texts) == 1 else f"tuple[{', '.join(['Tensor'] * len(texts))}]"
        method = "body" if self.model is not None else "forward"
        head = f"def {method}(self, run: Run{arguments}) -> {kind}:"
        lines = ["", *split_statement(head, WIDTH, 4)]
        body = list(scope.lines)
        if len(texts) == 1 and body and body[-1].startswith(f"{texts[0]} = "):
            texts[0] = body.pop()[len(texts[0]) + 3 :].split("  # ")[0]
        if len(texts) == 1 and "self." in texts[0] and not texts[0].startswith(("linear(", "torch.", "F.")):
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
        given = [value for call, _, _ in self.begin for _, value in call.given]
        scope = self._scope(given)
        self._bind(scope)
        values = dict(zip(given, scope.emit(given), strict=True))
        for call, target, path in self.begin:
            more = "".join(f", {self._static_text(scope, values[v], v)}" for _, v in call.given)
            body += self._initial_call(call, target, path, more)
        if not body:
            return []
        arguments = "".join(f", {name}: Tensor" for name in self.given_locals)
        return [
            "",
            *split_statement(f"def initial(self, run: Run, batch: int{arguments}) -> None:", WIDTH, 4),
            *(f"        {line}" for line in [*scope.lines, *body]),
        ]

    def _initial_call(self, call: Invoke, target: str, path: str, more: str) -> list[str]:
        method = "begin" if isinstance(call.callee, Recurrence) else "initial"
        if isinstance(call.callee, Repeat):
            inner = f'part.initial(run.at(f"{path}.{{i}}"), batch{more})'
            return [f"for i, part in enumerate({target}):", f"    {inner}"]
        return [f'{target}.{method}(run.at("{path}"), batch{more})']

    def _static_text(self, scope: Scope, value: Value, expr: Expr) -> str:
        if set(value.axes) != set(expr.axes) or value.code.number:
            return scope.expanded(value, expr.axes, "self.like", "")
        return scope.arranged(value, expr.axes).code.text

    def _full(self, scope: Scope, value: Value, axes: Axes) -> str:
        if value.lead and set(value.axes) == set(axes):
            return scope.arranged(value, axes).code.text
        order = scope.sorted(axes)
        text = scope.expanded(value, order, scope.like, "*lead, ")
        return scope.arranged(Value(Code(text), order, True, value.dtype), axes).code.text

    # --- operations on sequences ------------------------------------------------------------------------------------

    def _special(self, scope: Scope, node: Expr) -> Value | None:
        match node:
            case Item():
                return scope.known[node.call] if node in scope.known else None
            case Invoke():
                return self._invoke(scope, node)
            case Conv():
                return self._conv(scope, node)
            case Gather():
                return _gather(scope, node)
            case Flip():
                value = scope.value(node.arg)
                return replace(value, code=Code(f"{value.atom}.flip(1)"))
            case Pool():
                value = scope.value(node.arg)
                how = ".mean(1, keepdim=True)" if node.op == "mean" else "[:, -1:]"
                return replace(value, code=Code(f"{value.atom}{how}"))
            case Dropout():
                value = scope.value(node.arg)
                return replace(value, code=Code(f"F.dropout({value.code.text}, {node.rate}, self.training)"))
            case Reduce(op="sum"):
                return _linear(scope, node)
            case _:
                return self._gate(scope, node)

    def _gate(self, scope: Scope, node: Expr) -> Value | None:
        """What leads to the inputs of a rule is computed in single precision at least."""
        if node not in self.gates or not isinstance(node, Apply | Softmax | Concat):
            return None
        kept: dict[Expr, Value] = {}
        for child in operands(node, scope.counts):
            value = scope.known[child]
            plain = value.code.number or isinstance(child, Index) or child.dtype is not DType.REAL
            if child not in self.gates and not plain:
                kept[child] = value
                scope.known[child] = replace(value, code=Code(f"wide({value.code.text})"))
        self.gates.discard(node)
        result = scope.compute(node)
        self.gates.add(node)
        scope.known.update(kept)
        return result

    def _conv(self, scope: Scope, node: Conv) -> Value:
        x = scope.value(node.arg)
        x = Value(Code(self._full(scope, x, node.arg.axes)), node.arg.axes, True, node.dtype)
        weight = scope.value(node.weight)
        order = (*node.arg.axes, node.taps)
        weight = scope.arranged(weight, tuple(a for a in order if a in weight.axes))
        text = f'causal_conv(run, "{node.name}.window", {x.code.text}, {scope.aligned(weight, order, False).text}'
        if node.bias is not None:
            bias = scope.value(node.bias)
            text += f", {scope.aligned(bias, node.arg.axes, False).text}"
        return Value(Code(text + ")"), node.arg.axes, True, node.dtype)

    def _invoke(self, scope: Scope, node: Invoke) -> Value:
        callee = node.callee
        scope.uses.subtract(node.args)  # the results may take the names of the arguments
        values = [scope.value(arg) for arg in node.args]
        given = [scope.value(value) for _, value in node.given]
        names = tuple(name for name, _ in node.given)
        target = f"self{path_text(node.name)}"
        if isinstance(callee, Recurrence):
            results = self._rule(scope, node, callee, values, given, target)
        else:
            static = tuple(not v.lead and not v.code.number for v in values)
            if isinstance(callee, Repeat):
                static = (*(False,) * len(callee.outputs), *static[len(callee.outputs) :])
            texts = [
                self._argument(scope, v, leaf.axes, flag)
                for v, leaf, flag in zip(values, callee.inputs, static, strict=True)
            ]
            texts += [self._given(scope, v, e) for v, (_, e) in zip(given, node.given, strict=True)]
            if isinstance(callee, Repeat):
                results = self._repeat(scope, node, callee, texts, names, static)
            else:
                results = self._block(scope, node, callee, texts, names, static, target)
        for index, (text, axes) in enumerate(results):
            item = Item(node, index)
            scope.known[item] = Value(Code(text), axes, True, item.dtype)
        scope.uses.update(node.args)
        return Value(Code("None"))

    def _argument(self, scope: Scope, value: Value, axes: Axes, static: bool) -> str:
        if static:
            return scope.arranged(value, axes).code.text
        return self._full(scope, value, axes)

    def _given(self, scope: Scope, value: Value, expr: Expr) -> str:
        return self._static_text(scope, value, expr)

    def _results(self, scope: Scope, node: Invoke, count: int) -> list[str]:
        names: list[str] = []
        for k in range(count):
            hint = self.hints.get(Item(node, k))
            callee = node.callee
            default = node.name if isinstance(callee, Repeat) else callee.name
            names.append(scope.rename_into(hint) if hint else scope.names.fresh(default))
        return names

    def _rule(
        self,
        scope: Scope,
        node: Invoke,
        callee: Recurrence,
        values: Sequence[Value],
        given: Sequence[Value],
        target: str,
    ) -> list[tuple[str, Axes]]:
        name = self.classes.rule(callee, tuple(n for n, _ in node.given))
        self.places.append(f'self.place("{node.name}", {name}(draw))')
        self.begin.append((node, target, node.name))
        texts = [self._full(scope, v, leaf.axes) for v, leaf in zip(values, callee.inputs, strict=True)]
        texts = texts or ["run.clock"]
        texts += [self._given(scope, v, e) for v, (_, e) in zip(given, node.given, strict=True)]
        names = self._results(scope, node, len(callee.outputs))
        text = f'{targets_text(names)} = {target}.along(run.at("{node.name}"), {", ".join(texts)})'
        scope.lines += split_statement(text, scope.width)
        return list(zip(names, callee.returns, strict=True))

    def _block(
        self,
        scope: Scope,
        node: Invoke,
        callee: Function,
        texts: Sequence[str],
        given: tuple[str, ...],
        static: tuple[bool, ...],
        target: str,
    ) -> list[tuple[str, Axes]]:
        name = self.classes.function(callee, given, static, None)
        self.places.append(f'self.place("{node.name}", {name}(draw))')
        if has_state(callee):
            self.begin.append((node, target, node.name))
        call = f'{target}(run.at("{node.name}"), {", ".join(texts)})'
        item = Item(node, 0)
        alone = len(callee.outputs) == 1 and scope.counts.get(item, 0) == 1 and item not in self.hints
        if alone and len(call) <= LONG_CALL:
            return [(call, callee.returns[0])]
        names = self._results(scope, node, len(callee.outputs))
        scope.lines += split_statement(f"{', '.join(names)} = {call}", scope.width)
        return list(zip(names, callee.returns, strict=True))

    def _repeat(
        self,
        scope: Scope,
        node: Invoke,
        callee: Repeat,
        texts: Sequence[str],
        given: tuple[str, ...],
        static: tuple[bool, ...],
    ) -> list[tuple[str, Axes]]:
        count = len(callee.outputs)
        carried = tuple(leaf.axes for leaf in callee.inputs[:count])
        made = [self.classes.function(body, given, static, carried) for body in callee.bodies]
        target = f"self{path_text(node.name)}"
        loop = target
        if callee.shared:
            if len(set(made)) > 1:
                raise Unsupported("shared repetitions that differ")
            self.places.append(f'self.place("{node.name}", {made[0]}(draw))')
            loop = f"[{target}] * {len(made)}"
        elif len(set(made)) == 1:
            text = f"nn.ModuleList({made[0]}(draw) for _ in range({len(made)}))"
            self.places.append(f'self.place("{node.name}", {text})')
        else:
            items = ", ".join(f"{name}(draw)" for name in made)
            text = f'self.place("{node.name}", nn.ModuleList([{items}]))'
            self.places += split_statement(text, WIDTH - 8)
        if any(has_state(body) for body in callee.bodies):
            self.begin.append((node, loop, node.name))
        names = self._results(scope, node, count)
        for name, text in zip(names, texts, strict=False):
            if name != text:
                scope.lines.append(f"{name} = {text}")
        call = ", ".join([*names, *texts[count:]])
        scope.lines.append(f"for i, part in enumerate({loop}):")
        inner = f'{", ".join(names)} = run.at(f"{node.name}.{{i}}").through(part, {call})'
        scope.lines += [f"    {line}" for line in split_statement(inner, scope.width - 4)]
        return list(zip(names, carried, strict=True))


def _linear(scope: Scope, node: Reduce) -> Value | None:
    """A weight applied to a value: `linear`."""
    factors = operands(node, scope.counts)
    if len(factors) != 2 or sign(node, scope.counts):
        return None
    x, weight = (scope.value(f) for f in factors)
    if weight.lead:
        x, weight = weight, x
    over = tuple(a for a in weight.axes if a in node.over)
    out = tuple(a for a in weight.axes if a not in node.over)
    if (
        not x.lead
        or weight.lead
        or set(over) != set(node.over)
        or set(x.axes) & set(weight.axes) != set(over)
    ):
        return None
    if x.dtype is DType.COMPLEX or weight.dtype is DType.COMPLEX or not out:
        return None
    rest = tuple(a for a in x.axes if a not in over)
    x, weight = scope.arranged(x, (*rest, *over)), scope.arranged(weight, (*out, *over))
    source, matrix = x.code.text, weight.code.text
    if len(over) > 1:
        source = f"{x.atom}.flatten(-{len(over)})"
    if len(over) > 1 or len(out) > 1:
        matrix = f"{weight.atom}.reshape({_product(scope, out)}, {_product(scope, over)})"
    text = f"linear({source}, {matrix})"
    if len(out) > 1:
        text += f".unflatten(-1, ({', '.join(str(scope.sizes[a]) for a in out)}))"
    return Value(Code(text, ATOM), (*rest, *out), True, DType.REAL)


def _product(scope: Scope, axes: Axes) -> int:
    total = 1
    for axis in axes:
        total *= scope.sizes[axis]
    return total


def _gather(scope: Scope, node: Gather) -> Value:
    index, table = scope.value(node.index), scope.value(node.table)
    rest = tuple(a for a in table.axes if a != node.axis)
    table = scope.arranged(table, (node.axis, *rest))
    text = (
        f"F.embedding({index.code.text}, {table.code.text})"
        if len(rest) == 1
        else f"{table.atom}[{index.code.text}]"
    )
    return Value(Code(text), (*index.axes, *rest), index.lead, node.dtype)


def _gates(roots: Sequence[Expr]) -> set[Expr]:
    """Elementwise values that only lead to inputs of rules."""
    nodes = list(walk(roots))
    parents: dict[Expr, list[Expr]] = {}
    for node in nodes:
        for child in children(node):
            parents.setdefault(child, []).append(node)
    gates: set[Expr] = set()
    kept = (Apply, Rename, Reduce, Concat, Slice, Softmax)
    for node in reversed(nodes):
        if not isinstance(node, kept) or node in roots or node.dtype is not DType.REAL:
            continue
        if isinstance(node, Reduce) and any(
            isinstance(leaf, Leaf) and leaf.kind is LeafKind.PARAM for leaf in operands(node, {})
        ):
            continue
        above = parents.get(node, [])
        if above and all(_is_rule(p) or p in gates for p in above):
            gates.add(node)
    return gates


def _is_rule(node: Expr) -> bool:
    return isinstance(node, Invoke) and isinstance(node.callee, Recurrence)


def has_state(function: Function) -> bool:
    for node in walk(function.outputs):
        if isinstance(node, Conv):
            return True
        if isinstance(node, Invoke):
            callee = node.callee
            if isinstance(callee, Recurrence):
                return True
            if any(has_state(f) for f in (callee.bodies if isinstance(callee, Repeat) else (callee,))):
                return True
    return False


__all__ = ["Classes", "leaves", "place"]
