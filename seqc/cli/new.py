"""`seqc new`: a first spec to change."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from seqc.cli.common import complete_spec, find_spec
from seqc.diagnostics.syntax import KEYWORDS
from seqc.errors import UserError
from seqc.output import write_file

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")
_ITEM = re.compile(r"^(?:model|rule) +(\w+)", re.MULTILINE)

START = """\
# {name}: say here what it is, which paper it follows, and what is uncertain.

# What happens to the memory when one token arrives; there is no time axis in a rule.
rule {name}_rule(q[n], k[n], v[m], alpha) {{
    state  S[m, n] = 0
    S'     = alpha * S + v * k
    return sum[n](S' * q)
}}

# A block works on whole sequences; `h` heads come from the axes alone.
block {name}_mixer(x[d]; h, n, m) {{
    let q[h, n] = l2_norm[n](linear(x) -> [h, n])
    let k[h, n] = l2_norm[n](linear(x) -> [h, n])
    let v[h, m] = linear(x)
    let a[h]    = sigmoid(linear(x, bias = true))
    let y[h, m] = {name}_rule(q, k, v, alpha = a)
    return linear(y) -> [d]
}}

model {name}(tokens; vocab = 256, d = 128, h = 4, n = 32, m = 32, layers = 2) {{
    x[d] = embed(tokens, vocab)
    repeat layers {{
        x = x + {name}_mixer(rms_norm(x), h, n, m)
        x = x + swiglu(rms_norm(x))
    }}
    return lm_head(rms_norm(x), vocab)
}}
"""


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it; the file is NAME.seq.")],
    like: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="Begin with a copy of this spec.", autocompletion=complete_spec),
    ] = None,
) -> None:
    """Write a small spec to start from: NAME.seq in this folder.

    It is a model of bytes around a rule of your own, or a copy of a spec that comes with seqc. No file is replaced.

    Example:

      seqc new mine
      seqc new mine --like gated_delta
    """
    if not _IDENTIFIER.fullmatch(name):
        raise typer.BadParameter(f"`{name}` is not a name: letters, digits and _, beginning with a letter")
    if _is_taken(name):
        raise typer.BadParameter(f"`{name}` has a meaning in the language already")
    target = Path(f"{name}.seq")
    if target.exists():
        raise UserError(f"`{target}` is there already", "choose another name, or remove it")
    text = START.format(name=name) if like is None else _copied(find_spec(like), name)
    write_file(target, text)
    print(f"wrote {target}\nnext:  seqc explain {target}")


def _is_taken(name: str) -> bool:
    from seqc.check.library import standard

    return name in KEYWORDS or name in standard().callables()


def _copied(source: Path, name: str) -> str:
    """The text of `source`, with the item that the file is named after (or its last one) renamed."""
    text = source.read_text(encoding="utf-8")
    items: list[str] = _ITEM.findall(text)
    main = source.stem if source.stem in items else items[-1] if items else source.stem
    return re.sub(rf"\b{re.escape(main)}\b", name, text)
