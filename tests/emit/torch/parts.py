"""What the tests need of the backend.

It stands at the root of a checkout and is imported as part of `seqc`, which type checkers cannot know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import backends.torch as backend  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.torch import BACKEND, emit_model, emit_rule  # noqa: TID251
    from backends.torch.names import Names, class_name, identifier, path_text, taken  # noqa: TID251
    from backends.torch.primitives import SPELLINGS  # noqa: TID251
    from backends.torch.values import HINTS, KINDS  # noqa: TID251
else:
    import seqc.backends.torch as backend
    from seqc.backends.torch import BACKEND, emit_model, emit_rule
    from seqc.backends.torch.names import Names, class_name, identifier, path_text, taken
    from seqc.backends.torch.primitives import SPELLINGS
    from seqc.backends.torch.values import HINTS, KINDS

__all__ = [
    "BACKEND",
    "HINTS",
    "KINDS",
    "SPELLINGS",
    "Names",
    "backend",
    "class_name",
    "emit_model",
    "emit_rule",
    "identifier",
    "path_text",
    "taken",
]
