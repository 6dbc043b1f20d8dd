"""Quantising what `seqc compile` wrote, and saying what that costs and gains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqc.backend import Quantized, Quantizes, Recipe, Runner, backends
from seqc.errors import UserError
from seqc.output import MANIFEST, new_folder, read_manifest
from seqc.readme import README, write_quantized_readme
from seqc.runtime import continued, damage, load_runner, logits_of, throughput, vocabulary_of
from seqc.sampling import Sampling
from seqc.vocabulary import Bytes, Pieces, Vocabulary
from seqc.weights import WEIGHTS

Array = npt.NDArray[Any]

CALIBRATED = 8192  # tokens that calibration reads, at most
JUDGED = 4096  # tokens that the model is judged by, at most
PIECE = 512  # tokens of a piece, of which the last are read one at a time
STEPS = 32
SHORTEST = 256  # tokens of a text
CHARACTERS = 1_000_000  # of a text that are read
BESIDE = (README, MANIFEST, WEIGHTS)  # files that running a folder does not take


@dataclass(frozen=True, slots=True)
class Measured:
    """A folder: the bytes of its graphs and their weights; and for a model of tokens how well and how fast it runs."""

    bytes: int
    perplexity: float | None = None
    prefill: float | None = None
    decode: float | None = None


@dataclass(frozen=True, slots=True)
class Quantization:
    """What `quantize` did. `logits_error` is a relative 2-norm, `same_choice` the share of tokens after which the
    likeliest next one is the same; both are None of what is no model of tokens, or cannot go token by token.
    """

    name: str
    format: str
    block: int | None
    calibrated: int  # tokens
    judged: int
    judged_by: str
    held: dict[str, str]
    smoothed: int
    before: Measured
    after: Measured
    logits_error: float | None = None
    same_choice: float | None = None

    def report(self) -> dict[str, Any]:
        """What `seqc quantize --json` prints."""
        return {"version": 1, **asdict(self)}


def quantize(
    folder: str | Path,
    out: str | Path,
    format: str = "int8",
    *,
    block: int | None = None,
    calibrate: str | Path | None = None,
    evaluate: str | Path | None = None,
    tokenizer: str | Path | None = None,
    threads: int | None = 1,
) -> Quantization:
    """Write a compiled folder in fewer bits into `out`, whole or not at all, and compare both.

    `calibrate` is a text to choose the rounding by; what calibration does not read of it judges the result, unless
    `evaluate` is another text for that. Without either the model is judged by what it writes itself. The tokens are
    those of `tokenizer`, without one bytes. Raises `UserError`.
    """
    source, target = Path(folder), Path(out)
    manifest = read_manifest(source)
    maker = _maker(source, manifest, format)
    if target.exists() and target.resolve() == source.resolve():
        raise UserError(
            f"`{folder}` would be replaced by what is made of it", "choose another folder with `-o`"
        )
    runs = manifest.get("kind") == "tokens" and manifest.get("step", True) is not None
    if not runs and (calibrate or evaluate):
        raise UserError(f"`{folder}` cannot read a text", "only models of tokens that go token by token can")
    words: Vocabulary = Bytes() if tokenizer is None else Pieces(Path(tokenizer))
    before = load_runner(source, threads) if runs else None
    texts = _texts(before, words, calibrate, evaluate)
    with new_folder(target) as staging:
        recipe = Recipe(format, block, texts.calibration)
        done = _made(maker, source, staging, recipe)
        write_quantized_readme(staging, str(manifest.get("name")), format, runs)
        after = load_runner(staging, threads) if runs else None
        return _compared(source, staging, recipe, done, before, after, texts)


def _maker(folder: Path, manifest: dict[str, Any], format: str) -> Quantizes:
    maker = backends().get(str(manifest.get("target")))
    if not isinstance(maker, Quantizes):
        able = " or ".join(name for name, own in backends().items() if isinstance(own, Quantizes))
        raise UserError(f"seqc cannot quantise what is in `{folder}`", f"compile it for {able}")
    if format not in maker.formats:
        known = ", ".join(f"`{name}`" for name in maker.formats)
        raise UserError(f"there is no format `{format}`", f"the formats are {known}")
    return maker


def _made(maker: Quantizes, source: Path, out: Path, recipe: Recipe) -> Quantized:
    try:
        return maker.quantize(source, out, recipe)
    except OSError as error:
        raise UserError(f"cannot quantise `{source}`: {error.strerror or error}") from error
    except (ValueError, LookupError, TypeError, RuntimeError) as error:
        raise damage(source, error) from error


# --- texts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Texts:
    """Tokens to calibrate by, tokens to judge by, and what the latter are."""

    calibration: list[int] | None
    judging: list[int]
    origin: str


def _texts(
    runner: Runner | None, words: Vocabulary, calibrate: str | Path | None, evaluate: str | Path | None
) -> _Texts:
    if runner is None:
        return _Texts(None, [], "nothing")
    size = vocabulary_of(runner)
    calibration = None if calibrate is None else _tokens(Path(calibrate), words, size)
    if evaluate is not None:
        return _Texts(
            calibration and calibration[:CALIBRATED],
            _tokens(Path(evaluate), words, size)[:JUDGED],
            f"{evaluate}",
        )
    if calibration is None:
        written = [0, *continued(runner, [0], PIECE - 1, Sampling(1.0).chooser())]
        return _Texts(None, written, "what the model writes itself")
    read = min(CALIBRATED, len(calibration) * 3 // 4)
    return _Texts(calibration[:read], calibration[read : read + JUDGED], f"the rest of {calibrate}")


def _tokens(file: Path, words: Vocabulary, size: int) -> list[int]:
    """The beginning of a text, in a model's tokens."""
    try:
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            text = stream.read(CHARACTERS)
    except OSError as error:
        raise UserError(f"cannot read `{file}`: {error.strerror}") from error
    if isinstance(words, Pieces) and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UserError(f"`{file}` is not text in UTF-8")
    tokens = words.encode(text) if text else []
    if len(tokens) < SHORTEST:
        raise UserError(
            f"`{file}` is too short: {len(tokens)} tokens", f"a text of {SHORTEST} says enough, more say more"
        )
    words.check(tokens, size)
    return tokens


