"""The modules of quantisation, under the name that they are run by and the one that type checkers find them by."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backends.onnx.quantize import rounding, smooth  # noqa: TID251  # in a checkout
    from backends.onnx.quantize.matrices import find_matrices  # noqa: TID251
    from backends.onnx.quantize.quantizer import quantize  # noqa: TID251
    from backends.onnx.write import save  # noqa: TID251
else:
    from seqc.backends.onnx.quantize import rounding, smooth
    from seqc.backends.onnx.quantize.matrices import find_matrices
    from seqc.backends.onnx.quantize.quantizer import quantize
    from seqc.backends.onnx.write import save

__all__ = ["find_matrices", "quantize", "rounding", "save", "smooth"]
