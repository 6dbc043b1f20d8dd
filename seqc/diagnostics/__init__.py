"""Everything the compiler says to the person who wrote the text.

A diagnostic is a small frozen class. To add one, write one class in the module of its area; nothing is
registered:

    @dataclass(frozen=True)
    class UnknownName(Diagnostic):
        \"\"\"One or two sentences that explain the fault to somebody who has just met it.

        Wrong:

            rule keep(x[d]) {
                return y
            }

        Right:

            rule keep(x[d]) {
                return x
            }
        \"\"\"

        code = "E0201"
        title = "unknown name"

        name: str                      # facts, after the inherited `span`
        known: tuple[str, ...]

        @property
        def message(self) -> str:      # the words, made of the facts
            return f"there is no value `{self.name}` here"

        @property
        def help(self) -> str | None:
            return did_you_mean(self.name, self.known)

and report it with `bag.add(UnknownName(span, name, known))`. The tests compile both examples: the wrong
one must give this code and no other error, the right one must be clean. A class whose fault cannot be
shown in a few lines (a limit, a missing file) has no *Wrong* example and a case of its own in
`tests/errors/`.

The docstring of a module begins with the hundred of its codes (`E02xx: …`). A code is never used again for
something else.

The voice: lowercase, no full stop, code in backticks, the smallest span that shows the fault, "invalid"
and never "illegal", and a `help:` line with the exact text to write wherever it can be guessed.
"""

from seqc.diagnostics.base import Bag, Diagnostic, Label, Severity, SpecError
from seqc.diagnostics.catalogue import Example, catalogue, explain_code
from seqc.diagnostics.render import render, render_all, to_json
from seqc.diagnostics.words import by_nearness, did_you_mean, nearest

__all__ = [
    "Bag",
    "Diagnostic",
    "Example",
    "Label",
    "Severity",
    "SpecError",
    "by_nearness",
    "catalogue",
    "did_you_mean",
    "explain_code",
    "nearest",
    "render",
    "render_all",
    "to_json",
]
