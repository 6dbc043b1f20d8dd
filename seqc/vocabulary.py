"""What a model's tokens stand for: bytes, or the pieces of a tokenizer file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from seqc.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Vocabulary(Protocol):
    """Text to tokens and back."""

    def encode(self, text: str) -> list[int]: ...

    def decoder(self) -> Callable[[int], bytes]:
        """Takes tokens one after another and gives the bytes of text that each makes certain, possibly none."""
        ...

    def check(self, tokens: Sequence[int], size: int) -> None:
        """A `UserError` if a model with `size` tokens cannot be meant, or does not know some of `tokens`."""
        ...


class Bytes:
    """Token 0 to 255 is the byte of that number."""

    def encode(self, text: str) -> list[int]:
        return list(os.fsencode(text))

    def decoder(self) -> Callable[[int], bytes]:
        return lambda token: bytes([token])

    def check(self, tokens: Sequence[int], size: int) -> None:
        if size > 256:
            raise UserError(
                f"this is no model of bytes: it has {size:,} tokens", "give its tokenizer: --tokenizer FILE"
            )
        if max(tokens) >= size:
            raise UserError(f"the model has {size} tokens, and the prompt has the byte {max(tokens)}")


class Pieces:
    """The vocabulary of a `tokenizer.json`, as Hugging Face's tokenizers write it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.tokenizer = _load(file)

    def encode(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer.encode(text).ids
        if not found:
            raise UserError("the prompt has no tokens")
        return found

    def decoder(self) -> Callable[[int], bytes]:
        from tokenizers.decoders import DecodeStream

        stream = DecodeStream()

        def decode(token: int) -> bytes:
            text: str | None = stream.step(self.tokenizer, token)
            return (text or "").encode()

        return decode

    def check(self, tokens: Sequence[int], size: int) -> None:
        if max(tokens) >= size:
            known = self.tokenizer.get_vocab_size()
            raise UserError(
                f"the model has {size:,} tokens, and `{self.file}` has {known:,}: it is another model's"
            )


def _load(file: Path) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise UserError(
            "tokenizer files need the package `tokenizers`", 'pip install "seqc[text]"'
        ) from error
    if not file.is_file():
        raise UserError(f"there is no file `{file}`")
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # it raises nothing narrower
        raise UserError(f"`{file}` is no tokenizer file ({error})") from error
