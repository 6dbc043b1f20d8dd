"""How far a result may be from the oracle's.

The error of a tensor is the 2-norm of the difference over the 2-norm of what it should be.  Where that should
vanish, the norm is taken to be that of a tensor whose entries are all `floor`; with a floor of 0 too, the
difference itself is the error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from seqc.conformance.report import Finding

VALUES = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 5e-3}
GRADIENTS = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 2e-2}

FLOOR = 1e-2

# An answer that itself moves when inputs and weights move by this many units of rounding, where a unit crosses the kink
# of a relu for example, cannot be met more closely than that: the tolerance is then the movement, but never beyond MOST
# times the usual one.  Values that are rounded to bfloat16 on their way through a model add up to about one unit.
UNITS = {torch.float64: 30.0, torch.float32: 30.0, torch.bfloat16: 2.0}
MOST = {torch.float64: 100.0, torch.float32: 1000.0, torch.bfloat16: 100.0}


def judged(
    what: str,
    error: float,
    usual: Mapping[torch.dtype, float],
    dtype: torch.dtype,
    movement: Callable[[], float],
) -> Finding:
    """An error against its tolerance; how far the answer itself moves is asked only when it matters."""
    tolerance = usual[dtype]
    most = MOST[dtype] * tolerance
    if tolerance < error <= most and (moved := min(movement(), most)) > tolerance:
        return Finding(what, error, moved, ill_conditioned=True)
    return Finding(what, error, tolerance)


def distance(got: Tensor, want: Tensor, floor: float = FLOOR) -> float:
    """The error of a tensor; infinite where a shape differs or a value is not finite and should be."""
    if got.shape != want.shape:
        return float("inf")
    if want.numel() == 0:
        return 0.0
    wide = torch.complex128 if got.is_complex() or want.is_complex() else torch.float64
    got, want = got.detach().to(wide), want.detach().to(wide)
    if not bool(torch.isfinite(got.abs()).all()):
        return float("inf")
    size: float = max(float(torch.linalg.vector_norm(want)), floor * want.numel() ** 0.5)
    apart = float(torch.linalg.vector_norm(got - want))
    return apart / size if size else apart


def scale(tensors: Iterable[Tensor]) -> float:
    """The largest root mean square among some tensors."""
    sizes = [float(x.detach().abs().double().square().mean().sqrt()) for x in tensors if x.numel()]
    return max(sizes, default=0.0)


def is_finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(torch.isfinite(x.detach().abs()).all()) for x in tensors if x.numel())


def is_moderate(tensors: Iterable[Tensor], largest: float = 1e6) -> bool:
    """Whether a result can be compared at all: a rule that explodes on some input is not at fault for it."""
    return all(not x.numel() or float(x.detach().abs().max()) < largest for x in tensors)


def single(x: Tensor) -> Tensor:
    """The nearest number that single precision holds, in double precision."""
    return rounded(x, torch.float32)


def rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A number as that dtype holds it, in double precision; integers and truth values as they are."""
    if x.is_complex():
        return torch.view_as_complex(rounded(torch.view_as_real(x.resolve_conj()), dtype))
    return x.to(dtype).double() if x.is_floating_point() else x
