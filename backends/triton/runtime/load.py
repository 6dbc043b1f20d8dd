"""Loading emitted text, and whether Triton can run it here."""

from __future__ import annotations

import ast
import hashlib
import linecache
import os
import sys
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from threading import RLock
from types import ModuleType

import torch

LOADING = RLock()  # a module is loaded, and an operator registered, by one thread at a time
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
    return _module(text, f"kernels {name}", ast.parse)


def without_kernels(text: str, name: str) -> ModuleType:
    """What of an emitted text PyTorch runs: all but the functions that Triton compiles, and their imports."""
    return _module(text, f"functions {name}", _plain)


def _plain(text: str) -> ast.Module:
    tree = ast.parse(text)
    tree.body = [node for node in tree.body if not (_of_triton(node) or getattr(node, "decorator_list", []))]
    return tree


def _of_triton(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import) and node.names[0].name.partition(".")[0] == "triton"


def _module(text: str, name: str, parse: Callable[[str], ast.Module]) -> ModuleType:
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    full = f"seqc_{name.replace(' ', '_')}_{digest}"
    with LOADING:
        if full in sys.modules:
            return sys.modules[full]
        filename = f"<seqc {name} {digest}>"
        module = ModuleType(full)
        module.__file__ = filename
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        sys.modules[full] = module
        try:
            exec(compile(parse(text), filename, "exec"), module.__dict__)  # the text is what was emitted
        except BaseException:
            del sys.modules[full]
            raise
        return module
