"""Programs that are almost right: bytes, or words, of good ones changed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from seqc.bundled import folder
from tests.syntax.programs import FIVE, OTHER

WORDS = (
    b"rule block model let state memory return repeat if else as ( ) [ ] { } -> = == ' \" , ; : . ^ - # 1e9 \xff \x00"
).split()
NUMBERS = ["0", "1", "2", "3", "7", "64", "2147483647", "0.5", "1e-30", "1e30", "1e308"]
TOKEN = re.compile(r"#[^\n]*\n|\"[^\"\n]*\"|[A-Za-z_]\w*'?|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|[<>=!]=|->|\s+|.")


def seeds() -> list[str]:
    """The programs to start from: ours, and everything in `specs/`."""
    specs = [path.read_text(encoding="utf-8") for path in sorted(folder("specs").rglob("*.seq"))]
    return [FIVE, OTHER.replace('use "lib/blocks.seq"\n', ""), *specs]


def change_bytes(text: str, rng: random.Random) -> str:
    changed = bytearray(text.encode())
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(5):
            case 0:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del changed[at : at + rng.randint(1, 30)]
            case 2:
                changed[at:at] = b" " + rng.choice(WORDS) + b" "
            case 3:
                other = rng.randrange(len(changed) + 1)
                changed[at:at] = changed[other : other + rng.randint(1, 60)]
            case _:
                changed[at : at + 1] = rng.choice(WORDS)
    return changed.decode("utf-8", "replace")


def change_words(text: str, rng: random.Random) -> str:
    """A text whose words are in good order and mean something else."""
    words = TOKEN.findall(text)
    places = [i for i, word in enumerate(words) if word[0].isalnum() or word[0] in "+-*/%^_"]
    for _ in range(rng.randint(1, 3)):
        at = rng.choice(places)
        word = words[at]
        if word[0].isdigit():
            words[at] = rng.choice(NUMBERS)
        elif word[0] in "+-*/%^" and word != "->":
            words[at] = rng.choice("+-*/%^")
        else:
            other = words[rng.choice(places)]
            words[at] = other if other[0].isalpha() else word
    return "".join(words)


def mutants(seed: int, count: int) -> Iterator[str]:
    rng = random.Random(seed)
    texts = seeds()
    for _ in range(count):
        change = change_words if rng.random() < 0.5 else change_bytes
        yield change(rng.choice(texts), rng)
