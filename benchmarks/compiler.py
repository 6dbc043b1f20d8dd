"""How long the compiler takes: a Griffin of 1 to 192 layers, from text to the source of a PyTorch module.

Every run starts cold, in a process of its own, and leaves out what importing torch takes (the emitter does not import
it).  The layers are groups of three mixers and three feed-forward blocks, so 16 of them are a model of 48 mixers.
`varied` gives every layer settings of its own, so that no two layers can share a class.
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.measure import Sample
from benchmarks.report import Bar, Report, row

LAYERS = (1, 16, 48, 96, 192)
RUNS = 3
# How much more a layer may cost among many than among 16.
LINEAR = 1.25

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
seqc.backends.torch.emit_model(model)
print(middle - start, time.perf_counter() - middle)
"""


def measure(layers: int, recurrent: str) -> tuple[Sample, Sample, Sample]:
    """Seconds to check, to emit, and for both."""
    text = SPEC.replace("LAYERS", str(layers)).replace("RECURRENT", recurrent)
    runs: list[tuple[float, float]] = []
    for _ in range(RUNS):
        done = subprocess.run(
            [sys.executable, "-c", PROBE], input=text, capture_output=True, text=True, check=True
        )
        check, emit = map(float, done.stdout.split())
        runs.append((check, emit))
    return (
        Sample.of([check for check, _ in runs]),
        Sample.of([emit for _, emit in runs]),
        Sample.of([check + emit for check, emit in runs]),
    )


def main() -> None:
    about = " ".join((__doc__ or "").split())
    compared = "of 16: seconds over one second; of the others: seconds a layer over those of 16"
    report = Report("compiler", "From text to a PyTorch module's source", about, compared)
    for name, recurrent in (("alike", SAME), ("varied", VARIED)):
        found = {layers: measure(layers, recurrent) for layers in (LAYERS if name == "alike" else LAYERS[:3])}
        of_16 = found[16][2].median / 16
        for layers, (check, emit, both) in found.items():
            case = f"{layers} layers {name}"
            ratio = both.median if layers == 16 else both.median / layers / of_16
            report.add(row(case, "parse and check", check, "s"), row(case, "schedule and emit", emit, "s"))
            bar = Bar(1 if layers == 16 else LINEAR, most=True) if layers >= 16 and name == "alike" else None
            report.add(row(case, "both", both, "s", ratio, bar))
    report.write()


if __name__ == "__main__":
    main()
