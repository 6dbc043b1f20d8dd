"""Names in emitted C++: identifiers that come from a spec are never used as they are."""

from __future__ import annotations

import re

RESERVED = frozenset({
    "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break", "case", "catch",
    "char", "char16_t", "char32_t", "class", "compl", "concept", "const", "consteval", "constexpr", "constinit",
    "const_cast", "continue", "co_await", "co_return", "co_yield", "decltype", "default", "delete", "do",
    "double", "dynamic_cast", "else", "enum", "explicit", "export", "extern", "false", "float", "for", "friend",
    "goto", "if", "inline", "int", "long", "mutable", "namespace", "new", "noexcept", "not", "not_eq",
    "nullptr", "operator", "or", "or_eq", "private", "protected", "public", "register", "reinterpret_cast",
    "requires", "return", "short", "signed", "sizeof", "static", "static_assert", "static_cast", "struct",
    "switch", "template", "this", "thread_local", "throw", "true", "try", "typedef", "typeid", "typename",
    "union", "unsigned", "using", "virtual", "void", "volatile", "wchar_t", "while", "xor", "xor_eq", "real",
    "math", "std", "main", "linux", "unix", "errno", "NULL", "EOF", "REAL", "INFINITE", "NOT_A_NUMBER", "ROWS",
    "GROUP", "STATE", "KEPT", "SEGMENT", "SCRATCH", "IN_PLACE", "before", "d_after", "d_before", "d_shared", "from",
    "to", "INFINITY", "NAN", "after", "next", "scratch", "token", "advance", "reverse", "prepare",
    "prepare_reverse", "forward", "backward", "batch", "time", "reset", "t", "b", "row", "unit", "units", "at",
    "now", "later", "memory", "history", "inputs", "constants", "outputs", "kept", "threads", "fresh", "first",
    "copy_in", "copy_out", "r", "BLOCK", "block", "advance_block", "reverse_block", "matrices",
})  # fmt: skip


def identifier(name: str) -> str:
    """An ASCII identifier that resembles `name` and is not reserved."""
    text = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_") or "x"
    if text[0].isdigit():
        text = f"x{text}"
    return f"{text}_" if text in RESERVED else text


class Names:
    """Gives out identifiers, each once; `pointers` are those that stand for memory."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.pointers: set[str] = set()

    def fresh(self, hint: str) -> str:
        base = identifier(hint)
        name, count = base, 2
        while name in self.taken:
            name, count = f"{base}{count}", count + 1
        self.taken.add(name)
        return name

    def pointer(self, hint: str) -> str:
        name = self.fresh(hint)
        self.pointers.add(name)
        return name
