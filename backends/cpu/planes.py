"""Complex numbers as pairs of real ones: a recurrence whose every value is real."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from seqc.ir import build
from seqc.ir.build import ONE, ZERO, add, apply, div, mul, neg, sub, where
from seqc.ir.expr import Apply, At, Concat, DType, Expr, Leaf, Put, Reduce, Rename, Scan, Shift, Slice, Take
from seqc.ir.recurrence import Recurrence, State
from seqc.ir.traverse import children, walk, with_children

from .diagnose import Unsupported

Pair = tuple[Expr, Expr]  # the real part and the imaginary part
MOVES = (Rename, Slice, Concat, At, Shift, Take, Put)  # these treat the parts alike

RE, IM = ".re", ".im"


def is_complex(recurrence: Recurrence) -> bool:
    roots = [*recurrence.updates, *recurrence.outputs]
    return any(node.dtype is DType.COMPLEX for node in walk(roots))


def parts(leaf: Leaf) -> tuple[Leaf, ...]:
    """The real leaves that stand for a leaf."""
    if leaf.dtype is not DType.COMPLEX:
        return (leaf,)
    return tuple(Leaf(leaf.kind, leaf.name + part, leaf.over) for part in (RE, IM))


def split_state(state: State) -> tuple[State, ...]:
    if state.dtype is not DType.COMPLEX:
        return (state,)
    values = pairs([state.initial])[0]
    return tuple(
        State(state.name + part, state.axes, value) for part, value in zip((RE, IM), values, strict=True)
    )


def split(recurrence: Recurrence) -> Recurrence:
    """The same recurrence over real numbers: what was complex is two, named `….re` and `….im`."""
    if not is_complex(recurrence):
        return recurrence
    updates = [
        part
        for state, pair in zip(recurrence.states, pairs(recurrence.updates), strict=True)
        for part in (pair if state.dtype is DType.COMPLEX else pair[:1])
    ]
    outputs, returns = list[Expr](), list[tuple[str, ...]]()
    both = zip(recurrence.outputs, recurrence.returns, pairs(recurrence.outputs), strict=True)
    for output, axes, pair in both:
        used = pair if output.dtype is DType.COMPLEX else pair[:1]
        outputs += used
        returns += [axes] * len(used)
    return replace(
        recurrence,
        inputs=tuple(part for leaf in recurrence.inputs for part in parts(leaf)),
        states=tuple(part for state in recurrence.states for part in split_state(state)),
        updates=tuple(updates),
        outputs=tuple(outputs),
        returns=tuple(returns),
        origins={},
    )


def pairs(roots: Iterable[Expr]) -> list[Pair]:
    """The parts of expressions."""
    roots = tuple(roots)
    done: dict[Expr, Pair] = {}
    for node in walk(roots):
        done[node] = _pair(node, [done[child] for child in children(node)])
    return [done[root] for root in roots]


def _pair(node: Expr, below: list[Pair]) -> Pair:
    if isinstance(node, Leaf) and node.dtype is DType.COMPLEX:
        real, imaginary = parts(node)
        return real, imaginary
    if isinstance(node, Apply):
        return _applied(node, below)
    if node.dtype is not DType.COMPLEX:
        return with_children(node, tuple(real for real, _ in below)), ZERO
    if isinstance(node, MOVES) or (isinstance(node, Reduce) and node.op == "sum"):
        if isinstance(node, Take | Put):
            return _moved(node, below[0][0], below[1][0]), _moved(node, below[0][1], below[1][0])
        return _moved(node, *(real for real, _ in below)), _moved(node, *(im for _, im in below))
    if isinstance(node, Scan) and node.columns is None:
        return _scanned(node, *below)
    raise Unsupported(f"there is no loop for `{type(node).__name__.lower()}` of complex numbers")


def _moved(node: Expr, *args: Expr) -> Expr:
    return ZERO if all(arg is ZERO for arg in args[:1]) and len(args) == 1 else with_children(node, args)


def _scanned(node: Scan, decay: Pair, source: Pair) -> Pair:
    """A scan with real gates is one of each part. With complex gates it stays one, of which these are the parts."""
    if decay[1] is ZERO:
        real, imaginary = (ZERO if x is ZERO else with_children(node, (decay[0], x)) for x in source)
        return real, imaginary
    whole = with_children(node, (_joined(decay), _joined(source)))
    return apply("real", whole), apply("imag", whole)


def _joined(x: Pair) -> Expr:
    return x[0] if x[1] is ZERO else apply("complex", *x)


def _applied(node: Apply, below: list[Pair]) -> Pair:
    if node.dtype is not DType.COMPLEX and all(arg.dtype is not DType.COMPLEX for arg in node.args):
        return build.apply(node.op, *(real for real, _ in below)), ZERO
    if node.op in UNARY:
        return UNARY[node.op](below[0])
    if node.op in BINARY:
        return BINARY[node.op](below[0], below[1])
    if node.op == "where":
        condition, yes, no = below
        return where(condition[0], yes[0], no[0]), where(condition[0], yes[1], no[1])
    raise Unsupported(f"there is no loop for `{node.op}` of complex numbers")


def _product(x: Pair, y: Pair) -> Pair:
    return sub(mul(x[0], y[0]), mul(x[1], y[1])), add(mul(x[0], y[1]), mul(x[1], y[0]))


def _quotient(x: Pair, y: Pair) -> Pair:
    if y[1] is ZERO:
        return div(x[0], y[0]), div(x[1], y[0])
    size = add(mul(y[0], y[0]), mul(y[1], y[1]))
    real, imaginary = _product(x, (y[0], neg(y[1])))
    return div(real, size), div(imaginary, size)


def _turned(size: Expr, angle: Expr) -> Pair:
    return mul(size, apply("cos", angle)), mul(size, apply("sin", angle))


def _size(x: Pair) -> Pair:
    """The absolute value, whose derivative at 0 is 0."""
    if x[1] is ZERO:
        return apply("abs", x[0]), ZERO
    square = add(mul(x[0], x[0]), mul(x[1], x[1]))
    positive = apply("gt", square, ZERO)
    return where(positive, apply("sqrt", where(positive, square, ONE)), ZERO), ZERO


def _equal(x: Pair, y: Pair) -> Pair:
    return apply("and", apply("eq", x[0], y[0]), apply("eq", x[1], y[1])), ZERO


UNARY: dict[str, Callable[[Pair], Pair]] = {
    "neg": lambda x: (neg(x[0]), neg(x[1])),
    "exp": lambda x: _turned(apply("exp", x[0]), x[1]),
    "abs": _size,
    "stop_gradient": lambda x: (apply("stop_gradient", x[0]), apply("stop_gradient", x[1])),
    "real": lambda x: (x[0], ZERO),
    "imag": lambda x: (x[1], ZERO),
    "conj": lambda x: (x[0], neg(x[1])),
}

BINARY: dict[str, Callable[[Pair, Pair], Pair]] = {
    "add": lambda x, y: (add(x[0], y[0]), add(x[1], y[1])),
    "sub": lambda x, y: (sub(x[0], y[0]), sub(x[1], y[1])),
    "mul": _product,
    "div": _quotient,
    "eq": _equal,
    "ne": lambda x, y: (apply("not", _equal(x, y)[0]), ZERO),
    "complex": lambda x, y: (x[0], y[0]),
    "polar": lambda r, angle: _turned(r[0], angle[0]),
}
