"""Closed forms, found in the structure of the objective.

Some learners need more of an objective than its gradient: that it sees a linear memory through one read,
`y[m] = sum[n](V · k)`, and that it is quadratic in `y`, entry by entry, with the second derivative `c[m]`.  Then the
implicit step, `argmin_V r·ℓ(V) + ½‖V - R‖²`, moves along the gradient at `R`, only less far (Sherman-Morrison):

    V = R - r / (1 + r · c · ‖k‖²) · ∇ℓ(R)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqc.check.memory import Memory
from seqc.ir import build
from seqc.ir.build import ONE
from seqc.ir.expr import Apply, Expr, LeafKind, Reduce
from seqc.ir.ops import OPS
from seqc.ir.traverse import depends_on, leaves, substitute, walk
from seqc.passes.derive import NotDifferentiable, gradient


@dataclass(frozen=True, slots=True)
class OneRead:
    """An objective that sees a linear memory through one read; `key` is None for a vector, which is read as it is."""

    key: Expr | None
    answer: Expr  # stands for what the memory answers
    outer: Expr  # the objective, as a function of the answer

    def length(self, inputs: Sequence[str]) -> Expr:
        """‖k‖²."""
        return ONE if self.key is None else build.sum_over(inputs, build.mul(self.key, self.key))


@dataclass(frozen=True, slots=True)
class Quadratic:
    """An objective that is quadratic in what the memory answers, entry by entry."""

    read: OneRead
    slope: Expr  # the derivative with respect to the answer
    curvature: Expr

    def slope_at(self, answer: Expr) -> Expr:
        (slope,) = substitute([self.slope], {self.read.answer: answer})
        return slope

    def gradient(self, answer: Expr) -> Expr:
        """∇ℓ where the memory gives this answer."""
        slope = self.slope_at(answer)
        return slope if self.read.key is None else build.mul(slope, self.read.key)


def one_read(loss: Expr, memory: Memory) -> OneRead | str:
    """The one read through which an objective sees the memory, or why there is none (a clause)."""
    if len(memory.tensors) != 1:
        return "the memory is not linear in its weights"
    if memory.mirror is not None:
        return "the memory is not linear in what its mirror map takes"
    tensor = memory.before[0]
    reads = _reads(loss, tensor, memory)
    if len(reads) > 1:
        return "the objective reads the memory at several keys"
    seen: Expr = tensor
    key: Expr | None = None
    if reads:
        seen, key = next(iter(reads.items()))
    answer = build.leaf(LeafKind.READ, f"{memory.name}.answer", seen.axes, seen.dtype)
    (outer,) = substitute([loss], {seen: answer})
    if tensor in leaves([outer]):
        return "the objective uses the memory in another way than by reading it at one key"
    return OneRead(key, answer, outer)


def quadratic(loss: Expr, memory: Memory) -> Quadratic | str:
    """What the objective is of the memory's answer, or why that is not quadratic (a clause)."""
    read = one_read(loss, memory)
    if isinstance(read, str):
        return read
    direction = build.leaf(LeafKind.COTANGENT, "direction", read.answer.axes, read.answer.dtype)
    try:
        (slope,) = gradient(read.outer, [read.answer])
        turned = build.sum_over(read.answer.axes, build.mul(slope, direction))
        (along,) = gradient(turned, [read.answer])
    except NotDifferentiable:
        return "the objective has no second derivative"
    steps = [node for node in depends_on([slope], [read.answer]) if isinstance(node, Apply)]
    if read.answer in leaves([along]) or any(OPS[node.op].gradient is None for node in steps):
        return "the objective is not quadratic in what the memory answers"
    mixing = depends_on([along], [direction])
    if any(node is not direction and not isinstance(node, Apply) for node in mixing):
        return "the objective couples the entries of what the memory answers"
    (curvature,) = substitute([along], {direction: ONE})
    return Quadratic(read, slope, curvature)


def closed_form(loss: Expr, memory: Memory, rate: Expr) -> tuple[Quadratic, Expr] | str:
    """The rate that the gradient at `R` takes in the exact step, or why there is none (a clause)."""
    if set(rate.axes) & set(memory.inputs):
        return "the rate differs along the keys"
    found = quadratic(loss, memory)
    if isinstance(found, str):
        return found
    stiffness = build.mul(build.mul(rate, found.curvature), found.read.length(memory.inputs))
    return found, build.div(rate, build.add(ONE, stiffness))


def _reads(loss: Expr, tensor: Expr, memory: Memory) -> dict[Expr, Expr]:
    """The reads `sum[inputs](S · k)` in the objective, each with its key."""
    found: dict[Expr, Expr] = {}
    for node in walk([loss]):
        if (
            not isinstance(node, Reduce)
            or node.op != "sum"
            or set(node.over) != set(memory.inputs)
            or not node.over
        ):
            continue
        product = node.arg
        if not isinstance(product, Apply) or product.op != "mul" or tensor not in product.args:
            continue
        key = product.args[1] if product.args[0] is tensor else product.args[0]
        if tensor not in leaves([key]) and not set(key.axes) & set(memory.outputs):
            found[node] = key
    return found
