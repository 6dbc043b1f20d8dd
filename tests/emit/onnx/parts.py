"""The backend's modules, under the name that they are run by and the one that type checkers find them by."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backends.onnx import write as writing  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.onnx.builder import Names, safe_name  # noqa: TID251
    from backends.onnx.manifest import Manifest  # noqa: TID251
    from backends.onnx.native import find_native  # noqa: TID251
    from backends.onnx.pairs import COMPLEX_PRIMITIVES  # noqa: TID251
    from backends.onnx.primitives import PRIMITIVES  # noqa: TID251
    from backends.onnx.session import Session, State  # noqa: TID251
else:
    from seqc.backends.onnx import write as writing
    from seqc.backends.onnx.builder import Names, safe_name
    from seqc.backends.onnx.manifest import Manifest
    from seqc.backends.onnx.native import find_native
    from seqc.backends.onnx.pairs import COMPLEX_PRIMITIVES
    from seqc.backends.onnx.primitives import PRIMITIVES
    from seqc.backends.onnx.session import Session, State

__all__ = [
    "COMPLEX_PRIMITIVES",
    "PRIMITIVES",
    "Manifest",
    "Names",
    "Session",
    "State",
    "find_native",
    "safe_name",
    "writing",
]
