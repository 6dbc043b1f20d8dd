"""Products of matrices that are added where a target lies, so that they need no room of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from seqc.ir.build import ZERO, total
from seqc.ir.expr import Apply, Expr, Leaf
from seqc.ir.traverse import children, walk

from .matrices import Arranged, operand, product_of
from .program import Target, Task


def apart(task: Task, arranged: Arranged, carried: Collection[Leaf]) -> Task:
    """The task with such products as targets of their own; then what is `carried` on is written last."""
    uses = Counter(child for node in walk(t.value for t in task.targets) for child in children(node))
    uses.update(target.value for target in task.targets)
    found = [list(_parts(target, uses, arranged)) for target in task.targets]
    if all(len(parts) == 1 and not parts[0].alone for parts in found):
        return task
    found.sort(key=lambda parts: parts[0].leaf in carried)
    return Task(task.name, tuple(part for parts in found for part in parts))


def _parts(target: Target, uses: Counter[Expr], arranged: Arranged) -> Iterator[Target]:
    terms = [] if target.adds else list(_terms(target.value, uses))
    products = [term for term in terms if _is_product(term, uses, arranged)]
    if not products:
        yield target
        return
    rest = total(term for term in terms if term not in products)
    if rest is not ZERO:
        yield Target(target.leaf, rest, more=True)
    for k, term in enumerate(products):
        adds = k > 0 or rest is not ZERO
        yield Target(target.leaf, term, adds, k + 1 < len(products), alone=True)


def _terms(value: Expr, uses: Counter[Expr]) -> Iterator[Expr]:
    """What is added up for one target and nothing else."""
    if isinstance(value, Apply) and value.op == "add" and uses[value] == 1:
        for part in value.args:
            yield from _terms(part, uses)
    else:
        yield value


def _is_product(term: Expr, uses: Counter[Expr], arranged: Arranged) -> bool:
    node = operand(term)[0]
    return uses[term] == 1 and uses[node] == 1 and product_of(node, arranged) is not None
