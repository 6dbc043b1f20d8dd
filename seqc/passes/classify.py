"""The class of every state, read off its axes, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seqc.ir.build import ONE, ZERO
from seqc.ir.expr import Apply, DType, Expr, LeafKind
from seqc.ir.plan import Class
from seqc.ir.recurrence import Recurrence, State
from seqc.ir.text import format_expr
from seqc.ir.traverse import leaves, walk
from seqc.passes.canonical import canonical
from seqc.passes.forms.held import find_held
from seqc.passes.forms.max_plus import max_plus_form
from seqc.passes.groups import components, inlined, merge_coupled
from seqc.passes.jacobian import is_entrywise
from seqc.passes.linear import Affine, NotAffine, RankOne, read_affine
from seqc.source import Span

NAMES = {
    "K0": "delay",
    "K1": "diagonal affine",
    "K2": "matrix with a scalar decay",
    "K3": "matrix with a diagonal decay",
    "K4": "identity minus rank one",
    "K5": "diagonal plus low rank",
    "K6": "dense affine",
    "K7": "complex diagonal",
    "K8": "log-sum-exp",
    "K9": "max-plus",
    "K10": "nonlinear, elementwise",
    "K11": "nonlinear",
    "K12": "held gradient",
    "K14": "two states (momentum)",
    "K16": "growing set",
}


def classify(recurrence: Recurrence) -> tuple[Class, ...]:
    """The classes of a recurrence's states and stores, in the order in which they are solved."""
    held = find_held(recurrence)
    classes: list[Class] = []
    if held is not None:
        momentum = any(len(group.states) > 1 for group in held.groups)
        names = tuple(s.name for s in recurrence.states)
        reason = f"the gradient is held for {held.period} tokens, between which the memory is affine in its own past"
        if momentum:
            reason += ", and so is its velocity"
        code = "K12"
        name = f"{NAMES['K12']}, {NAMES['K14']}" if momentum else NAMES["K12"]
        return (Class(code, name, names, reason, _origin(recurrence, list(held.now.values()))),)
    updates = recurrence.updates_by_name
    for group in merge_coupled(components(recurrence.states, updates), updates):
        classes.append(_classify_group(recurrence, group, updates, classes))
    for store in recurrence.stores:
        kept = (
            "every token adds an entry"
            if store.window is None
            else f"the last {store.window} tokens are kept"
        )
        reason = f"`{store.name}` is a set along `{store.axis}`: {kept}"
        classes.append(Class("K16", NAMES["K16"], (store.name,), reason))
    return tuple(classes)


def _classify_group(
    recurrence: Recurrence, group: list[State], updates: Mapping[str, Expr], before: Sequence[Class]
) -> Class:
    exprs = inlined(group, updates)
    names = tuple(state.name for state in group)
    span = _origin(recurrence, [updates[name] for name in names])
    if any(leaf.kind in (LeafKind.STORE, LeafKind.STORED) for leaf in leaves(exprs)):
        return Class("K11", NAMES["K11"], names, "the state depends on the entries of a growing set", span)
    try:
        affine = read_affine(group, exprs)
    except NotAffine as reason:
        return _not_affine(recurrence, group, exprs, reason, span)
    code, why = _affine_class(recurrence, affine, before)
    return Class(code, NAMES[code], names, why, span)


def _affine_class(recurrence: Recurrence, affine: Affine, before: Sequence[Class]) -> tuple[str, str]:
    primes = ", ".join(f"{state.name}'" for state in affine.states)
    verb = "are" if len(affine.states) > 1 else "is"
    plain = ", ".join(state.name for state in affine.states)
    if len(affine.states) > 1:
        terms = f" plus {_count(affine.rank_ones)}" if affine.rank_ones else ""
        return "K14", f"{primes} {verb} affine in {plain} together, a small matrix of gates{terms}"
    state = next(iter(affine.states))
    decay = affine.decay(state)
    if not affine.diagonal and not affine.rank_ones:
        return "K0", f"{primes} does not depend on {plain}"
    gate = _gate(decay, state, recurrence)
    if affine.rank_ones:
        symmetric = all(_parallel(term) for term in affine.rank_ones)
        scalar = not _own_gate_axes(decay, state, recurrence)
        code = "K4" if symmetric and scalar else "K5"
        return code, f"{primes} is affine in {plain}: {gate}, plus {_count(affine.rank_ones)}"
    if state.dtype is DType.COMPLEX:
        return "K7", f"{primes} is affine in {plain} over the complex numbers: {gate}"
    if _shifted_exponential(decay, before) and len(_declared(state, recurrence)) <= 1:
        return "K8", f"{primes} is affine in {plain} with {gate}, which a max-plus state keeps at most 1"
    own = _own_gate_axes(decay, state, recurrence)
    declared = _declared(state, recurrence)
    if len(declared) < 2 or own >= set(declared):
        return "K1", f"{primes} is affine in {plain}: {gate}"
    return ("K3" if own else "K2"), f"{primes} is affine in {plain}: {gate}"


