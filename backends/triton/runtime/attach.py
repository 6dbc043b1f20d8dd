"""Rules that run as compiled kernels.  A written folder holds the text of this module of the target `cpu` here."""

from ...cpu.runtime.attach import (
    Attached,
    Flags,
    Results,
    Signature,
    States,
    Swapped,
    Value,
    attach,
    forced,
    fused_class,
)

__all__ = [
    "Attached",
    "Flags",
    "Results",
    "Signature",
    "States",
    "Swapped",
    "Value",
    "attach",
    "forced",
    "fused_class",
]
