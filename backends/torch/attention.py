"""Printing rules with growing stores: what every token reads from all the entries it sees."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seqc.ir import build
from seqc.ir.expr import Apply, Axes, Const, DType, Expr, Leaf, LeafKind, Rank, Reduce, Softmax
from seqc.ir.recurrence import Recurrence, Store
from seqc.ir.traverse import children, leaves, rewrite, substitute, walk
from seqc.passes.derive import pullback
from seqc.passes.forms.stage import hoist

from .diagnose import Unsupported
from .expressions import Scope
from .layout import split_statement
from .names import RESERVED, Names
from .primitives import ATOM, number
from .reading import operands
from .softmax import GROWING, SoftmaxRead, find_softmax
from .splice import pieces
from .values import Value

TIME = "%t"
WIDTH = 110
LOWEST = Const(float("-inf"))


def store_axis(rec: Recurrence) -> str:
    """The axis along which all stores of a rule grow; its states must not read them."""
    if any(leaf.kind in GROWING for leaf in leaves(rec.updates)):
        raise Unsupported("a state whose update reads a growing store")
    axes = {store.axis for store in rec.stores}
    windows = {(store.window, store.sinks) for store in rec.stores}
    if len(axes) != 1 or len(windows) != 1:
        raise Unsupported("stores of a rule that grow along several axes")
    return axes.pop()


def masked(roots: Sequence[Expr], axis: str, time: Axes) -> tuple[Expr, ...]:
    """Reductions along the growing axis see the visible entries only, and this is written out.

    An exponential is hidden before it can overflow: infinity times 0 would be no number in the gradient.
    """
    now = Leaf(LeafKind.READ, "%visible", (*time, axis), DType.BOOL)
    before = Leaf(LeafKind.READ, "%earlier", (*time, axis), DType.BOOL)

    def rule(node: Expr) -> Expr | None:
        if isinstance(node, Rank) and node.axis == axis:
            return Rank(axis, build.where(_seen(node, now, before), node.arg, LOWEST))
        if isinstance(node, Apply) and node.op == "exp" and axis in node.axes:
            return build.apply("exp", build.where(_seen(node, now, before), node.args[0], LOWEST))
        if isinstance(node, Softmax | Reduce) and axis in node.over:
            mask = _seen(node, now, before)
            if isinstance(node, Softmax):
                return Softmax(node.over, build.where(mask, node.arg, LOWEST))
            if node.op == "max":
                return Reduce("max", node.over, build.where(mask, node.arg, LOWEST))
            if not _weighted(node, axis):
                return Reduce("sum", node.over, build.where(mask, node.arg, Const(0)))
        return None

    return rewrite(roots, rule)


def _seen(node: Expr, now: Leaf, before: Leaf) -> Leaf:
    return before if any(leaf.kind is LeafKind.STORE for leaf in leaves([node])) else now


def _weighted(node: Reduce, axis: str) -> bool:
    """Whether a sum has a factor that is 0 at entries that are not visible."""
    return any(isinstance(f, Softmax) and axis in f.over for f in operands(node, {}))


# --- one token ------------------------------------------------------------------------------------------------------


def print_store_token(rec: Recurrence, scope: Scope) -> tuple[list[str], tuple[Expr, ...]]:
    """Append the token's entries; the state entries, and the outputs with masks written out."""
    axis = store_axis(rec)
    store = rec.stores[0]
    names = scope.names
    values = scope.emit([s.value for s in rec.stores])
    results: list[str] = []
    scope.lines.append(f'count = state["{store.name}.count"] + 1')
    for s, value in zip(rec.stores, values, strict=True):
        name = names.fresh(s.name)
        entry = scope.full(value, s.axes, f"*{scope.like}.shape[:1], ").at(ATOM)
        scope.line(f'{name} = torch.cat([state["{s.name}"], {entry}[:, None]], 1)')
        for leaf in (s.leaf, s.next):
            scope.bind(leaf, name, axes=(axis, *s.axes))
        kept = name if s.window is None else f"kept({name}, count, {s.window}, {s.sinks})"
        results += [f'"{s.name}": {kept}', f'"{s.name}.count": count']
    first = scope.known[store.next].code.text
    total = f"{first}.shape[1]" if not store.sinks else f"{first}.shape[1] - {store.sinks}"
    scope.line(f"now = {total} - 1")
    more = f"{store.window}, {store.sinks}"
    scope.line(f"visible, age = seen(now + 1 - count[:, None], now, 0, {first}.shape[1], {more})")
    outputs = masked(rec.outputs, axis, ())
    bind_masks(scope, outputs, axis, (), "visible[:, 0]", "age[:, 0]")
    return results, outputs


