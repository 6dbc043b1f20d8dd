"""`seqc run`: continue a text with a compiled model of tokens."""

from __future__ import annotations

import codecs
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from seqc.cli.common import Json, is_colourful, plural, print_json


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `seqc compile` wrote.")],
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="The text to continue.")],
    length: Annotated[int, typer.Option("--length", "-l", min=1, help="How many tokens to add.")] = 200,
    temperature: Annotated[
        float,
        typer.Option("--temperature", min=0, help="0: always the likeliest token; 1: as the model says."),
    ] = 0.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="Keep so many of the likeliest tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0, max=1, help="Keep the likeliest tokens up to this probability.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other tokens.")] = 0,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A tokenizer.json; without one, tokens are bytes.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="How many threads may compute.")] = None,
    json: Json = False,
) -> None:
    """Continue a text, token by token, in ONNX Runtime or PyTorch (whichever DIR was compiled for).

    Without --temperature the next token is always the likeliest one; of equally likely ones the lowest.

    Example:

      seqc compile griffin --target onnx --weights griffin.safetensors -o built
      seqc run built --prompt "def main(" --temperature 0.8 --top-p 0.95
    """
    from seqc.runtime import continued, load_runner, vocabulary_of
    from seqc.sampling import Sampling
    from seqc.vocabulary import Bytes, Pieces

    if not prompt:
        raise typer.BadParameter("the prompt is empty", param_hint="--prompt")
    if temperature == 0 and (top_k is not None or top_p is not None):
        raise typer.BadParameter(
            "--top-k and --top-p choose nothing at temperature 0", param_hint="--temperature"
        )
    words = Bytes() if tokenizer is None else Pieces(tokenizer)
    runner, given = load_runner(folder, threads), words.encode(prompt)
    words.check(given, vocabulary_of(runner))
    made = Generated(words.decoder(), silent=json)
    for token in continued(runner, given, length, Sampling(temperature, top_k, top_p).chooser(seed)):
        if not made.tokens:
            made.show(prompt.encode(errors="surrogateescape"))
        made.add(token)
    if json:
        print_json({"prompt": prompt, **made.report()})
        return
    made.show(b"\n")
    dim, off = ("\x1b[2m", "\x1b[0m") if is_colourful(sys.stderr) else ("", "")
    speed = f", {made.rate:,.0f} a second after the first" if made.rate else ""
    read = f"{plural(len(given), 'token')} of prompt and the first in {made.times[0]:.2f} s"
    print(f"{dim}{plural(length, 'token')} in {made.seconds:.2f} s ({read}{speed}){off}", file=sys.stderr)


class Generated:
    """The tokens so far, shown as they come unless `silent`, and the times since the start at which they came."""

    def __init__(self, decode: Callable[[int], bytes], silent: bool) -> None:
        self.decode, self.write = decode, _ignore if silent else _writer()
        self.tokens: list[int] = []
        self.times: list[float] = []
        self.text = b""
        self.start = time.perf_counter()

    def add(self, token: int) -> None:
        piece = self.decode(token)
        self.tokens.append(token)
        self.times.append(time.perf_counter() - self.start)
        self.text += piece
        self.show(piece)

    def show(self, data: bytes) -> None:
        self.write(data)

    @property
    def seconds(self) -> float:
        return self.times[-1]

    @property
    def rate(self) -> float:
        """Tokens a second after the first, which has the whole prompt before it."""
        spent = self.times[-1] - self.times[0]
        return (len(self.times) - 1) / spent if spent else 0.0

    def report(self) -> dict[str, object]:
        return {
            "text": self.text.decode(errors="replace"),
            "tokens": self.tokens,
            "bytes": list(self.text),
            "seconds": round(self.seconds, 3),
            "first_token_seconds": round(self.times[0], 3),
            "tokens_per_second": round(self.rate, 1),
        }


def _ignore(data: bytes) -> None:
    pass


def _writer() -> Callable[[bytes], None]:
    """Writes bytes as they come; on a terminal as text, with marks in the place of what could drive it."""
    if not sys.stdout.isatty():
        return _write
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    return lambda data: _write(_harmless(decode(data)).encode())


def _harmless(text: str) -> str:
    return "".join(
        char if char in "\n\t" or char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
