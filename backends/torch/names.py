"""Names in emitted code: identifiers that come from a spec are never used as they are."""

from __future__ import annotations

import builtins
import keyword
import re

# What emitted modules import or define at their top, and the locals that the emitter itself uses.
RESERVED = frozenset({
    *keyword.kwlist, *keyword.softkwlist, *dir(builtins),
    "self", "run", "state", "states", "reset", "batch", "time", "lead", "like", "keep", "logits", "token", "tokens",
    "torch", "nn", "F", "Tensor", "Any", "math", "annotations", "Sequence", "Callable", "ClassVar",
})  # fmt: skip


def identifier(name: str) -> str:
    """An ASCII identifier that resembles `name` and is not reserved."""
    text = re.sub(r"[^0-9A-Za-z_]+", "_", name).strip("_") or "x"
    if text[0].isdigit():
        text = f"x{text}"
    return f"{text}_" if text in RESERVED else text


def class_name(name: str) -> str:
    """`gated_delta` as `GatedDelta`."""
    parts = [part for part in identifier(name).split("_") if part]
    return "".join(part[0].upper() + part[1:] for part in parts) or "Rule"


class Names:
    """Gives out identifiers, each once."""

    def __init__(self, taken: frozenset[str] | set[str] = frozenset()) -> None:
        self.taken = set(taken)

    def fresh(self, hint: str) -> str:
        base = identifier(hint)
        name, count = base, 2
        while name in self.taken:
            name, count = f"{base}_{count}", count + 1
        self.taken.add(name)
        return name

    def fresh_class(self, hint: str) -> str:
        base = class_name(hint)
        if base in RESERVED:
            base += "Rule"
        name, count = base, 2
        while name in self.taken:
            name, count = f"{base}{count}", count + 1
        self.taken.add(name)
        return name

    def copy(self) -> Names:
        return Names(self.taken)
