"""The forms of a rule that conformance examines here: its kernels, in Triton's interpreter where there is no GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch

from seqc.conformance.subject import Request
from seqc.errors import UserError
from seqc.ir.program import Model

from ..torch.conform import Form
from . import BACKEND
from .module import reads
from .runtime.attach import forced


class InterpretedForm(Form):
    """Kernels keep their states in single precision."""

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        return (torch.float32, torch.bfloat16)


def subjects(request: Request) -> Iterator[Form]:
    """Kernels, in blocks where there are such; without any, the module as it is."""
    if os.environ.get("TRITON_INTERPRET", "0") != "1":
        raise UserError(
            "the backend `triton` is examined in Triton's interpreter: set TRITON_INTERPRET=1",
            "`TRITON_INTERPRET=1 seqc conform … --target triton`",
        )
    program = request.scheduled()
    made: Any = BACKEND.module(program)
    made.load_state_dict({key: x.float() for key, x in request.weights.items()})
    mode = "kernels over time" if forced(made) or reads(program, "") else "in PyTorch"
    yield InterpretedForm(mode, made, isinstance(request.whole, Model), request.weights, backend="triton")
