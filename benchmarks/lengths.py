"""What a token costs in long sequences, and one token after many, for one rule a class.

The cost of a token in sequences of 256 to 16,384, and the time and the state of a single token after up to 100,000
others, in the fused C++ loops and in ONNX Runtime.  Heads of 32, batch 1, one thread.  Softmax attention, whose memory
grows, stands beside them in the charts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measure import Sample, restart_with_kept_memory
from benchmarks.report import RESULTS, Bar, Line, Report, draw_lines, row
from seqc.backend import Runner, Runs, backend
from seqc.bundled import folder
from seqc.spec import Handle, load
from seqc.speed import Time, measured, some_inputs

LENGTHS = (256, 1024, 4096, 16384)
POSITIONS = (100, 1_000, 10_000, 100_000)
# Tokens are read in parts of so many, so that inputs stay small.
PART = 10_000
STEPS = 64
TARGETS: dict[str, dict[str, str]] = {"cpu": {}, "onnx": {"profile": "ort"}}
FLAT = Bar(1.5, most=True)


@dataclass(frozen=True)
class Case:
    """A rule of a bundled spec; one that `grows` is followed less far."""

    path: str
    rule: str
    sizes: dict[str, float]
    grows: bool = False

    def handle(self) -> Handle:
        spec = load(folder("specs") / self.path)
        sizes = dict.fromkeys(spec.checked.default_sizes(self.rule), 32)
        return spec.rule(self.rule, **{**sizes, **self.sizes})

    @property
    def lengths(self) -> tuple[int, ...]:
        return LENGTHS[:-1] if self.grows else LENGTHS

    @property
    def positions(self) -> tuple[int, ...]:
        return POSITIONS[:-1] if self.grows else POSITIONS


CASES = {
    "diagonal (HGRN)": Case("gated/hgrn.seq", "hgrn", {"d": 512}),
    "scalar decay (Mamba-2)": Case("linear/mamba2.seq", "mamba2", {}),
    "key decay (GLA)": Case("linear/gla.seq", "gla", {}),
    "gated delta": Case("delta/gated_delta.seq", "gated_delta", {}),
    "diagonal plus low rank (RWKV-7)": Case("delta/rwkv7.seq", "rwkv7", {}),
    "complex (GateLoop)": Case("complex/gateloop.seq", "gate_loop", {}),
    "log-sum-exp (Aaren)": Case("attention/aaren.seq", "aaren", {}),
    "momentum (momentum delta)": Case("delta/momentum_delta.seq", "momentum_delta", {}),
    "held gradient (Titans)": Case("deep/titans.seq", "titans_linear", {}),
    "nonlinear (GRU)": Case("nonlinear/gru.seq", "gru", {}),
    "growing (softmax attention)": Case("attention/softmax.seq", "softmax_attention", {}, grows=True),
}


@dataclass(frozen=True)
class Curves:
    """Microseconds a token by length; microseconds of a step and bytes of the state by position."""

    tokens: list[Sample]
    steps: list[Sample]
    state: list[int]


def curves(runner: Runner, case: Case, handle: Handle) -> Curves:
    tokens = [_microseconds(_prefill(runner, handle, length), length) for length in case.lengths]
    steps: list[Sample] = []
    state: list[int] = []
    inputs = some_inputs(handle.whole, PART)
    kept: Any = None
    seen = 0
    for position in case.positions:
        while seen < position:
            part = min(PART, position - seen)
            _, kept = runner.prefill({name: x[:, :part] for name, x in inputs.items()}, kept)
            seen += part
        steps.append(_microseconds(_decode(runner, inputs, kept), STEPS))
        state.append(sum(x.nbytes for x in kept.values()))
    return Curves(tokens, steps, state)


def _prefill(runner: Runner, handle: Handle, length: int) -> Time:
    inputs = some_inputs(handle.whole, length)
    return measured(lambda: runner.prefill(inputs), clock=time.process_time)


def _decode(runner: Runner, inputs: dict[str, Any], state: Any) -> Time:
    single = {name: x[:, 0] for name, x in inputs.items()}

    def run() -> None:
        kept = state
        for _ in range(STEPS):
            _, kept = runner.step(single, kept)

    return measured(run, clock=time.process_time)


def _microseconds(taken: Time, tokens: int) -> Sample:
    return Sample(1e3 * taken.median / tokens, 1e3 * taken.spread / tokens)


def measure(case: Case, target: str, options: dict[str, Any]) -> Curves:
    handle, maker = case.handle(), backend(target)
    assert isinstance(maker, Runs)
    with TemporaryDirectory(prefix="seqc-lengths-") as place:
        built = Path(place) / "built"
        handle.write(target, built, **options)
        return curves(maker.runner(built, 1), case, handle)


def record(report: Report, name: str, target: str, found: Curves) -> None:
    """Rows that say how the cost at the far end stands to the cost before."""
    cost = found.tokens[-1].median / found.tokens[1].median
    step = found.steps[-1].median / found.steps[0].median
    state = found.state[-1] / found.state[0]
    bytes_ = Sample(found.state[-1], 0.0)
    report.add(
        row(f"{name}, a token of {LENGTHS[-1]:,}", target, found.tokens[-1], "µs", cost, FLAT),
        row(f"{name}, one token after {POSITIONS[-1]:,}", target, found.steps[-1], "µs", step, FLAT),
        row(f"{name}, state after {POSITIONS[-1]:,}", target, bytes_, "bytes", state, Bar(1, most=True)),
    )


def draw(found: dict[tuple[str, str], Curves]) -> None:
    for target in TARGETS:
        own = {name: each for (name, of), each in found.items() if of == target}
        tokens = [
            Line(name, LENGTHS[: len(each.tokens)], [s.median for s in each.tokens])
            for name, each in own.items()
        ]
        steps = [
            Line(name, POSITIONS[: len(each.steps)], [s.median for s in each.steps])
            for name, each in own.items()
        ]
        state = [Line(name, POSITIONS[: len(each.state)], each.state) for name, each in own.items()]
        draw_lines(
            f"Cost by length and position: target {target}",
            "tokens",
            {"µs a token of a sequence": tokens, "µs of one token": steps, "bytes of state": state},
            RESULTS / f"lengths-{target}.png",
        )


def main() -> None:
    restart_with_kept_memory("benchmarks.lengths")
    report = Report(
        "lengths",
        "Cost by length and position",
        " ".join((__doc__ or "").split()),
        f"of a token: in {LENGTHS[-1]:,} over in {LENGTHS[1]:,}; of one token and of the state: after "
        f"{POSITIONS[-1]:,} over after {POSITIONS[0]:,}",
    )
    found: dict[tuple[str, str], Curves] = {}
    for name, case in CASES.items():
        for target, options in TARGETS.items():
            found[name, target] = measure(case, target, options)
            if not case.grows:
                record(report, name, target, found[name, target])
    report.write()
    draw(found)


if __name__ == "__main__":
    main()
