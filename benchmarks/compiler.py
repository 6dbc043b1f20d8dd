"""How long the compiler takes: a Griffin of 1 to 192 layers, from text to the source of a PyTorch module.

Every run starts cold, in a process of its own, and leaves out what importing torch takes (the emitter does not import
it).  The layers are groups of three mixers and three feed-forward blocks, so 16 of them are a model of 48 mixers.
`varied` gives every layer settings of its own, so that no two layers can share a class.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

LAYERS = (1, 16, 48, 96, 192)
RUNS = 5

SAME = "x = x + recurrent(rms_norm(x), w)"
VARIED = "x = x + recurrent(rms_norm(x), w + l)"

SPEC = """
rule rg_lru(x[d], r[d], i[d]) {
    param  decay[d] = inv_softplus(-0.5 * log(uniform(0.81, 0.998)))
    let    log_a = -8 * softplus(decay) * r
    state  h[d] = 0
    h'     = exp(log_a) * h + sqrt_bounded(1 - exp(2 * log_a), 1000) * (i * x)
    return h'
}

block recurrent(x[d]; w) {
    let u[w]  = causal_conv(linear(x), width = 4)
    let y[w]  = rg_lru(u, r = sigmoid(linear(u)), i = sigmoid(linear(u)))
    let g[w]  = gelu(linear(x))
    return linear(g * y) -> [d]
}

model griffin(tokens; vocab = 256, d = 256, w = 384, h = 4, n = 64, layers = LAYERS) {
    x[d] = embed(tokens, vocab)
    repeat layers as l {
        RECURRENT
        x = x + swiglu(rms_norm(x))
        x = x + local_attention(rms_norm(x), h, n, window = 128, kv_heads = 1)
        x = x + swiglu(rms_norm(x))
    }
    return lm_head(rms_norm(x), vocab)
}
"""

PROBE = """
import sys, time
import seqc, seqc.spec, seqc.passes.schedule, seqc.backends.torch.module
text = sys.stdin.read()
start = time.perf_counter()
handle = seqc.loads(text).model()
model = handle.model
middle = time.perf_counter()
source = seqc.backends.torch.emit_model(model)
print(middle - start, time.perf_counter() - middle, len(source.splitlines()))
"""


def measure(layers: int, recurrent: str) -> tuple[float, float, int]:
    """Median seconds to check and to emit, and the lines emitted."""
    text = SPEC.replace("LAYERS", str(layers)).replace("RECURRENT", recurrent)
    runs: list[tuple[float, float, float]] = []
    for _ in range(RUNS):
        done = subprocess.run(
            [sys.executable, "-c", PROBE], input=text, capture_output=True, text=True, check=True
        )
        check, emit, lines = map(float, done.stdout.split())
        runs.append((check, emit, lines))
    checks, emits, lines_ = zip(*runs, strict=True)
    return statistics.median(checks), statistics.median(emits), int(lines_[0])


def main() -> None:
    print(
        f"{'layers':>8} {'layers are':>10} {'parse, check':>14} {'schedule, emit':>15} {'total':>8} {'lines':>7}"
    )
    for name, recurrent in (("alike", SAME), ("varied", VARIED)):
        for layers in LAYERS if name == "alike" else LAYERS[:3]:
            check, emit, lines = measure(layers, recurrent)
            print(f"{layers:8} {name:>10} {check:12.3f} s {emit:13.3f} s {check + emit:6.3f} s {lines:7}")


if __name__ == "__main__":
    main()
