"""Whether a spec, or the compiler, is still what was examined."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from seqc import bundled

# What these do changes no answer of a compiled program.
ASIDE = ("cli", "diagnostics", "views", "explain.py", "zoo.py")
_COMMENT = re.compile(r"#.*$", re.MULTILINE)


def of_text(path: Path) -> str:
    """A spec without its comments and its layout."""
    return _digest(" ".join(_COMMENT.sub("", path.read_text(encoding="utf-8")).split()).encode())


@cache
def of_compiler() -> str:
    """Everything between the text of a spec and the outcome of a check."""
    return _digest(*(path.read_bytes() for path in _parts()))


def _parts() -> Iterator[Path]:
    package = Path(bundled.__file__).parent
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] not in ASIDE:
            yield path
    yield from sorted(bundled.folder("backends").rglob("*.py"))
    yield bundled.folder("grammar") / "seq.lark"
    yield from sorted((bundled.folder("specs") / "std").glob("*.seq"))


def _digest(*parts: bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:16]
