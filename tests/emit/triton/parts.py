"""What the tests need of the backend: rules, and comparisons that run where Triton interprets kernels.

It stands at the root of a checkout and is imported as part of `seqc`, which type checkers cannot know.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

import seqc
from seqc.backend import Scheduled
from seqc.ir.recurrence import Recurrence
from seqc.passes.forms.held import find_held
from seqc.passes.schedule import schedule
from tests.emit.torch import rules
from tests.emit.torch.rules import error, inputs_of

if TYPE_CHECKING:
    from backends.torch import rule as in_torch  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.triton import BACKEND, aot, stage  # noqa: TID251
    from backends.triton.module import looped, units  # noqa: TID251
    from backends.triton.phases import phases  # noqa: TID251
    from backends.triton.primitives import NOT_WRITTEN, SPELLINGS  # noqa: TID251
    from backends.triton.runtime import boundaries, chunk, kernel, packed, rule, stream  # noqa: TID251
    from backends.triton.unit import definitions  # noqa: TID251
else:
    from seqc.backends.torch import rule as in_torch
    from seqc.backends.triton import BACKEND, aot, stage
    from seqc.backends.triton.module import looped, units
    from seqc.backends.triton.phases import phases
    from seqc.backends.triton.primitives import NOT_WRITTEN, SPELLINGS
    from seqc.backends.triton.runtime import boundaries, chunk, kernel, packed, rule, stream
    from seqc.backends.triton.unit import definitions

SPECS = Path(__file__).parents[3] / "specs"
MIXED = """
rule mixed(x[d], f[d]; e = d) {
    param  U[d, e] = normal(0, 0.4)
    param  a[d] = uniform(0.1, 1)
    state  h[d] = 0
    state  c[d] = a
    let    g = sigmoid(f + sum[e](U * h[d -> e]))
    c'     = exp(-a * g) * c + (1 - g) * x
    h'     = tanh(c')
    return h' * where(x > 0, softplus(f), 0.5)
}
"""
WIDE = """
rule wide(x[d], a[d], b[n], c[n], w) {
    param  A[d, n] = uniform(0.1, 1)
    state  h[d, n] = 0
    h'     = exp(-A * w) * h + b * x
    return a * sum[n](c * h')
}
"""
SLOTS = """
rule slots(q[n], k[n], v[m], g[s]) {
    param  bias[s, m] = normal(0, 0.3)
    state  S[s, m] = bias
    state  K[s, n] = 0
    let    near = softmax[s](sum[n](K * k) + g)
    S'     = (1 - near) * S + near * tanh(v)
    K'     = (1 - near) * K + near * k
    let    top = max[s](sum[n](K' * q))
    return sum[s](exp(sum[n](K' * q) - top) * S')
}
"""
TURNED = """
rule turned(x[d], y[e]) {
    state  S[d, e] = 0.1
    S'     = 0.5 * S[d -> e, e -> d] + x * y
    return sum[e](S' * S)
}
"""
COUNTED = """
rule counted(x, alpha) {
    state  h = 1
    state  n = 0
    n'     = n + 1
    h'     = alpha * h + x / n'
    return h'
}
"""
RETENTION = """
rule retain(q[n], k[n], v[m], alpha) {
    memory    S: n -> m
    objective -sum[m](S(k) * v)
    retention alpha * S
    learner   gd(rate = 1)
    return    S'(q)
}
"""
COMPUTED = """
rule computed(q[n], k[n], v[m], w, alpha) {
    state  S[m, n] = 0
    S'     = alpha * S + v * w * k * exp(q)
    return sum[n](S' * k) + 0.3 * v
}
"""
GLA = RETENTION.replace("alpha)", "alpha[n])")
TURNING = """
rule turning(size[d], angle[d], re[d], im[d]) {
    state  h[d] complex = complex(0.1, 0.2)
    h'     = polar(size, angle) * h + (1 - size) * complex(re, im)
    return real(h') + abs(h)
}
"""
AVERAGE = """
rule average(a[d], b[d]) {
    state  h[d] = 0
    h'     = a * h + b
    return h'
}
"""


def written(text: str, **sizes: float) -> Callable[[], Recurrence]:
    return lambda: seqc.loads(text).rule(**sizes).recurrence


def of_spec(name: str, rule: str, **sizes: float) -> Callable[[], Recurrence]:
    """A rule of a spec."""
    return lambda: seqc.load(SPECS / f"{name}.seq").rule(rule, **sizes).recurrence


MAKERS: dict[str, Callable[[], Recurrence]] = {
    "average": rules.average,
    "long average": written(AVERAGE, d=300),
    "complex": rules.rotation,
    "selective": written(WIDE, d=150, n=3),
    "key decay": written(GLA, n=5, m=18),
    "linear attention": lambda: rules.linear_attention(heads=2),
    "gated delta": rules.gated_delta,
    "delta with a gate a key": lambda: rules.gated_delta(vector_gate=True),
    "turning": written(TURNING, d=70),
    "input held for a while": of_spec("complex/s5", "s5", d=6, dt_min=0.1, dt_max=1),
    "dense": rules.tanh_cell,
    "dense, two states": written(MIXED, d=11),
    "slots": written(SLOTS, n=5, m=7, s=3),
    "turned": written(TURNED, d=3, e=3),
    "scalars": written(COUNTED),
}


KEYS = {"n": 5, "m": 3}
CLASSES: dict[str, Callable[[], Recurrence]] = {
    "diagonal": of_spec("gated/hgrn", "hgrn", d=5),
    "diagonal, complex": of_spec("gated/lru", "lru", d=5),
    "gate an element": of_spec("gated/mamba", "selective_scan", d=5, n=3),
    "gate a head": of_spec("linear/mamba2", "mamba2", p=3, n=5),
    "gate a value": written(RETENTION.replace("alpha)", "alpha[m])"), n=5, m=3),
    "delta": of_spec("delta/deltanet", "delta", **KEYS),
    "stabilised": of_spec("xlstm/mlstm", "mlstm", **KEYS),
    "stabilised vector": of_spec("attention/aaren", "aaren", m=5),
    "dense": of_spec("nonlinear/gru", "gru", d=5),
    "diagonal, not linear": of_spec("nonlinear/indrnn", "indrnn", d=5),
}
LONGER: dict[str, Callable[[], Recurrence]] = {  # to interpret
    "diagonal, complex matrix": of_spec("complex/gateloop", "gate_loop", n=3, m=5),
    "gate a key": of_spec("linear/rwkv6", "rwkv6", **KEYS),
    "delta, gate a key": of_spec("delta/kda", "kda", **KEYS),
    "delta, several terms": of_spec("delta/gated_delta_product", "gated_delta_product", **KEYS),
    "delta, momentum": of_spec("delta/momentum_delta", "momentum_delta", **KEYS),
    "diagonal and low rank": of_spec("delta/rwkv7", "rwkv7", **KEYS),
    "stabilised, gate a key": of_spec("gated/lightnet", "lightnet", **KEYS),
    "held, linear": of_spec("deep/titans", "titans_linear", **KEYS),
    # Norms of three numbers would lose digits by themselves.
    "held, perceptron": of_spec("deep/ttt", "ttt_mlp", n=7),
}
MAKERS.update({**CLASSES, **LONGER})
EVERY = tuple(MAKERS)  # other files have rules of their own
MAKERS.update(
    {
        "nearly one": of_spec("complex/s5", "s5", d=6),
        "no loop": of_spec("gated/lru", "lru", d=190),
    }
)


def functions(text: str) -> dict[str, str]:
    """The functions of a text, whatever its lines are."""
    return {node.name: ast.dump(node) for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}


def run_written(program: Scheduled, folder: Path, script: str) -> None:
    """Write a program's folder, and run a script in it whose kernels Triton interprets, in a process of its own."""
    BACKEND.write(program, folder, weights=None, seed=0, options={})
    file = folder / "alone.py"
    file.write_text(script)
    env = {"TRITON_INTERPRET": "1", "PATH": "", "HOME": str(folder)}
    done = subprocess.run([sys.executable, file], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def scheduled(recurrence: Recurrence, mode: str | None = None) -> Scheduled:
    return Scheduled(recurrence, lambda rule: schedule(rule, mode))


def kernels_of(recurrence: Recurrence) -> Any:
    """What runs a rule."""
    (found,) = units(scheduled(recurrence), "a test").values()
    return found


def _drawn(state: Mapping[str, Tensor], draw: torch.Generator, counts: str = "") -> dict[str, Tensor]:
    """Other states; what counts the tokens of a window has had five more in each row."""
    return {
        key: x + 5 * torch.arange(len(x))
        if key == counts
        else x.detach() + 0.3 * torch.randn(x.shape, generator=draw, dtype=x.dtype)
        if _differentiable(x)
        else x
        for key, x in state.items()
    }


def _asking(values: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Copies that ask for gradients."""
    return {
        key: x.to(dtype.to_complex() if x.is_complex() else dtype, copy=True).requires_grad_()
        if _differentiable(x)
        else x
        for key, x in values.items()
    }


def _differentiable(x: Tensor) -> bool:
    return x.is_floating_point() or x.is_complex()


def everything(
    module: Any, inputs: Mapping[str, Tensor], before: Mapping[str, Tensor] | None = None, **given: Any
) -> list[Tensor]:
    """Outputs, final states, and the gradients of a fixed sum of both by inputs, given states and parameters."""
    out, state = module(**inputs, **given, **({"state": dict(before)} if before else {}))
    return _all_of(out, state, [*inputs.values(), *(before or {}).values(), *module.parameters()])


def _all_of(
    out: Tensor | tuple[Tensor, ...], state: Mapping[str, Tensor], given: Sequence[Tensor]
) -> list[Tensor]:
    outs = out if isinstance(out, tuple) else (out,)
    results = [x for x in (*outs, *state.values()) if _differentiable(x)]
    draw = torch.Generator().manual_seed(1)
    loss = torch.zeros(())
    for x in results:
        weight = torch.randn((*x.shape, 2), generator=draw, dtype=torch.float64)
        parts = torch.view_as_real(x) if x.is_complex() else x[..., None]
        loss = loss + (parts * weight[..., : parts.shape[-1]].to(parts.dtype)).sum()
    grads = torch.autograd.grad(loss, [x for x in given if x.requires_grad], materialize_grads=True)
    return [x.to(torch.complex128) if x.is_complex() else x.double() for x in (*results, *grads)]


def compared(
    name: str,
    time: int,
    resets: bool,
    gate: float | None = None,
    mode: str | None = None,
    dtype: torch.dtype = torch.float32,
    begun: bool = False,
) -> list[float]:
    """The errors of the kernels of a rule, against tokens in double precision that are fed the same inputs.

    With `begun` states are given, and have gradients.
    """
    rec = MAKERS[name]()
    module: Any = BACKEND.module(scheduled(rec, mode))
    tokens = in_torch(rec, mode="reference").double()
    tokens.load_state_dict(module.state_dict())
    narrow = {key: x.detach().to(dtype) for key, x in inputs_of(rec, 2, time).items()}
    if gate is not None:
        narrow["alpha"] = torch.full_like(narrow["alpha"], gate)
    draw = torch.Generator().manual_seed(5)
    given = {"reset": torch.rand(2, time, generator=draw) < 0.2} if resets else {}
    held = find_held(rec)
    before = _drawn(module.init_state(2), draw, held.counter.name if held else "") if begun else {}
    found = everything(module, _asking(narrow, dtype), _asking(before, torch.float32), **given)
    wanted = everything(tokens, _asking(narrow, torch.float64), _asking(before, torch.float64), **given)
    assert all(x.isfinite().all() for x in found)
    return [
        error(x, y) if y.norm() > 1e-6 else float(x.detach().norm())
        for x, y in zip(found, wanted, strict=True)
    ]


def never(_: Tensor) -> bool:
    return False


def always(*_: Any) -> bool:
    return True


def in_one_pass(name: str, time: int, **given: Any) -> tuple[list[float], set[str]]:
    """As `compared`, on a GPU that few programs keep busy; and the kernels that ran."""
    count, launched, launch = chunk.multiprocessors, set[str](), vars(chunk)["launch"]

    def seen(function: Any, *args: Any) -> Any:
        launched.add(function.fn.__name__)
        return launch(function, *args)

    chunk.multiprocessors = lambda _: 1
    chunk.launch = seen
    try:
        return compared(name, time, True, begun=True, **given), launched
    finally:
        chunk.multiprocessors = count
        chunk.launch = launch


def types_of_results(name: str, dtype: torch.dtype) -> set[torch.dtype]:
    """Of what the kernels of a rule's stages give, for inputs of a type."""
    rec, found = MAKERS[name](), set[torch.dtype]()
    forward = chunk.BlockKernels.forward

    def seen(*given: Any) -> Any:
        made = forward(*given)
        found.update(x.dtype for x in made[0])
        return made

    chunk.BlockKernels.forward = seen  # type: ignore[method-assign]
    try:
        out, _ = BACKEND.module(scheduled(rec))(
            **{key: x.to(dtype) for key, x in inputs_of(rec, 1, 35).items()}
        )
    finally:
        chunk.BlockKernels.forward = forward  # type: ignore[method-assign]
    assert out.dtype == dtype
    return found


def with_rounded_products(
    name: str, time: int, dtype: torch.dtype, asked: str = "highest", gate: float | None = None
) -> list[float]:
    """As `compared`, with products of matrices as they are on NVIDIA; `asked` is the precision that PyTorch is told."""
    before = chunk.exact, chunk.narrow
    chunk.exact, chunk.narrow = never, always
    torch.set_float32_matmul_precision(asked)
    try:
        return compared(name, time, False, gate, dtype=dtype)
    finally:
        chunk.exact, chunk.narrow = before
        torch.set_float32_matmul_precision("highest")


def beside_torch(name: str, time: int) -> list[tuple[float, float]]:
    """The errors of the kernels of a rule against tokens in double precision, and those of PyTorch's schedule."""
    rec = MAKERS[name]()
    ours: Any = BACKEND.module(scheduled(rec))
    theirs, tokens = in_torch(rec), in_torch(rec, mode="reference").double()
    for module in (theirs, tokens):
        module.load_state_dict(ours.state_dict())
    given = {key: x.detach().float() for key, x in inputs_of(rec, 2, time).items()}
    found, known = (everything(module, _asking(given, torch.float32)) for module in (ours, theirs))
    wanted = everything(tokens, _asking(given, torch.float64))
    return [(error(x, z), error(y, z)) for x, y, z in zip(found, known, wanted, strict=True)]


def in_one_graph(name: str) -> tuple[list[float], int]:
    """The differences between a rule that `torch.compile` takes as one graph and the same as it is; launches of it.

    As on a GPU: kernels run, and products of matrices are rounded.
    """
    rec = MAKERS[name]()
    module: Any = BACKEND.module(scheduled(rec))
    inputs = {key: x.detach().float() for key, x in inputs_of(rec, 1, 35).items()}
    launched = list[str]()
    launch: Any = vars(chunk)["launch"]

    def counted(function: Any, *args: Any) -> list[Any]:
        launched.append(function.fn.__name__)
        found: list[Any] = launch(function, *args)
        return found

    replaced: list[tuple[Any, str, Any]] = [
        (chunk, "launch", counted),
        (kernel, "launch", counted),
        (rule.Looped, "runs", always),
        (chunk, "exact", never),
    ]
    before = [getattr(place, key) for place, key, _ in replaced]
    torch.set_float32_matmul_precision("high")
    try:
        for place, key, value in replaced:
            setattr(place, key, value)
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        found = everything(compiled, _asking(inputs, torch.float32))
        count = len(launched)
        wanted = everything(module, _asking(inputs, torch.float32))
    finally:
        for (place, key, _), value in zip(replaced, before, strict=True):
            setattr(place, key, value)
        torch.set_float32_matmul_precision("highest")
    return [float((x - y).detach().abs().max()) for x, y in zip(found, wanted, strict=True)], count


def split(name: str, mode: str | None) -> list[float]:
    """The largest differences between a sequence in two parts, or its first token alone, and the whole."""
    rec = MAKERS[name]()
    module: Any = BACKEND.module(scheduled(rec, mode))
    inputs = {key: x.detach().float() for key, x in inputs_of(rec, 2, 40).items()}
    whole, end = module(**inputs)
    head, state = module(**{key: x[:, :17] for key, x in inputs.items()})
    tail, state = module(**{key: x[:, 17:] for key, x in inputs.items()}, state=state)
    one, _ = module.step(**{key: x[:, 0] for key, x in inputs.items()})
    pairs = [(torch.cat([head, tail], 1), whole), (one, whole[:, 0])]
    pairs += [(state[key], x) for key, x in end.items()]
    return [float((x - y).detach().abs().max()) for x, y in pairs]


def separated(name: str, cu_seqlens: list[int]) -> list[float]:
    """The errors of packed sequences against each of them alone: outputs, and gradients of the inputs."""
    rec, time = MAKERS[name](), cu_seqlens[-1]
    module: Any = BACKEND.module(scheduled(rec))
    inputs = {key: x.detach().float().requires_grad_() for key, x in inputs_of(rec, 1, time).items()}
    whole, _ = module(**inputs, reset=boundaries(torch.tensor(cu_seqlens), time))
    alone = [
        module(**{key: x[:, start:end] for key, x in inputs.items()})[0]
        for start, end in pairwise(cu_seqlens)
        if start < end
    ]
    weight = torch.randn(whole.shape, generator=torch.Generator().manual_seed(3))
    results = [whole, torch.cat(alone, 1)]
    ours, theirs = (
        [out, *torch.autograd.grad((out * weight).sum(), list(inputs.values()))] for out in results
    )
    return [error(x, y) for x, y in zip(ours, theirs, strict=True)]


def packed_with_states(name: str, cu_seqlens: list[int]) -> list[float]:
    """The errors of packed sequences with states against each of them alone, in tokens of double precision.

    Outputs, final states, and the gradients of both by inputs, initial states and parameters.
    """
    rec = MAKERS[name]()
    ours: Any = BACKEND.module(scheduled(rec))
    tokens: Any = in_torch(rec, mode="reference").double()
    tokens.load_state_dict(ours.state_dict())
    given = {key: x.detach().float() for key, x in inputs_of(rec, 1, cu_seqlens[-1]).items()}
    draw = torch.Generator().manual_seed(5)
    begun = _drawn(ours.init_state(len(cu_seqlens) - 1), draw)

    def whole(state: Mapping[str, Tensor], **inputs: Tensor) -> Any:
        return packed(ours, torch.tensor(cu_seqlens), state=state, **inputs)

    def alone(state: Mapping[str, Tensor], **inputs: Tensor) -> Any:
        outs, ends = list[Tensor](), {key: list(x.split(1)) for key, x in state.items()}
        for row, (start, end) in enumerate(pairwise(cu_seqlens)):
            if start < end:
                part = {key: x[:, start:end] for key, x in inputs.items()}
                out, after = tokens(**part, state={key: x[row] for key, x in ends.items()})
                outs.append(out)
                for key, x in after.items():
                    ends[key][row] = x
        return torch.cat(outs, 1), {key: torch.cat(rows) for key, rows in ends.items()}

    found = list[list[Tensor]]()
    for module, run, dtype in ((ours, whole, torch.float32), (tokens, alone, torch.float64)):
        inputs, state = _asking(given, dtype), _asking(begun, dtype)
        out, ends = run(state, **inputs)
        found.append(_all_of(out, ends, [*inputs.values(), *state.values(), *module.parameters()]))
    return [error(x, y) for x, y in zip(*found, strict=True)]


def kept(recurrence: Recurrence) -> set[str]:
    """The inputs that stages read as they are."""
    found = kernels_of(recurrence)
    return {value.name for k, value in enumerate(found.signature.inputs) if k in found.kept}


def no_tokens() -> bool:
    """Whether a sequence of no tokens leaves the state as it is, with a gradient of 1."""
    rec = rules.gated_delta()
    module: Any = BACKEND.module(scheduled(rec))
    state = {"S": torch.randn(2, 3, 4, requires_grad=True)}
    inputs = {key: x.detach().float()[:, :0] for key, x in inputs_of(rec, 2, 1).items()}
    out, after = module(**inputs, state=state)
    (slope,) = torch.autograd.grad(after["S"].sum(), state["S"])
    return out.shape == (2, 0, 3) and torch.equal(after["S"], state["S"]) and bool((slope == 1).all())


def in_part(output: bool) -> list[float]:
    """The errors of gradients of what a rule in blocks gives alone, or of its final states alone."""
    rec = MAKERS["key decay"]()
    narrow = {key: x.detach().float() for key, x in inputs_of(rec, 2, 35).items()}
    found = list[list[Tensor]]()
    for made, dtype in (
        (BACKEND.module(scheduled(rec)), torch.float32),
        (in_torch(rec).double(), torch.float64),
    ):
        inputs, module = _asking(narrow, dtype), cast(Any, made)
        y, after = module(**inputs)
        end = y if output else after["S"]
        found.append([*torch.autograd.grad(end.square().sum(), [*inputs.values()], materialize_grads=True)])
    return [error(x, y) if y.any() else float(x.norm()) for x, y in zip(*found, strict=True)]


def mapped() -> list[float]:
    """The errors of a rule over further axes of its inputs, which share a gate."""
    rec = rules.gated_delta()
    module, tokens = BACKEND.module(scheduled(rec)), in_torch(rec, mode="reference").double()
    flat = {key: x.detach().float() for key, x in inputs_of(rec, 6, 5).items()}
    found = {key: x.unflatten(0, (2, 3)).movedim(1, 2) for key, x in flat.items()}
    found["alpha"] = found["alpha"][:, :, :1]
    narrow = {key: x.contiguous() for key, x in found.items()}
    ours = everything(module, {key: x.clone().requires_grad_() for key, x in narrow.items()})
    theirs = everything(tokens, {key: x.double().requires_grad_() for key, x in narrow.items()})
    return [error(x, y) for x, y in zip(ours, theirs, strict=True)]


__all__ = [
    "AVERAGE",
    "BACKEND",
    "NOT_WRITTEN",
    "SPELLINGS",
    "aot",
    "chunk",
    "definitions",
    "looped",
    "phases",
    "rule",
    "stage",
    "stream",
    "units",
]
