"""The closed form of an implicit step, found in the structure of the objective.

The new memory is `argmin_V r·ℓ(V) + ½‖V - R‖²`.  Where the objective sees a linear memory through one read
`y[m] = sum[n](V · k)` and is quadratic and separable in `y`, with second derivative `c[m]`, the minimiser moves along
the gradient at `R`, only less far (Sherman-Morrison):

    V = R - r / (1 + r · c · ‖k‖²) · ∇ℓ(R)
"""

from __future__ import annotations

from seqc.check.memory import Memory
from seqc.ir import build
from seqc.ir.build import ONE
from seqc.ir.expr import Apply, Expr, LeafKind, Reduce, depends_on, leaves, substitute, walk
from seqc.ir.ops import OPS
from seqc.passes.derive import NotDifferentiable, gradient


def closed_form(loss: Expr, memory: Memory, rate: Expr) -> Expr | str:
    """The rate that the gradient at `R` takes in the exact step, or why there is none (a clause)."""
    if len(memory.tensors) != 1:
        return "the memory is not linear in its weights"
    if set(rate.axes) & set(memory.inputs):
        return "the rate differs along the keys"
    tensor = memory.tensors[0].leaf
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
    curvature = _curvature(outer, answer)
    if isinstance(curvature, str):
        return curvature
    length = ONE if key is None else build.sum_over(memory.inputs, build.mul(key, key))
    return build.div(rate, build.add(ONE, build.mul(build.mul(rate, curvature), length)))


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


def _curvature(outer: Expr, answer: Expr) -> Expr | str:
    """The second derivative of a separable quadratic, with respect to what the memory answers."""
    direction = build.leaf(LeafKind.COTANGENT, "direction", answer.axes, answer.dtype)
    try:
        (slope,) = gradient(outer, [answer])
        turned = build.sum_over(answer.axes, build.mul(slope, direction))
        (along,) = gradient(turned, [answer])
    except NotDifferentiable:
        return "the objective has no second derivative"
    steps = [node for node in depends_on([slope], [answer]) if isinstance(node, Apply)]
    if answer in leaves([along]) or any(OPS[node.op].gradient is None for node in steps):
        return "the objective is not quadratic in what the memory answers"
    mixing = depends_on([along], [direction])
    if any(node is not direction and not isinstance(node, Apply) for node in mixing):
        return "the objective couples the entries of what the memory answers"
    (curvature,) = substitute([along], {direction: ONE})
    return curvature