def bind_masks(scope: Scope, roots: Sequence[Expr], axis: str, time: Axes, visible: str, age: str) -> None:
    axes = (*time, axis)
    scope.bind(Leaf(LeafKind.READ, "%visible", axes, DType.BOOL), visible, axes=axes)
    earlier = Leaf(LeafKind.READ, "%earlier", axes, DType.BOOL)
    used = leaves(roots)
    if earlier in used:
        scope.bind(earlier, f"({visible} & ({age} > 0.0))", axes=axes)
    for leaf in used:
        if leaf.kind is LeafKind.AGE:
            scope.bind(leaf, f"{age}.to({scope.like}.dtype)", axes=axes)


# --- a whole sequence -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PrintedAttention:
    """The class, the operator's name, and what the operator is given and gives, at token level."""

    text: list[str]
    operator: str
    queries: tuple[Expr, ...]
    outputs: tuple[Leaf, ...]
    kind: str | None = None  # the class, if it is a `SoftmaxAttention`


def print_attention(
    rec: Recurrence, outputs: Sequence[Expr], class_name: str, operator: str
) -> PrintedAttention:
    """The class that reads the stores for a stretch of queries."""
    axis = store_axis(rec)
    softmax = find_softmax(rec, outputs)
    outputs = outputs if softmax is None else [softmax.expr]
    growing = [leaf for leaf in leaves(outputs) if leaf.kind in GROWING]
    queries = _queries(outputs, growing)
    if softmax is not None and queries != [softmax.query]:
        softmax = None
    names = Names({*RESERVED, *pieces(), "visible", "age"})
    wide: dict[Expr, Expr] = {}
    known: dict[Leaf, str] = {}
    for expr in queries:
        hint = expr.name if isinstance(expr, Leaf) else "query"
        leaf = Leaf(LeafKind.READ, f"query.{len(known)}", (TIME, *expr.axes), expr.dtype)
        known[leaf] = names.fresh(hint.split(".")[-1])
        wide[expr] = leaf
    for leaf in growing:
        if leaf.kind is LeafKind.AGE:
            wide[leaf] = Leaf(LeafKind.AGE, leaf.name, (TIME, axis))
    entries = [s.next for s in rec.stores]
    for store in rec.stores:
        known[store.next] = names.fresh(store.name)
    exprs = masked(substitute(outputs, wide), axis, (TIME,))
    exprs = substitute(exprs, {s.leaf: s.next for s in rec.stores})
    results = [
        Leaf(LeafKind.READ, f"attention.{k}", axes, e.dtype)
        for k, (e, axes) in enumerate(zip(outputs, rec.returns, strict=True))
    ]
    names_out = [names.fresh("read" if len(results) == 1 else "read1") for _ in results]
    cotangents = [Leaf(LeafKind.COTANGENT, leaf.name, (TIME, *leaf.axes), leaf.dtype) for leaf in results]
    flowing: dict[Expr, Expr] = {}
    for expr, leaf in zip(exprs, cotangents, strict=True):
        g = build.match_axes(leaf, expr.axes)
        flowing[expr] = build.add(flowing[expr], g) if expr in flowing else g
    targets = list(known)
    back = pullback(flowing, targets)
    printer = _Printer(rec, _order(rec, exprs, back, axis, queries), axis, known)
    base = "Attention" if softmax is None else "SoftmaxAttention"
    lines = [f"class {class_name}({base}):", f'    """{_about(rec)}"""', ""]
    store = rec.stores[0]
    if store.window is not None:
        lines.append(f"    window = {store.window}")
    if store.sinks:
        lines.append(f"    sinks = {store.sinks}")
    query_names = [(known[leaf], leaf.axes) for leaf in known if leaf not in entries]
    lines += printer.table("queries", query_names)
    lines += printer.table("entries", [(known[s.next], (axis, *s.axes)) for s in rec.stores])
    lines += printer.table(
        "outputs", [(n, (TIME, *leaf.axes)) for n, leaf in zip(names_out, results, strict=True)]
    )
    wanted = [(n, e, (TIME, *leaf.axes)) for n, e, leaf in zip(names_out, exprs, results, strict=True)]
    if softmax is None:
        lines += printer.function("attend", wanted, {})
    else:
        lines += _print_softmax(softmax, known, known[next(iter(known))], names_out[0])
    grads = [
        (known[leaf], g, leaf.axes) for leaf, g in zip(targets, back, strict=True) if g is not build.ZERO
    ]
    lines += printer.function(
        "back", grads, {g: f"d_{n}" for g, n in zip(cotangents, names_out, strict=True)}
    )
    key = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
    lines += [
        "",
        "",
        *split_statement(f'{operator} = attention({class_name}, "{operator}_{key}")', WIDTH),
        "",
        "",
    ]
    kind = None if softmax is None else class_name
    return PrintedAttention(lines, operator, tuple(queries), tuple(results), kind)


