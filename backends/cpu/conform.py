"""The form that conformance examines here: the module, whatever has a unit run by it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from seqc.conformance.subject import Request
from seqc.ir.program import Model

from ..torch.conform import Form
from . import BACKEND
from .runtime.attach import forced


def subjects(request: Request) -> Iterator[Form]:
    """Fused loops, also where PyTorch would be faster; without any unit, the module as it is."""
    made: Any = BACKEND.module(request.scheduled(), every=True)
    made.load_state_dict({key: x.float() for key, x in request.weights.items()})
    mode = "fused loop" if forced(made) else "in PyTorch"
    yield Form(mode, made, isinstance(request.whole, Model), request.weights, backend="cpu")