def _declared(state: State, recurrence: Recurrence) -> tuple[str, ...]:
    """The axes of a state that are the rule's own."""
    return tuple(axis for axis in state.axes if axis not in recurrence.mapped)


def _own_gate_axes(decay: Expr, state: State, recurrence: Recurrence) -> set[str]:
    return set(decay.axes) & set(_declared(state, recurrence))


def _gate(decay: Expr, state: State, recurrence: Recurrence) -> str:
    if decay is ONE:
        return "nothing is forgotten"
    if decay is ZERO:
        return "nothing is kept elementwise"
    own = _own_gate_axes(decay, state, recurrence)
    where = (
        f"diagonal over {', '.join(a for a in state.axes if a in own)}" if own else "one for the whole state"
    )
    return f"the gate {_short(decay)}, {where}"


def _count(terms: Sequence[RankOne]) -> str:
    axes = ", ".join(sorted({axis for term in terms for axis in term.keys}))
    if len(terms) == 1:
        return f"1 rank-one term that contracts {axes}"
    return f"{len(terms)} rank-one terms that contract {axes}"


def _short(expr: Expr) -> str:
    text = format_expr(expr)
    return f"`{text}`" if len(text) <= 60 else "computed from the token"


def _parallel(term: RankOne) -> bool:
    """Whether a rank-one term writes along what it reads: `write = scalar · read`."""
    from seqc.passes.canonical import poly

    reads = poly(term.read)
    if len(reads) != 1:
        return False
    ((read, _),) = reads.items()
    core = {item for item in read if set(item[0].axes) & set(term.keys)}
    return all(
        {item for item in write if set(item[0].axes) & set(term.keys)} == core for write in poly(term.write)
    )


def _shifted_exponential(decay: Expr, before: Sequence[Class]) -> bool:
    """Whether a gate is an exponential of differences of a max-plus state."""
    stabilisers = {name for cls in before if cls.code == "K9" for name in cls.states}
    match decay:
        case Apply(op="exp"):
            return any(leaf.name in stabilisers for leaf in leaves([decay]))
        case _:
            return False


def _not_affine(
    recurrence: Recurrence, group: list[State], exprs: list[Expr], reason: NotAffine, span: Span | None
) -> Class:
    names = tuple(state.name for state in group)
    if len(group) == 1 and max_plus_form(group[0], exprs[0]) is not None:
        state = group[0].name
        return Class(
            "K9", NAMES["K9"], names, f"{state}' is a maximum of {state} plus a gate and an input", span
        )
    blame = reason.node
    place = _origin(recurrence, [blame]) or span
    dense = "matrix" in reason.why or "along other axes" in reason.why
    entrywise = is_entrywise(exprs, [state.leaf for state in group])
    code = "K6" if dense else "K10" if entrywise else "K11"
    because = f"{format_expr(canonical(blame))} {reason.why} {', '.join(names)}"
    if code == "K10":
        because += "; its Jacobian is " + (
            "diagonal" if len(group) == 1 else f"{len(group)} by {len(group)} for each entry"
        )
    return Class(code, NAMES[code], names, because, place)


def _origin(recurrence: Recurrence, exprs: Sequence[Expr]) -> Span | None:
    """Where in the text the first of the expressions, or of what they are made of, was written."""
    for expr in exprs:
        if expr in recurrence.origins:
            return recurrence.origins[expr]
        for node in reversed(list(walk([expr]))):
            if node in recurrence.origins:
                return recurrence.origins[node]
    return None
