"""What `seqc quantize` gains: one token, and a prompt of 256, of a Griffin of 100 million random weights.

Beside the formats stand the graph in single precision that they are made of, and its step as ONNX Runtime's own
quantisers write it by default: bytes a tensor, and 4 bits in blocks of 128.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

import seqc
from benchmarks.measure import in_turn, restart_with_kept_memory
from benchmarks.report import Bar, Report, row
from seqc import bundled
from seqc.backend import Quantizes, Recipe, backend
from seqc.runtime import load_runner

SIZES: dict[str, float] = {"d": 768, "w": 1024, "h": 12, "n": 64, "layers": 4, "vocab": 4096}
PROMPT = 256
# The format and its block, and how many times as fast as single precision a token has to be.
FORMATS: dict[str, tuple[str, int | None, Bar | None]] = {
    "int8": ("int8", None, Bar(2.5)),
    "8bit, blocks of 128": ("8bit", 128, None),
    "4bit, blocks of 32": ("4bit", 32, Bar(2.5)),
    "4bit, blocks of 128": ("4bit", 128, Bar(2.5)),
}
FLOAT = "float32"
ABOUT = (
    "A Griffin of 104 million random weights, batch 1: one token, and a prompt of 256. The last two sides of a token "
    "are the same step as the quantisers of ONNX Runtime write it by default."
)
COMPARED = "time in float32 over time in the format."


def written(folder: Path) -> dict[str, Path]:
    """The model in single precision and in every format."""
    plain = folder / FLOAT
    seqc.load(bundled.folder("specs") / "hybrid" / "griffin.seq").model(**SIZES).onnx(plain)
    maker, found = backend("onnx"), {FLOAT: plain}
    assert isinstance(maker, Quantizes)
    for place, (side, (format, block, _)) in enumerate(FORMATS.items()):
        found[side] = folder / str(place)
        found[side].mkdir()
        maker.quantize(plain, found[side], Recipe(format, block))
    return found


def by_default(step: Path, folder: Path) -> dict[str, Path]:
    """The step as ONNX Runtime's own quantisers write it."""
    found = {"ONNX Runtime, int8": folder / "int8.onnx", "ONNX Runtime, 4 bits": folder / "4bit.onnx"}
    dynamic, blocks = found.values()
    logging.disable(logging.WARNING)  # a line a node
    quantize_dynamic(str(step), str(dynamic))
    quantizer = MatMulNBitsQuantizer(onnx.load(step), block_size=128)
    quantizer.process()
    onnx.save(getattr(quantizer.model, "model"), blocks)  # noqa: B009  # said to be what it is only before
    return found


def stepping(path: Path, feeds: Mapping[str, Any]) -> Callable[[], Any]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return partial(session.run, None, dict(feeds))


def compare(
    report: Report,
    case: str,
    sides: Mapping[str, Callable[[], Any]],
    rounds: int,
    bars: Mapping[str, Bar | None] | None = None,
) -> None:
    found = in_turn(sides, rounds)
    for side, sample in found.items():
        ratio = None if side == FLOAT else found[FLOAT].median / sample.median
        report.add(row(case, side, sample, "ms", ratio, (bars or {}).get(side)))


def main() -> None:
    restart_with_kept_memory("benchmarks.quantize")
    report = Report("quantize", "Models in fewer bits", ABOUT, COMPARED)
    with tempfile.TemporaryDirectory() as place:
        folders = written(Path(place))
        runners = {side: load_runner(folder, 1) for side, folder in folders.items()}
        tokens = np.arange(PROMPT)[None]
        states = {side: runner.prefill(tokens[:, :8])[1] for side, runner in runners.items()}
        steps: dict[str, Callable[[], Any]] = {
            side: partial(runner.step, tokens[:, 8], states[side]) for side, runner in runners.items()
        }
        feeds = {"tokens": tokens[:, 8], **{f"state.{name}": x for name, x in states[FLOAT].items()}}
        theirs = by_default(folders[FLOAT] / "step.onnx", Path(place))
        steps |= {side: stepping(path, feeds) for side, path in theirs.items()}
        compare(report, "one token", steps, 9, {side: bar for side, (_, _, bar) in FORMATS.items()})
        prompts = {side: partial(runner.prefill, tokens) for side, runner in runners.items()}
        compare(report, f"prompt of {PROMPT}", prompts, 5)
    report.write()


if __name__ == "__main__":
    main()