# --- measuring -------------------------------------------------------------------------------------------------------


def _compared(
    source: Path,
    made: Path,
    recipe: Recipe,
    done: Quantized,
    before: Runner | None,
    after: Runner | None,
    texts: _Texts,
) -> Quantization:
    quality = Quality() if before is None or after is None else judge(before, after, texts.judging)
    return Quantization(
        name=str(read_manifest(made).get("name")),
        format=recipe.format,
        block=recipe.block,
        calibrated=len(texts.calibration or ()),
        judged=len(texts.judging),
        judged_by=texts.origin,
        held=dict(done.held),
        smoothed=done.smoothed,
        before=_measured(source, before, quality.before),
        after=_measured(made, after, quality.after),
        logits_error=quality.error,
        same_choice=quality.same,
    )


def _measured(folder: Path, runner: Runner | None, perplexity: float | None) -> Measured:
    size = sum(path.stat().st_size for path in folder.iterdir() if path.name not in BESIDE)
    if runner is None:
        return Measured(size)
    prefill, decode = throughput(runner)
    return Measured(size, perplexity, round(prefill, 1), round(decode, 1))


@dataclass(frozen=True, slots=True)
class Quality:
    """Two perplexities, the logits' difference (a relative 2-norm), how often the likeliest token is the same."""

    before: float | None = None
    after: float | None = None
    error: float | None = None
    same: float | None = None


def judge(before: Runner, after: Runner, tokens: Sequence[int]) -> Quality:
    """Compare two runners of one model on a text, in pieces whose last tokens are read one at a time."""
    losses, squares, same, count = np.zeros(2), np.zeros(2), 0, 0
    for start in range(0, len(tokens) - 1, PIECE):
        piece = np.asarray(tokens[start : start + PIECE + 1], np.int64)
        pairs = zip(_read(before, piece[:-1]), _read(after, piece[:-1]), strict=True)
        targets = iter(piece[1:])
        for old, new in pairs:
            wanted = np.fromiter(islice(targets, len(old)), np.int64)
            if not np.isfinite(new).all():
                raise UserError(
                    "the quantised model's logits are not finite", "choose a format with more bits"
                )
            losses += [_loss(old, wanted), _loss(new, wanted)]
            squares += [float(np.square(new - old).sum()), float(np.square(old).sum())]
            same += int((old.argmax(-1) == new.argmax(-1)).sum())
            count += len(old)
    first, second = np.exp(losses / count)
    return Quality(float(first), float(second), float(np.sqrt(squares[0] / squares[1])), same / count)


def _read(runner: Runner, piece: Array) -> Iterator[Array]:
    """The logits `[tokens, vocabulary]` after every token of a piece, some at a time, in double precision."""
    whole = max(1, len(piece) - STEPS)
    outputs, state = runner.prefill(piece[None, :whole])
    yield logits_of(outputs)[0].astype(np.float64)
    for token in piece[whole:]:
        outputs, state = runner.step(token[None], state)
        yield logits_of(outputs).astype(np.float64)


def _loss(logits: Array, wanted: Array) -> float:
    """The sum of -log p of the tokens that came."""
    shifted = logits - logits.max(-1, keepdims=True)
    chosen = np.take_along_axis(shifted, wanted[:, None], -1)[:, 0]
    return float((np.log(np.exp(shifted).sum(-1)) - chosen).sum())