def _print_softmax(softmax: SoftmaxRead, known: Mapping[Leaf, str], query: str, out: str) -> list[str]:
    """`attend` by PyTorch's own attention; without `visible` every query sees all entries up to its own."""
    key, value = known[softmax.key], known[softmax.value]
    head = f"def attend({query}: Tensor, {key}: Tensor, {value}: Tensor, visible: Tensor | None) -> Values:"
    text = f"softmax_read({query}, {key}, {value}, visible, {number(softmax.scale).text})"
    return [
        "",
        "    @staticmethod",
        *split_statement(head, WIDTH, 4),
        *split_statement(f'return {{"{out}": {text}}}', WIDTH, 8),
    ]


def _about(rec: Recurrence) -> str:
    store: Store = rec.stores[0]
    if store.window is None:
        return "Reads of all tokens so far."
    return f"Reads of the last {store.window} tokens" + (
        f" and the first {store.sinks}." if store.sinks else "."
    )


def _queries(outputs: Sequence[Expr], growing: Sequence[Leaf]) -> list[Expr]:
    """What a token brings to its reads: the largest values that need no store, and leaves beside them."""
    found: list[Expr] = [expr for _, expr in hoist(outputs, growing, "query")]
    stack, seen = list(outputs), set[Expr]()
    while stack:
        node = stack.pop()
        if node in seen or node in found:
            continue
        seen.add(node)
        if isinstance(node, Leaf) and node not in growing and node not in found:
            found.append(node)
        stack.extend(children(node))
    return found


def _order(
    rec: Recurrence, exprs: Sequence[Expr], back: Sequence[Expr], axis: str, queries: Sequence[Expr]
) -> dict[str, int]:
    """Axes that all reads keep apart, then queries against entries, then what is summed or read."""
    summed = {a for node in walk(exprs) if isinstance(node, Reduce) for a in node.over}
    asked = [a for expr in queries for a in expr.axes]
    shared = [a for store in rec.stores for a in store.axes]
    first = [a for a in dict.fromkeys([*(a for a in shared if a in asked), *asked]) if a not in summed]
    found = dict.fromkeys(a for node in walk([*exprs, *back]) for a in node.axes)
    rest = [a for a in found if a not in first and a not in (TIME, axis)]
    return {a: k for k, a in enumerate([*first, TIME, axis, *rest])}


@dataclass(slots=True)
class _Printer:
    rec: Recurrence
    order: dict[str, int]
    axis: str
    known: Mapping[Leaf, str]

    def sorted(self, axes: Axes) -> Axes:
        return tuple(sorted(axes, key=lambda a: self.order[a]))

    def table(self, name: str, rows: Sequence[tuple[str, Axes]]) -> list[str]:
        slots: list[str] = []
        for key, axes in rows:
            shape = tuple(self.rec.sizes[a] for a in axes if a not in (TIME, self.axis))
            slots.append(f'"{key}": Slot({shape}, {tuple(axes.index(a) for a in self.sorted(axes))})')
        return split_statement(f"{name} = {{{', '.join(slots)}}}", WIDTH, 4)

    def function(
        self, name: str, results: Sequence[tuple[str, Expr, Axes]], more: Mapping[Leaf, str]
    ) -> list[str]:
        roots = [e for _, e, _ in results]
        used = leaves(roots)
        known = {**self.known, **more}
        parameters = [text for leaf, text in known.items() if leaf in used]
        if not parameters:
            parameters = [next(iter(known.values()))]
        special = [w for w in ("visible", "age") if any(_is(leaf, w) for leaf in used)]
        names = Names({*RESERVED, *pieces(), *parameters, "visible", "age"})
        sizes = {k: v for k, v in self.rec.sizes.items() if k != self.axis}
        scope = Scope(names, self.order, sizes, parameters[0], width=WIDTH - 8)
        for leaf, text in known.items():
            if leaf in used:
                scope.bind(leaf, text, axes=self.sorted(leaf.axes))
        bind_masks(scope, roots, self.axis, (TIME,), "visible", "age")
        values = scope.emit(roots, [None if n not in parameters else f"d_{n}" for n, _, _ in results])
        texts = [self._full(scope, v, axes) for v, (_, _, axes) in zip(values, results, strict=True)]
        head = ", ".join(f"{p}: Tensor" for p in [*parameters, *special])
        body = ", ".join(f'"{n}": {t}' for (n, _, _), t in zip(results, texts, strict=True))
        return [
            "",
            "    @staticmethod",
            *split_statement(f"def {name}({head}) -> Values:", WIDTH, 4),
            *(f"        {line}" for line in scope.lines),
            *split_statement(f"return {{{body}}}", WIDTH, 8),
        ]

    def _full(self, scope: Scope, value: Value, axes: Axes) -> str:
        named = (v for v in scope.known.values() if v.lead and v.code.text.isidentifier())
        like = next((v.code.text for v in named if TIME in v.axes), scope.like)
        return scope.full(value, self.sorted(axes), f"{like}.shape[0], ").text


def _is(leaf: Leaf, word: str) -> bool:
    if word == "age":
        return leaf.kind is LeafKind.AGE or leaf.name == "%earlier"
    return leaf.name in ("%visible", "%earlier")
