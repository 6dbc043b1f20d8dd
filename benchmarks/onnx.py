"""The ONNX target in ONNX Runtime: prompts, steps and what a step of a whole model costs beside its matrices alone.

- *native*: a rule that `LinearAttention` covers, beside the operator called by hand on the same numbers.
- *chunks*: a rule in standard operators, beside a `Scan` over the tokens; the bar is for those that it does not cover.
- *convolution*: one token and 2,048, by ONNX Runtime's operator and without it.
- *decode*: one token of a whole model, beside a graph with the same matrices and nothing else, as the bytes a second
  that either reads and writes: matrices, and on our side the states before and after the token. Both are loaded twice.
- *far*: the same step after 0, 1,000, 10,000 and 100,000 tokens.

2,048 tokens, 8 heads of 64, batch 1, fp32, one thread.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

import seqc
from benchmarks.measure import Sample, in_turn, restart_with_kept_memory
from benchmarks.report import Bar, Report, row
from seqc import bundled
from seqc.backend import backend

T, H, D = 2048, 8, 64
CHANNELS = 2048  # of the convolution
SEGMENT = 4096  # tokens a call on the way to a far position
ABOUT = (
    "Prompts of 2,048 tokens with 8 heads of 64, steps of whole models and of a convolution; batch 1, fp32. The other "
    "side of a comparison is a graph made by hand, or the same rule as a loop."
)
COMPARED = (
    "native and far: time over that by hand, or at the first token. decode: bytes a second over those of the matrices "
    "alone. Others: time of the other side over ours."
)
WHOLE: dict[str, dict[str, float]] = {
    "delta/gated_delta": {"d": 1024, "h": 8, "layers": 8},
    "hybrid/griffin": {"d": 1024, "w": 1024, "h": 8, "n": 128, "layers": 2},
    "linear/mamba2": {"d": 1024, "p": 64, "n": 128, "layers": 16},
}
FAR = ("delta/gated_delta", "hybrid/griffin")
CONTRIB = "com.microsoft"
OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid(CONTRIB, 1)]
Array = npt.NDArray[np.float32]
Run = Callable[[], Any]

MATRIX = """
rule advance(q[n], k[n], v[m]{more}) {{
    state  S[m, n] = 0
    let    R  = {kept} * S
    S'     = {update}
    return sum[n](S' * q)
}}
"""
BLOCK = """
block mixer(q[h, n], k[h, n], v[h, m]{inputs}; h, n, m) {{
    return advance(q, k, v{given})
}}
"""
WRITE, CORRECT = "R + v * k", "R - beta * (sum[n](R * k) - v) * k"

# By the operator's word: what goes in besides queries, keys and values, for the block and for the rule; what the block
# gives; what is kept of the past; the update.
NATIVE: dict[str, tuple[str, str, str, str, str]] = {
    "linear": ("", "", "", "1", WRITE),
    "gated": (", g[h]", ", g", ", exp(-g)", "g", WRITE),
    "gated, by key": (", g[h, n]", ", g[n]", ", exp(-g)", "g", WRITE),
    "delta": (", beta[h]", ", beta", ", beta", "1", CORRECT),
    "gated_delta": (", g[h], beta[h]", ", g, beta", ", exp(-g), beta", "g", CORRECT),
    "gated_delta, by key": (", g[h, n], beta[h]", ", g[n], beta", ", exp(-g), beta", "g", CORRECT),
}
COVERED = ("gate", "gate by key", "delta", "gated delta")
PLAIN: dict[str, str] = {
    "gate": MATRIX.format(more=", g", kept="g", update=WRITE),
    "gate by key": MATRIX.format(more=", g[n]", kept="g", update=WRITE),
    "delta": MATRIX.format(more=", beta", kept="1", update=CORRECT),
    "gated delta": MATRIX.format(more=", g, beta", kept="g", update=CORRECT),
    "diagonal plus low rank": MATRIX.format(
        more=", g[n], a[n], b[n]", kept="g", update="R + sum[n](S * a) * b + v * k"
    ),
    "two corrections": """
rule advance(q[n], k[n], l[n], v[m], w[m], g, beta) {
    state  S[m, n] = 0
    let    R  = g * S
    let    U  = R - beta * (sum[n](R * k) - v) * k
    S'     = U - beta * (sum[n](U * l) - w) * l
    return sum[n](S' * q)
}
""",
    "momentum": """
rule advance(q[n], k[n], v[m], g, beta, eta) {
    state  S[m, n] = 0
    state  V[m, n] = 0
    V'     = eta * V - 0.02 * beta * (sum[n](S * k) - v) * k
    S'     = g * S + V'
    return sum[n](S' * q)
}
""",
}


def drawn() -> dict[str, Array]:
    """Inputs of every kind, `[1, T, H, …]`; keys of length 1, gates in (0, 1)."""
    draw = np.random.default_rng(0)

    def some(*shape: int) -> Array:
        return draw.standard_normal((1, T, H, *shape)).astype(np.float32)

    def unit(x: Array) -> Array:
        return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True), np.float32)

    return {name: unit(some(D)) for name in "kl"} | {name: some(D) for name in "qvw"}


def gate(shape: tuple[int, ...], seed: int) -> Array:
    """Between 0 and 1, mostly close to 1."""
    draw = np.random.default_rng(seed)
    return np.asarray(1 / (1 + np.exp(-draw.standard_normal(shape) - 3)), np.float32)


def given(folder: Path, known: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs and empty states of a folder's prompt graph."""
    manifest = session(folder).manifest
    feeds: dict[str, Array] = {}
    for place, info in enumerate(manifest.inputs):
        shape = tuple(n if isinstance(n, int) else {"batch": 1, "time": T}[str(n)] for n in info.shape)
        feeds[info.name] = known.get(info.name, gate(shape, place))
        if info.name in "ab":
            feeds[info.name] = (-0.5 if info.name == "b" else 1.0) * known["k"]
    return feeds


def session(folder: Path) -> Any:
    runner = getattr(backend("onnx"), "runner")  # noqa: B009  # no part of the protocol
    return runner(folder, 1)


def by_hand(rule: str, inputs: Mapping[str, Array]) -> Run:
    """The operator alone, on packed inputs and the gate's logarithm."""
    packed: dict[str, Array] = {name: x.reshape(1, T, -1) for name, x in inputs.items()}
    if "g" in packed:
        packed["g"] = -packed["g"]
    names = ["q", "k", "v", "s", *(["g" if "g" in packed else ""]), *(["beta"] if "beta" in packed else [])]
    node = helper.make_node(
        "LinearAttention", names, ["y", "t"], domain=CONTRIB, q_num_heads=H, kv_num_heads=H,
        update_rule=rule, scale=1.0,
    )  # fmt: skip
    packed["s"] = np.zeros((1, H, D, D), np.float32)
    graph = load(model([node], list(packed), ["y", "t"]))
    return lambda: graph.run(None, packed)


def model(
    nodes: list[Any], inputs: list[str], outputs: list[str], weights: Mapping[str, Array] | None = None
) -> bytes:
    """A graph of float tensors of any shape."""

    def values(names: list[str]) -> list[Any]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]

    stored = [numpy_helper.from_array(x, name) for name, x in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", values(inputs), values(outputs), stored)
    made: bytes = helper.make_model(graph, opset_imports=OPSETS, ir_version=10).SerializeToString()
    return made


def load(graph: bytes) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def native(report: Report, folder: Path) -> None:
    for word, (inputs, more, args, kept, update) in NATIVE.items():
        text = MATRIX.format(more=more, kept=kept, update=update) + BLOCK.format(inputs=inputs, given=args)
        out = folder / word.replace(", ", "_").replace(" ", "_")
        seqc.loads(text).block("mixer", h=H, n=D, m=D).onnx(out, profile="ort")
        ours, feeds = session(out), given(out, drawn())
        hand = by_hand(word.split(",")[0], feeds)
        assert np.abs(ours.prefill(feeds)[0]["y"].reshape(1, T, -1) - hand()[0]).max() < 1e-3
        found = in_turn({"seqc": partial(ours.prefill, feeds), "by hand": hand})
        ratio = found["seqc"].median / found["by hand"].median
        report.add(row(f"native: {word}", "by hand", found["by hand"], "ms"))
        report.add(row(f"native: {word}", "seqc", found["seqc"], "ms", ratio, Bar(1.1, most=True)))


def chunks(report: Report, folder: Path) -> None:
    for word, text in PLAIN.items():
        rule = seqc.loads(text).rule(n=D, m=D)
        axes = {leaf.name: ("h", *leaf.axes) for leaf in rule.recurrence.inputs}
        runs: dict[str, Run] = {}
        for mode in ("chunk", "loop"):
            out = folder / f"{word}_{mode}".replace(" ", "_")
            program = replace(rule, settings={**rule.settings, "h": H}).program(mode, axes)
            out.mkdir()
            backend("onnx").write(program, out, weights=None, seed=0, options={})
            runs[mode] = partial(session(out).prefill, given(out, drawn()))
        found = in_turn(runs, rounds=5)
        ratio = found["loop"].median / found["chunk"].median
        report.add(row(f"chunks: {word}", "Scan over tokens", found["loop"], "ms"))
        bar = None if word in COVERED else Bar(3)
        report.add(row(f"chunks: {word}", "seqc", found["chunk"], "ms", ratio, bar))


def convolution(report: Report, folder: Path) -> None:
    text = "block conv(x[d]; d) { return causal_conv(x, width = 4) }"
    runs: dict[str, Any] = {}
    for profile in ("portable", "ort"):
        seqc.loads(text).block("conv", d=CHANNELS).onnx(folder / profile, profile=profile)
        runs[profile] = session(folder / profile)
    x = np.random.default_rng(0).standard_normal((1, T, CHANNELS)).astype(np.float32)
    _, state = runs["ort"].prefill({"x": x})
    step = in_turn({name: partial(run.step, {"x": x[:, 0]}, state) for name, run in runs.items()})
    report.add(row("convolution: one token", "Concat, Mul, ReduceSum", step["portable"], "ms"))
    ratio = step["portable"].median / step["ort"].median
    report.add(row("convolution: one token", "seqc (ort)", step["ort"], "ms", ratio))
    node = helper.make_node(
        "CausalConvWithState", ["x", "w", "", "s"], ["y", "t"], domain=CONTRIB, channels_last=1
    )
    graph = load(model([node], ["x", "w", "s"], ["y", "t"]))
    feeds = {"x": x, "w": np.zeros((CHANNELS, 1, 4), np.float32), "s": np.zeros((1, 3, CHANNELS), np.float32)}
    whole = in_turn(
        {"ort": partial(runs["ort"].prefill, {"x": x}), "operator": partial(graph.run, None, feeds)}
    )
    report.add(row("convolution: prompt", "CausalConvWithState", whole["operator"], "ms"))
    ratio = whole["operator"].median / whole["ort"].median
    report.add(row("convolution: prompt", "seqc (ort)", whole["ort"], "ms", ratio))


def matrices_of(folder: Path) -> dict[str, Array]:
    """Every matrix that the step multiplies a token by."""
    graph = onnx.load(folder / "step.onnx").graph
    stored = {x.name: x for x in graph.initializer}
    names = [node.input[1] for node in graph.node if node.op_type == "MatMul" and node.input[1] in stored]
    return {name: numpy_helper.to_array(stored[name], str(folder)) for name in names}


def stack(weights: Mapping[str, Array]) -> Run:
    """A token times every matrix, and nothing else."""
    feeds = {f"x{len(w)}": np.ones((1, len(w)), np.float32) for w in weights.values()}
    nodes = [
        helper.make_node("MatMul", [f"x{len(weights[name])}", name], [f"y{place}"])
        for place, name in enumerate(weights)
    ]
    bare = load(model(nodes, list(feeds), [f"y{place}" for place in range(len(weights))], weights))
    return partial(bare.run, None, feeds)


def middle(x: Sample, y: Sample) -> Sample:
    return Sample((x.median + y.median) / 2, max(x.spread, y.spread))


def decode(report: Report, folder: Path) -> None:
    for name, settings in WHOLE.items():
        out = folder / name.replace("/", "_")
        handle = seqc.load(bundled.folder("specs") / f"{name}.seq").model(**settings)
        handle.onnx(out, profile="ort")
        run, token = session(out), {"tokens": np.zeros(1, np.int64)}
        _, state = run.prefill({"tokens": np.zeros((1, 8), np.int64)})
        weights = matrices_of(out)
        sides: dict[str, Run] = {}
        for copy in ("", ", again"):  # where in memory weights lie is worth a tenth
            sides[f"seqc{copy}"] = partial(session(out).step, token, state)
            sides[f"stack{copy}"] = stack(weights)
        each = in_turn(sides, rounds=15)
        found = {side: middle(each[side], each[f"{side}, again"]) for side in ("seqc", "stack")}
        size = f"{handle.report()['parameters']['count'] / 1e6:.0f} M"
        matrices = sum(x.nbytes for x in weights.values())
        moved = matrices + 2 * sum(x.nbytes for x in state.values())
        ratio = moved / matrices * found["stack"].median / found["seqc"].median
        report.add(row(f"decode: {name}, {size}", "its matrices alone", found["stack"], "ms"))
        report.add(row(f"decode: {name}, {size}", "seqc", found["seqc"], "ms", ratio, Bar(0.9)))


def far(report: Report, folder: Path) -> None:
    draw = np.random.default_rng(0)
    for name in FAR:
        out = folder / name.replace("/", "_")
        seqc.load(bundled.folder("specs") / f"{name}.seq").model().onnx(out, profile="ort")
        run, token = session(out), {"tokens": np.zeros(1, np.int64)}
        states: dict[str, Any] = {}
        state, position = run.init_state(1), 0
        for wanted in (0, 1_000, 10_000, 100_000):
            while position < wanted:
                count = min(SEGMENT, wanted - position)
                _, state = run.prefill({"tokens": draw.integers(0, 256, (1, count))}, state)
                position += count
            states[f"{wanted:,}"] = state
        found = in_turn(
            {place: partial(run.step, token, state) for place, state in states.items()}, rounds=15
        )
        first = found["0"].median
        for place, sample in found.items():
            ratio, bar = sample.median / first, Bar(1.1, most=True)
            report.add(row(f"far: {name}", f"after {place} tokens", sample, "ms", ratio, bar))


PARTS = {"native": native, "chunks": chunks, "convolution": convolution, "decode": decode, "far": far}


def main() -> None:
    restart_with_kept_memory("benchmarks.onnx")
    report = Report("onnx", "The ONNX target in ONNX Runtime", ABOUT, COMPARED)
    for name in sys.argv[1:] or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[name](report, Path(folder))
    if not sys.argv[1:]:
        report.write()


if __name__ == "__main__":
    main()
