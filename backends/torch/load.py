"""Running emitted text: exactly the file, with tracebacks that show it."""

from __future__ import annotations

import hashlib
import linecache
import sys
from types import ModuleType


def load_module(text: str, name: str = "emitted") -> ModuleType:
    """The emitted text as a module; the same text gives the same module."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    full = f"seqc_emitted_{name}_{digest}"
    if full in sys.modules:
        return sys.modules[full]
    filename = f"<seqc {name} {digest}>"
    module = ModuleType(full)
    module.__file__ = filename
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    sys.modules[full] = module
    try:
        exec(compile(text, filename, "exec"), module.__dict__)  # the text is what we emitted
    except BaseException:
        del sys.modules[full]
        raise
    return module
