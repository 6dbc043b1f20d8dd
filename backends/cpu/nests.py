"""From expressions to loop nests.

Each nest runs over a set of axes and computes several values at once.  A value is computed where it is used, unless
it is a sum or a maximum, is dear or used twice, or lacks an axis of whoever uses it: then it is a statement of its
own, in the first nest over its axes that comes after what it needs.  Products of matrices, scans and triangular
systems have a nest to themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from seqc.ir.expr import Apply, Axes, Expr, Leaf, Reduce, Scan, Solve
from seqc.ir.traverse import children, walk

from .matrices import Arranged, operand, product_of
from .primitives import DEAR
from .program import Target, Task
from .rewrite import MOVES, NUMBERS

DEAR_WEIGHT = 20  # additions that a dear function counts for
PRODUCT, SCAN, SOLVE = ALONE = ("product", "scan", "solve")
TWICE = 4  # what weighs as much is not computed a second time


@dataclass(eq=False, slots=True)
class Statement:
    """A value for the entries of `axes`: `value` there, or its sum or maximum over `over`; or what a target gets."""

    value: Expr
    axes: Axes
    over: Axes = ()
    op: str = ""
    node: Expr | None = None
    target: Target | None = None

    @property
    def loops(self) -> frozenset[str]:
        return frozenset((*self.axes, *self.over))

    @property
    def alone(self) -> bool:
        """Whether no other value is computed in the same loops."""
        return self.op in ALONE


@dataclass(eq=False, slots=True)
class Nest:
    axes: Axes
    statements: list[Statement] = field(default_factory=list[Statement])


@dataclass(frozen=True, slots=True)
class Nests:
    """The nests of a task in order, the statement that defines each value which has one, and the values that outlive
    the innermost loop that computes them.
    """

    nests: tuple[Nest, ...]
    defined: dict[Expr, Statement]
    outliving: frozenset[Expr]

    def outlives(self, statement: Statement) -> bool:
        """Whether a value is needed outside the innermost loop that computes it."""
        return statement.node in self.outliving


def _outliving(found: Sequence[Nest], defined: dict[Expr, Statement]) -> Iterator[Expr]:
    homes = {id(statement): nest for nest in found for statement in nest.statements}
    for nest in found:
        for statement in nest.statements:
            for node, moved in needs(statement, defined):
                if node in defined and (moved or homes[id(defined[node])] is not nest):
                    yield node


def reads(value: Expr, defined: dict[Expr, Statement]) -> Iterator[tuple[Expr, bool]]:
    """The leaves and defined values that an expression reads, and whether at other places than its own."""
    stack = [(value, False)]
    seen: set[tuple[Expr, bool]] = set()
    while stack:
        node, moved = stack.pop()
        if (node, moved) in seen:
            continue
        seen.add((node, moved))
        if isinstance(node, Leaf) or node in defined:
            yield node, moved
            continue
        moved = moved or isinstance(node, MOVES)
        stack.extend((child, moved) for child in children(node))


def nests(task: Task, arranged: Arranged) -> Nests:
    """The nests of a task; `arranged` sorts the axes that have loops, and drops those that have none."""
    roots = [target.value for target in task.targets]
    chosen = _chosen(task, arranged)
    chosen -= {operand(target.value)[0] for target in task.targets if target.alone}
    defined: dict[Expr, Statement] = {}
    statements: list[Statement] = []
    for node in walk(roots):
        if node in chosen:
            statement = _statement(node, arranged)
            statements.append(statement)
            defined[node] = statement
    statements += [_written(target, arranged) for target in task.targets]
    found: list[Nest] = []
    place: dict[int, int] = {}
    for statement in statements:
        place[id(statement)] = _placed(statement, found, defined, place, arranged)
    return Nests(tuple(found), defined, frozenset(_outliving(found, defined)))


def _written(target: Target, arranged: Arranged) -> Statement:
    """What a target gets."""
    if not target.alone:
        return Statement(target.value, arranged(target.leaf.axes), target=target)
    node = operand(target.value)[0]
    assert isinstance(node, Reduce)
    return Statement(node.arg, arranged(node.axes), arranged(node.over), PRODUCT, node, target)


def _statement(node: Expr, arranged: Arranged) -> Statement:
    axes = arranged(node.axes)
    if isinstance(node, Reduce):
        over = arranged(node.over)
        op = PRODUCT if product_of(node, arranged) else node.op
        return Statement(node.arg, axes, over, op if over else "", node)
    if isinstance(node, Scan | Solve):
        return Statement(node, axes, op=SCAN if isinstance(node, Scan) else SOLVE, node=node)
    return Statement(node, axes, node=node)


def _placed(
    statement: Statement,
    found: list[Nest],
    defined: dict[Expr, Statement],
    place: dict[int, int],
    arranged: Arranged,
) -> int:
    """Put a statement into the first nest that may hold it."""
    first = 0
    for node, moved in needs(statement, defined):
        other = defined.get(node)
        if other is not None:
            together = not (moved or other.over or other.alone) and other.loops == statement.loops
            first = max(first, place[id(other)] + (not together))
    late = statement.alone or (statement.target is not None and statement.target.more)
    for k in range(len(found) if late else first, len(found)):
        if frozenset(found[k].axes) == statement.loops and not found[k].statements[0].alone:
            found[k].statements.append(statement)
            return k
    found.append(Nest(arranged(tuple(statement.loops)), [statement]))
    return len(found) - 1


def needs(statement: Statement, defined: dict[Expr, Statement]) -> Iterator[tuple[Expr, bool]]:
    """What a statement reads: not the value that it defines itself."""
    if statement.value is not statement.node:
        yield from reads(statement.value, defined)
        return
    moved = isinstance(statement.value, MOVES)
    for child in children(statement.value):
        yield from ((node, moved or far) for node, far in reads(child, defined))


# --- Which values are statements --------------------------------------------------------------------------------


def _chosen(task: Task, arranged: Arranged) -> set[Expr]:
    roots = [target.value for target in task.targets]
    users: dict[Expr, list[set[str]]] = {}
    moved: set[Expr] = set()
    for node in walk(roots):
        for child in children(node):
            axes = node.arg.axes if isinstance(node, Reduce) else node.axes
            users.setdefault(child, []).append(set(axes))
            if isinstance(node, MOVES):
                moved.add(child)
        moved |= _operands(node, arranged)
    for target in task.targets:
        users.setdefault(target.value, []).append(set(target.leaf.axes))
    chosen: set[Expr] = set()
    weights: dict[Expr, int] = {}
    for node in walk(roots):
        weights[node] = _weight(node, weights, chosen)
        if _deserves(node, users[node], node in moved, weights[node]):
            chosen.add(node)
    return chosen


def _operands(node: Expr, arranged: Arranged) -> set[Expr]:
    """The values that have to lie in memory for a product or a system."""
    if isinstance(node, Solve):
        return {operand(side)[0] for side in children(node)}
    found = product_of(node, arranged)
    return set() if found is None else {operand(side)[0] for side in (found.left, found.right)}


def _deserves(node: Expr, users: list[set[str]], moved: bool, weight: int) -> bool:
    if isinstance(node, Reduce | Scan | Solve):
        return True
    if not isinstance(node, Apply):
        return False
    return moved or any(axes > set(node.axes) for axes in users) or (len(users) > 1 and weight >= TWICE)


def _weight(node: Expr, weights: dict[Expr, int], chosen: set[Expr]) -> int:
    """The work of computing a value where it is used."""
    if isinstance(node, (Leaf, Reduce, Scan, Solve, *NUMBERS)):
        return 0
    own = DEAR_WEIGHT if isinstance(node, Apply) and node.op in DEAR else 1
    return own + sum(weights[child] for child in children(node) if child not in chosen)
