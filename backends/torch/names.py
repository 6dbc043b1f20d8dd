"""Names in emitted code: identifiers that come from a spec are never used as they are."""

from __future__ import annotations

import builtins
import keyword
import re
from functools import cache

from .splice import members

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


# What any module of PyTorch has as attributes.
MODULE = frozenset({
    "T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children", "compile", "cpu",
    "cuda", "double", "dump_patches", "eval", "extra_repr", "float", "forward", "get_buffer", "get_extra_state",
    "get_parameter", "get_submodule", "half", "ipu", "load_state_dict", "modules", "mtia", "named_buffers",
    "named_children", "named_modules", "named_parameters", "parameters", "register_backward_hook", "register_buffer",
    "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_load_state_dict_post_hook", "register_load_state_dict_pre_hook",
    "register_module", "register_parameter", "register_state_dict_post_hook", "register_state_dict_pre_hook",
    "requires_grad_", "set_extra_state", "set_submodule", "share_memory", "state_dict", "to", "to_empty", "train",
    "training", "type", "xpu", "zero_grad",
})  # fmt: skip


@cache
def taken() -> frozenset[str]:
    """What a module of ours has as attributes already: parameters of these names are looked up as items."""
    return MODULE | members()


def path_text(path: str) -> str:
    """`.u.linear.weight`, as it follows `self`."""
    text = ""
    for part in path.split("."):
        plain = part.isidentifier() and part.isascii() and not keyword.iskeyword(part) and part[0] != "_"
        free = part not in taken()
        text += f".{part}" if plain and free else f'["{part}"]'
    return text


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
