"""Printing a stage: the subclass of `runtime.stages.Stage` that says what happens in a block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from seqc.ir import build
from seqc.ir.expr import Axes, DType, Expr, Leaf, LeafKind, Reduce, Size
from seqc.ir.plan import BETWEEN, FRESH, OTHER, RESTART, TOKEN, VALID, Adjoint, Stage
from seqc.ir.traverse import leaves, substitute, walk
from seqc.passes.forms.stage import varies  # the one definition of what is constant in time

from .expressions import Scope
from .layout import split_statement
from .names import RESERVED, Names, class_name
from .reading import distribute, operands
from .sharing import share
from .splice import pieces
from .values import Value, hint_for

BATCH, BLOCK = "%batch", "%block"  # leading dimensions, where a sum over them is printed as a contraction
WIDTH = 110


@dataclass(slots=True)
class StagePrinter:
    """Prints one stage; `names` maps the leaves of its expressions to parameters of its functions."""

    stage: Stage
    adjoint: Adjoint | None
    order: dict[str, int]
    names: dict[Leaf, str] = field(default_factory=dict[Leaf, str])
    constants: set[Leaf] = field(default_factory=set[Leaf])
    taken: Names = field(default_factory=lambda: Names({*RESERVED, *pieces()}))

    def name(self, leaf: Leaf, hint: str) -> str:
        if leaf not in self.names:
            self.names[leaf] = self.taken.fresh(hint)
        return self.names[leaf]

    def reserve(self, leaf: Leaf, name: str) -> None:
        """Give a leaf a name of our own."""
        self.names[leaf] = name
        self.taken.taken.add(name)


def print_stage(stage: Stage, adjoint: Adjoint | None, class_text: str, doc: str) -> list[str]:
    """The class of a stage, and the names of its inputs in order."""
    stage, adjoint = share(stage, adjoint)
    printer = StagePrinter(stage, adjoint, axis_order(stage, adjoint))
    _name_leaves(printer)
    base = "NewtonStage" if stage.newton is not None else "Stage" if stage.phase is None else "PhaseStage"
    lines = [f"class {class_text}({base}):", f'    """{doc}"""', ""]
    lines += _tables(printer)
    lines += _function(printer, "pre", [(printer.names[leaf], expr, leaf.axes) for leaf, expr in stage.pre])
    after = [(printer.names[s.leaf], u, s.axes) for s, u in zip(stage.carried, stage.updates, strict=True)]
    lines += _function(printer, "update", after, full=True)
    if stage.newton is not None:
        slopes = [
            (f"{printer.names[s.leaf]}/{printer.names[by.leaf]}", e, s.axes)
            for s, by, e in stage.newton.slopes
        ]
        lines += _function(printer, "tangent", [*after, *slopes], full=True)
    reads = [(printer.names[r.leaf], r.value, _token_axes(stage, r.leaf)) for r in stage.reads]
    lines += _function(printer, "reads", reads, full=True)
    if adjoint is not None:
        lines += _reverse(printer, adjoint)
    return lines


def _reverse(printer: StagePrinter, adjoint: Adjoint) -> list[str]:
    stage, names = printer.stage, printer.names
    lines = _function(printer, "back_pre", [(names[leaf], expr, leaf.axes) for leaf, expr in adjoint.pre])

    def states(exprs: Sequence[Expr]) -> list[tuple[str, Expr, Axes]]:
        return [
            (f"d_{names[s.leaf]}", e, s.axes)
            for s, e in zip(stage.carried, exprs, strict=True)
            if e is not build.ZERO
        ]

    lines += _function(printer, "direct", states(adjoint.direct), full=True)
    lines += _function(printer, "back", states(adjoint.steps), full=True)
    pairs = [
        (names[item.leaf], expr, item)
        for item, expr in zip(stage.inputs, adjoint.inputs, strict=True)
        if expr is not build.ZERO and _is_differentiable(item.value)
    ]
    results = [(name, expr, item.leaf.axes) for name, expr, item in pairs if not item.constant]
    summed = [(name, expr, item.leaf.axes) for name, expr, item in pairs if item.constant]
    return lines + _function(printer, "cotangents", results, full=True, summed=summed)


def _is_differentiable(value: Expr) -> bool:
    """Whether anything that could be differentiated leads to an input: not to what says where resets are."""
    return value.dtype is not DType.BOOL and any(leaf.dtype is not DType.BOOL for leaf in leaves([value]))


# --- names and tables ---------------------------------------------------------------------------------------------


def _name_leaves(printer: StagePrinter) -> None:
    stage, adjoint = printer.stage, printer.adjoint
    for state in stage.carried:
        printer.name(state.leaf, state.name)
    for item in stage.inputs:
        printer.name(item.leaf, input_hint(item.value))
        if item.constant:
            printer.constants.add(item.leaf)
    if stage.phase is not None:
        for name, axes in ((VALID, (TOKEN,)), (FRESH, ()), (RESTART, ())):
            printer.reserve(Leaf(LeafKind.READ, name, axes), name[1:])
    for read in stage.reads:
        printer.name(read.leaf, "read" if len(stage.reads) == 1 else "read1")
    for leaf, expr in (*stage.pre, *(adjoint.pre if adjoint else ())):
        printer.name(leaf, hint_for(expr))
        if all(below in printer.constants for below in leaves([expr])):
            printer.constants.add(leaf)
    if adjoint is not None:
        _name_cotangents(printer, adjoint)


def _name_cotangents(printer: StagePrinter, adjoint: Adjoint) -> None:
    roots = [*adjoint.direct, *adjoint.steps, *adjoint.inputs, *(e for _, e in adjoint.pre)]
    for leaf in sorted(leaves(roots), key=lambda leaf: leaf.name):
        if leaf.kind is LeafKind.COTANGENT:
            known = [k for k in printer.names if k.name == leaf.name and _answers(k, printer.stage)]
            printer.reserve(leaf, f"d_{printer.names[known[0]]}")


def _answers(known: Leaf, stage: Stage) -> bool:
    """Whether a cotangent belongs to a state or a read of that name."""
    if known.kind is LeafKind.STATE:
        return True
    return any(read.leaf is known for read in stage.reads)


def input_hint(value: Expr) -> str:
    """What to call an input of a stage."""
    if isinstance(value, Leaf):
        return value.name.split(".")[-1]
    named = [leaf.name for leaf in walk([value]) if isinstance(leaf, Leaf) and leaf.name[0] != "%"]
    return f"{named[0].split('.')[-1]}_in" if named else "value"


def _token_axes(stage: Stage, leaf: Leaf) -> Axes:
    return leaf.axes if stage.block == 1 else (TOKEN, *leaf.axes)


def _tables(printer: StagePrinter) -> list[str]:
    stage, names = printer.stage, printer.names
    token = () if stage.block == 1 else (TOKEN,)
    lines = [f"    block = {stage.block}"]
    inputs = [
        (names[i.leaf], _slot(printer, i.leaf.axes if i.constant else (*token, *_without_token(i.leaf)), i))
        for i in stage.inputs
    ]
    lines += _table("inputs", inputs)
    lines += _table("carried", [(names[s.leaf], _slot(printer, s.axes)) for s in stage.carried])
    outputs = [
        (names[r.leaf], _slot(printer, (*token, *r.leaf.axes), None, r.leaf.dtype is DType.COMPLEX))
        for r in stage.reads
    ]
    lines += _table("outputs", outputs)
    lines += _names(
        "constants", [names[leaf] for leaf in printer.constants if leaf not in {i.leaf for i in stage.inputs}]
    )
    if stage.phase is not None:
        counter = next(names[s.leaf] for s in stage.carried if s.name == stage.phase)
        lines.append(f'    phase = "{counter}"')
        lines += _names("masked", [names[item.leaf] for item in stage.inputs if item.masked])
    if stage.newton is not None:
        facts = stage.newton
        lines += [f"    {name} = {getattr(facts, name)}" for name in ("exact", "limit", "tolerance")]
    return lines


def _names(table: str, names: Sequence[str]) -> list[str]:
    text = f"{table} = frozenset({{{', '.join(map(_quoted, sorted(names)))}}})"
    return split_statement(text, WIDTH, 4) if names else []


def _without_token(leaf: Leaf) -> Axes:
    return tuple(a for a in leaf.axes if a != TOKEN)


def _quoted(text: str) -> str:
    return f'"{text}"'


def _slot(printer: StagePrinter, axes: Axes, item: object = None, is_complex: bool = False) -> str:
    from seqc.ir.plan import StageInput

    arranged = sorted(axes, key=lambda a: printer.order[a])
    shape = tuple(printer.stage.sizes[a] for a in axes if a != TOKEN)
    parts = [str(shape), str(tuple(axes.index(a) for a in arranged))]
    if isinstance(item, StageInput):
        if item.padding:
            parts.append(_padding(item.padding))
        if item.constant:
            parts.append("constant=True")
    if is_complex:
        parts.append("complex=True")
    return f"Slot({', '.join(parts)})"


def _padding(value: float) -> str:
    from .primitives import number

    return number(value).text


def _table(name: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    text = f"{name} = {{{', '.join(f'{_quoted(key)}: {value}' for key, value in rows)}}}"
    return split_statement(text, WIDTH, 4)


# --- functions ----------------------------------------------------------------------------------------------------


def _function(
    printer: StagePrinter,
    name: str,
    results: Sequence[tuple[str, Expr, Axes]],
    full: bool = False,
    summed: Sequence[tuple[str, Expr, Axes]] = (),
) -> list[str]:
    """A static method that returns a dict of `results`; `full`: every result has all of its axes."""
    used = [leaf for leaf in leaves([e for _, e, _ in (*results, *summed)]) if leaf in printer.names]
    order = {leaf: k for k, leaf in enumerate(printer.names)}
    used.sort(key=lambda leaf: order[leaf])
    parameters = [printer.names[leaf] for leaf in used]
    numbers = [leaf for leaf in (*used, *printer.names) if leaf.dtype is not DType.BOOL]
    like = printer.names[numbers[0]] if numbers else "like"
    if results and like not in parameters:
        parameters.append(like)
    scope = _scope(printer, used, parameters, like)
    values = scope.emit([e for _, e, _ in results], [_variable(name, n) for n, _, _ in results])
    texts = [_result(printer, scope, v, axes, full) for v, (_, _, axes) in zip(values, results, strict=True)]
    texts += _sums(printer, scope, used, summed)
    names = [n for n, _, _ in (*results, *summed)]
    body = f"return {{{', '.join(f'{_quoted(n)}: {t}' for n, t in zip(names, texts, strict=True))}}}"
    typed = ", ".join(f"{p}: Tensor" for p in parameters)
    return [
        "",
        "    @staticmethod",
        *split_statement(f"def {name}({typed}) -> Values:", WIDTH, 4),
        *(f"        {line}" for line in scope.lines),
        *split_statement(body, WIDTH, 8),
    ]


def _variable(function: str, result: str) -> str:
    """What a function calls a result before it returns it."""
    if "/" in result:
        return result.replace("/", "_by_")
    if function == "cotangents":
        return f"d_{result}"
    return f"{result}_new" if function in ("update", "tangent") else result


def _scope(printer: StagePrinter, used: Iterable[Leaf], parameters: Sequence[str], like: str) -> Scope:
    names = Names({*RESERVED, *pieces(), *parameters})
    scope = Scope(names, printer.order, printer.stage.sizes, like, autograd=False, width=WIDTH - 8)
    for leaf in used:
        axes = tuple(sorted(leaf.axes, key=lambda a: printer.order[a]))
        constant = leaf in printer.constants
        if leaf.kind is LeafKind.COTANGENT and _sums_tokens(printer.stage, leaf):
            axes = tuple(sorted((TOKEN, *leaf.axes), key=lambda a: printer.order[a]))
            whole = f"{printer.names[leaf]}.sum({axes.index(TOKEN) - len(axes)})"
            scope.bind(leaf, whole, axes=tuple(a for a in axes if a != TOKEN))
            continue
        scope.bind(leaf, printer.names[leaf], lead=not constant, axes=leaf.axes if constant else axes)
    return scope


def _sums_tokens(stage: Stage, leaf: Leaf) -> bool:
    """Whether a cotangent is that of a result that is the same at all tokens of a block."""
    return stage.block != 1 and TOKEN not in leaf.axes and any(r.leaf.name == leaf.name for r in stage.reads)


def _result(printer: StagePrinter, scope: Scope, value: Value, axes: Axes, full: bool) -> str:
    axes = tuple(sorted(axes, key=lambda a: printer.order[a]))
    if not full:
        if value.code.number:
            return f"torch.tensor({value.code.text})"
        return scope.arranged(value, tuple(a for a in axes if a in value.axes)).code.text
    if value.lead and set(value.axes) == set(axes):
        return scope.arranged(value, axes).code.text
    return scope.expanded(value, axes, scope.like, _lead(printer, scope))


def _lead(printer: StagePrinter, scope: Scope) -> str:
    """Text of the leading dimensions, read off a value that has them."""
    for known in scope.known.values():
        if known.lead and known.code.text.isidentifier():
            shape = f"{known.code.text}.shape"
            return f"*{shape}[:-{len(known.axes)}], " if known.axes else f"*{shape}, "
    raise AssertionError(f"nothing in stage {printer.stage.name} varies")


def _sums(
    printer: StagePrinter, scope: Scope, used: Sequence[Leaf], summed: Sequence[tuple[str, Expr, Axes]]
) -> list[str]:
    """Cotangents of constants: contracted over batch and blocks as well."""
    if not summed:
        return []
    wide: dict[Expr, Expr] = {}
    order = {BATCH: -2, BLOCK: -1, **printer.order}
    inner = Scope(scope.names, order, printer.stage.sizes, scope.like, autograd=False, width=scope.width)
    inner.lines = scope.lines
    for leaf in used:
        value = scope.known[leaf]
        if not value.lead:
            inner.known[leaf] = value
            continue
        twin = Leaf(leaf.kind, leaf.name, (BATCH, BLOCK, *leaf.over), leaf.number)
        wide[leaf] = twin
        inner.bind(twin, value.code.text, False, (BATCH, BLOCK, *value.axes))
    exprs = substitute([e for _, e, _ in summed], wide)
    totals = [_merged_sum(build.sum_over((BATCH, BLOCK), e)) for e in exprs]
    values = inner.emit(totals)
    return [
        inner.arranged(v, axes).code.text
        if set(v.axes) == set(axes)
        else inner.expanded(v, axes, scope.like, "")
        for v, (_, _, axes) in zip(values, summed, strict=True)
    ]


def _merged_sum(expr: Expr) -> Expr:
    """Sums of sums as one sum, and sums of sums of products taken apart, so that each is one contraction."""
    if isinstance(expr, Reduce) and expr.op == "sum":
        arg = expr.arg
        if isinstance(arg, Reduce) and arg.op == "sum":
            return _merged_sum(Reduce("sum", (*expr.over, *arg.over), arg.arg))
        apart = distribute(expr)
        return expr if apart is None else _merged_sum(apart)
    return expr


# --- the order of axes --------------------------------------------------------------------------------------------


def axis_order(stage: Stage, adjoint: Adjoint | None) -> dict[str, int]:
    """Axes that stack matrices first, then the tokens of a block, then the others."""
    roots: list[Expr] = [*(e for _, e in stage.pre), *stage.updates, *(r.value for r in stage.reads)]
    if adjoint is not None:
        roots += [*(e for _, e in adjoint.pre), *adjoint.direct, *adjoint.steps, *adjoint.inputs]
    if stage.newton is not None:
        roots += [slope for _, _, slope in stage.newton.slopes]
    nodes = list(walk(roots))
    found: list[str] = []
    known = (
        [s.axes for s in stage.carried]
        + [i.leaf.axes for i in stage.inputs]
        + [r.leaf.axes for r in stage.reads]
    )
    for axes in [*known, *(n.axes for n in nodes)]:
        found.extend(a for a in axes if a not in found)
    stacked, inner = _votes(nodes)
    tokens = [TOKEN, OTHER, BETWEEN]
    first = [a for a in found if a in stacked - inner and a not in tokens]
    rest = [a for a in found if a not in first and a not in tokens]
    return {axis: k for k, axis in enumerate([*first, *tokens, *rest])}


def _votes(nodes: Iterable[Expr]) -> tuple[set[str], set[str]]:
    """Axes that matrix products keep apart, and axes that they contract or that only one of their factors has."""
    stacked: set[str] = set()
    inner: set[str] = set()
    for node in nodes:
        if not isinstance(node, Reduce) or node.op != "sum":
            continue
        factors = [set(f.axes) for f in operands(node, {})]
        union = set[str]().union(*factors)
        if union in factors or not any(a - b and b - a for a in factors for b in factors):
            continue  # a product that has all axes is summed as it is
        for axis in union:
            alone = sum(axis in f for f in factors) == 1
            (inner if alone or axis in node.over else stacked).add(axis)
    return stacked, inner


def stage_class(prefix: str, stage: Stage) -> str:
    return class_name(f"{prefix}_{stage.name}_stage")


__all__ = ["Mapping", "Size", "axis_order", "print_stage", "stage_class", "varies"]
