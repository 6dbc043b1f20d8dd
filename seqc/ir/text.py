"""The intermediate representation as text: expressions as readable math, and the things made of them.

Axes stand in brackets, `S'` is a state after the token.  Nothing here recurses, so depth is no concern; a
node that is used often in a large expression is written once, after `where`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from seqc.ir.expr import (
    Apply,
    At,
    Axes,
    Concat,
    Const,
    Conv,
    Dropout,
    Expr,
    Flip,
    Gather,
    Index,
    Invoke,
    Item,
    Leaf,
    LeafKind,
    Pool,
    Put,
    Rank,
    Reduce,
    Rename,
    Scan,
    Shift,
    Size,
    Slice,
    Softmax,
    Solve,
    Take,
)
from seqc.ir.plan import Plan, Stage
from seqc.ir.program import Function, Model, Repeat
from seqc.ir.recurrence import Parameter, Recurrence, Store
from seqc.ir.traverse import children, walk

# How tightly an operator binds; an operand that binds less gets parentheses.
OR, AND, NOT, COMPARE, SUM, PRODUCT, FACTOR, POWER, ATOM = range(1, 10)

_INFIX: dict[str, tuple[str, int]] = {
    "or": ("or", OR),
    "and": ("and", AND),
    "lt": ("<", COMPARE),
    "le": ("<=", COMPARE),
    "gt": (">", COMPARE),
    "ge": (">=", COMPARE),
    "eq": ("==", COMPARE),
    "ne": ("!=", COMPARE),
    "add": ("+", SUM),
    "sub": ("-", SUM),
    "mul": ("*", PRODUCT),
    "div": ("/", PRODUCT),
    "mod": ("%", PRODUCT),
}

# An expression with more nodes than this, counted as a tree, has its shared parts written once.
_LARGE = 200

_Part = str | tuple[Expr, int]
_Parts = tuple[int, list[_Part]]


def format_expr(expr: Expr, names: Mapping[Expr, str] | None = None) -> str:
    """An expression on one line; `names` are nodes to be called by name (not `expr` itself)."""
    known = {node: name for node, name in (names or {}).items() if node is not expr and children(node)}
    shared = _shared(expr, known)
    text = _line(expr, {**known, **shared})
    if not shared:
        return text
    where = (
        f"{name} = {_line(node, {**known, **shared, node: ''}, skip=node)}" for node, name in shared.items()
    )
    return f"{text} where {'; '.join(where)}"


def _shared(expr: Expr, known: Mapping[Expr, str]) -> dict[Expr, str]:
    """Names for the parts of a large expression that occur more than once, inner ones first."""
    sizes: dict[Expr, int] = {}
    uses: Counter[Expr] = Counter()
    for node in walk([expr]):
        below = () if node in known else children(node)
        uses.update(below)
        sizes[node] = 1 + sum(sizes[child] for child in below)
    if sizes[expr] <= _LARGE:
        return {}
    often = [node for node in sizes if uses[node] > 1 and sizes[node] > 3 and node not in known]
    return {node: f"t{i}" for i, node in enumerate(often, 1)}


def _line(expr: Expr, names: Mapping[Expr, str], skip: Expr | None = None) -> str:
    pieces: list[str] = []
    stack: list[_Part] = [(expr, 0)]
    while stack:
        part = stack.pop()
        if isinstance(part, str):
            pieces.append(part)
            continue
        node, binding = part
        if node in names and node is not skip:
            pieces.append(names[node])
            continue
        own, parts = _parts(node)
        stack.extend(reversed(parts if own >= binding else ["(", *parts, ")"]))
    return "".join(pieces)


def _parts(node: Expr) -> _Parts:  # noqa: C901
    """How tightly a node binds, and what it is written as."""
    match node:
        case Const():
            return (FACTOR if node.value < 0 else ATOM), [format_number(node.value)]
        case Leaf():
            return ATOM, [_leaf(node)]
        case Size():
            return ATOM, [node.axis]
        case Index():
            return ATOM, [f"index[{node.axis}]"]
        case Apply():
            return _apply(node)
        case Reduce():
            return _call(f"{node.op}[{', '.join(node.over)}]", node.arg)
        case Softmax():
            return _call(f"softmax[{', '.join(node.over)}]", node.arg)
        case Rename():
            renamed = ", ".join(f"{old} -> {new}" for old, new in node.pairs)
            return ATOM, [(node.arg, ATOM), f"[{renamed}]"]
        case Slice():
            return _call(f"slice[{node.axis} -> {node.new}]", node.arg, after=str(node.start))
        case Concat():
            return _call(f"concat[{node.axis}]", *node.args)
        case At():
            return _call(f"at[{node.axis}]", node.arg, after=str(node.index))
        case Take():
            return _call(f"at[{node.axis}]", node.arg, node.index)
        case Put():
            return _call(
                f"put[{', '.join(node.over)}{' ' if node.over else ''}-> {node.axis}]", node.arg, node.index
            )
        case Rank():
            return _call(f"rank[{node.axis}]", node.arg)
        case Shift():
            return _call(f"shift[{node.axis}]", node.arg, after=str(node.by))
        case Scan():
            columns = "" if node.columns is None else f"; {', '.join(node.columns)}"
            name = "reverse_scan" if node.reverse else "scan"
            return _call(f"{name}[{node.axis}{columns}]", node.decay, node.source)
        case Solve():
            name = "solve_upper" if node.upper else "solve"
            return _call(f"{name}[{node.rows}, {node.columns}]", node.matrix, node.rhs)
        case _:
            return _sequence(node)


def _sequence(node: Expr) -> _Parts:
    match node:
        case Conv():
            bias = () if node.bias is None else (node.bias,)
            return _call(f"causal_conv[{node.taps}]", node.arg, node.weight, *bias)
        case Gather():
            return _call(f"gather[{node.axis}]", node.table, node.index)
        case Flip():
            return _call("reverse", node.arg)
        case Dropout():
            return _call("dropout", node.arg, after=format_number(node.rate))
        case Pool():
            return _call(f"{node.op}_pool", node.arg)
        case Invoke():
            return _invoke(node)
        case Item():
            single = len(node.call.callee.outputs) == 1
            return ATOM, [(node.call, ATOM), "" if single else f".{node.index}"]
        case _:
            raise AssertionError(type(node))


def _leaf(node: Leaf) -> str:
    match node.kind:
        case LeafKind.NEXT | LeafKind.STORED:
            return f"{node.name}'"
        case LeafKind.AGE:
            return f"age[{', '.join(node.over)}]"
        case LeafKind.COTANGENT:
            return f"grad({node.name})"
        case _:
            return node.name


def _apply(node: Apply) -> _Parts:
    if node.op == "neg":
        (x,) = node.args
        inner = PRODUCT if isinstance(x, Apply) and x.op in ("mul", "div") else FACTOR
        return inner, ["-", (x, inner)]
    if node.op == "not":
        return NOT, ["not ", (node.args[0], NOT)]
    if node.op == "pow":
        return POWER, [(node.args[0], ATOM), " ^ ", (node.args[1], FACTOR)]
    if node.op not in _INFIX:
        return _call(node.op, *node.args)
    sign, binding = _INFIX[node.op]
    left, right = node.args
    if binding == COMPARE:
        return binding, [(left, SUM), f" {sign} ", (right, SUM)]
    same = node.op in ("add", "mul", "and", "or") and isinstance(right, Apply) and right.op == node.op
    return binding, [(left, binding), f" {sign} ", (right, binding if same else binding + 1)]


def _call(name: str, *args: Expr, after: str = "") -> _Parts:
    parts: list[_Part] = [f"{name}("]
    for i, arg in enumerate(args):
        parts += [", " if i else "", (arg, 0)]
    return ATOM, [*parts, f", {after})" if after else ")"]


def _invoke(node: Invoke) -> _Parts:
    callee: Recurrence | Function | Repeat = node.callee
    name = "repeat" if isinstance(callee, Repeat) else callee.name
    parts: list[_Part] = [f"{name}("]
    separator = ""
    for arg in node.args:
        parts += [separator, (arg, 0)]
        separator = ", "
    for key, value in node.given:
        parts += [f"{separator}{key} = ", (value, 0)]
        separator = ", "
    return ATOM, [*parts, f") as {node.name}"]


def format_number(value: float) -> str:
    """The shortest text that reads back as the number; a whole number without a point."""
    if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return str(int(value)) if value or math.copysign(1, value) > 0 else "-0"
    return repr(value)


# --- What is made of expressions ----------------------------------------------------------------------------


def format_axes(name: str, axes: Axes) -> str:
    """`S[m, n]`, or just the name of something without axes."""
    return f"{name}[{', '.join(axes)}]" if axes else name


def format_recurrence(recurrence: Recurrence) -> str:
    """A rule as equations, its names first."""
    return "\n".join(_recurrence(recurrence))


def format_model(model: Model) -> str:
    """A model, then every distinct block and rule that it calls."""
    settings = ", ".join(f"{name} = {format_number(value)}" for name, value in model.settings.items())
    lines = [*_function(model.body, "model"), *([f"    # settings: {settings}"] if settings else [])]
    for callee in _callees(model.body):
        lines += [
            "",
            *(_recurrence(callee) if isinstance(callee, Recurrence) else _function(callee, "block")),
        ]
    return "\n".join(lines)


def format_plan(plan: Plan) -> str:
    """How a whole sequence is computed: classes, then stages with what each computes."""
    lines = [f"plan {plan.recurrence.name}: {plan.mode} (of {', '.join(plan.modes)})"]
    for found in plan.classes:
        lines.append(f"    {found.code} {found.name}: {', '.join(found.states)}: {found.reason}")
    for stage in plan.stages:
        lines += _stage(stage)
    lines += [f"    return {format_expr(output)}" for output in plan.outputs]
    return "\n".join(lines)


def _recurrence(recurrence: Recurrence) -> Iterator[str]:
    yield from _head("rule", recurrence)
    for state in recurrence.states:
        kind = "" if state.dtype == "real" else f" {state.dtype}"
        yield f"    state {format_axes(state.name, state.axes)}{kind} = {format_expr(state.initial)}"
    names = _names(recurrence.names)
    for name, value in recurrence.names:
        if children(value):
            yield f"    let {format_axes(name, value.axes)} = {format_expr(value, names)}"
    for store in recurrence.stores:
        yield f"    store {format_axes(store.name, (store.axis, *store.axes))} = {_store(store, names)}"
    for state, update in zip(recurrence.states, recurrence.updates, strict=True):
        yield f"    {state.name}' = {_whole(update, names)}"
    yield from _returns(recurrence, names)


def _function(function: Function, kind: str) -> Iterator[str]:
    yield from _head(kind, function)
    names: dict[Expr, str] = {}
    for name, value in function.bindings:
        if children(value):
            yield f"    let {format_axes(name, value.axes)} = {format_expr(value, names)}"
            names.setdefault(value, name)
    yield from _returns(function, names)


def _head(kind: str, owner: Recurrence | Function) -> Iterator[str]:
    inputs = ", ".join(format_axes(leaf.name, leaf.axes) for leaf in owner.inputs)
    yield f"{kind} {owner.name}({inputs})"
    sizes = ", ".join(f"{axis} = {size}" for axis, size in owner.sizes.items())
    if sizes:
        yield f"    # sizes: {sizes}"
    for parameter in owner.parameters:
        yield f"    param {format_parameter(parameter)}"


def format_parameter(parameter: Parameter) -> str:
    return f"{format_axes(parameter.name, parameter.axes)} = {format_expr(parameter.initial)}"


def _returns(owner: Recurrence | Function, names: Mapping[Expr, str]) -> Iterator[str]:
    for output, axes in zip(owner.outputs, owner.returns, strict=True):
        yield f"    return {_whole(output, names)} -> [{', '.join(axes)}]"


def _names(pairs: Iterable[tuple[str, Expr]]) -> dict[Expr, str]:
    """The first name of every expression that has one."""
    names: dict[Expr, str] = {}
    for name, value in pairs:
        names.setdefault(value, name)
    return names


def _whole(expr: Expr, names: Mapping[Expr, str]) -> str:
    """An expression that may itself have a name."""
    return names[expr] if expr in names and children(expr) else format_expr(expr, names)


def _store(store: Store, names: Mapping[Expr, str]) -> str:
    text = _whole(store.value, names)
    if store.window is not None:
        text += f", window = {store.window}"
    return f"{text}, sinks = {store.sinks}" if store.sinks else text


def _callees(function: Function) -> Iterator[Recurrence | Function]:
    """Every distinct recurrence and function below a function, callers first."""
    seen: set[object] = {function}
    pending: list[Function] = [function]
    while pending:
        for node in walk(pending.pop(0).outputs):
            if not isinstance(node, Invoke):
                continue
            callee: Recurrence | Function | Repeat = node.callee
            for body in callee.bodies if isinstance(callee, Repeat) else (callee,):
                if body not in seen:
                    seen.add(body)
                    yield body
                    pending.extend([body] if isinstance(body, Function) else [])


def _stage(stage: Stage) -> Iterator[str]:
    phase = f", from phase {stage.phase}" if stage.phase else ""
    yield f"    stage {stage.name}: blocks of {stage.block}{phase}"
    for given in stage.inputs:
        padding = format_number(given.padding)
        yield f"        in {format_axes(given.leaf.name, given.leaf.axes)} = {format_expr(given.value)}, else {padding}"
    for leaf, value in stage.pre:
        yield f"        pre {format_axes(leaf.name, leaf.axes)} = {format_expr(value)}"
    for state, update in zip(stage.carried, stage.updates, strict=True):
        yield f"        carry {format_axes(state.name, state.axes)}' = {format_expr(update)}"
    for read in stage.reads:
        yield f"        read {format_axes(read.leaf.name, read.leaf.axes)} = {format_expr(read.value)}"
