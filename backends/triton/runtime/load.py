"""Loading emitted text, and whether Triton can run it here."""

from __future__ import annotations

import hashlib
import linecache
import os
import sys
import warnings
from functools import cache
from importlib.util import find_spec
from types import ModuleType

import torch

OLDEST = (3, 6)  # the release of Triton whose kernels may take tuples of tensors


def interpreted() -> bool:
    """Whether Triton is asked to run kernels in its interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


@cache
def available() -> bool:
    """Whether there is a Triton that is new enough; if not, that is said once."""
    if find_spec("triton") is None:
        warnings.warn("there is no Triton: rules run in PyTorch alone", stacklevel=2)
        return False
    import triton

    version: str = triton.__version__
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        warnings.warn(
            f"Triton {version} is too old, {wanted} is needed: rules run in PyTorch alone", stacklevel=2
        )
        return False
    return True


def runs_on(device: torch.device) -> bool:
    """Whether kernels run on tensors of that device."""
    return available() if device.type == "cuda" else device.type == "cpu" and interpreted()


def loaded(text: str, name: str) -> ModuleType:
    """Emitted text as a module; the same text gives the same module."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    full = f"seqc_kernels_{name}_{digest}"
    if full in sys.modules:
        return sys.modules[full]
    filename = f"<seqc kernels {name} {digest}>"
    module = ModuleType(full)
    module.__file__ = filename
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    sys.modules[full] = module
    try:
        exec(compile(text, filename, "exec"), module.__dict__)  # the text is what was emitted
    except BaseException:
        del sys.modules[full]
        raise
    return module
