"""The forms of a rule that conformance examines here: its unit, under the module that calls it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from seqc.conformance.subject import Request
from seqc.ir.program import Model

from ..torch.conform import Form
from . import BACKEND


def subjects(request: Request) -> Iterator[Form]:
    """The fused loop; models are examined by their rules."""
    if isinstance(request.whole, Model):
        return
    made: Any = BACKEND.module(request.scheduled())
    made.load_state_dict({key: x.float() for key, x in request.weights.items()})
    yield Form("fused loop", made, False, request.weights, backend="cpu")
