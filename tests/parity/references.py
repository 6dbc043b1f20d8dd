"""Other people's code at double precision: the side of a parity test that is not ours."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class _Doubles(TorchFunctionMode):
    """References that cast to single precision are made to cast to double instead."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.float:
            func = Tensor.double
        return func(*map(_widened, args), **{name: _widened(arg) for name, arg in (kwargs or {}).items()})


def _widened(arg: Any) -> Any:
    return torch.float64 if arg is torch.float32 else arg


@contextmanager
def doubles() -> Generator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad(), _Doubles():
            yield
    finally:
        torch.set_default_dtype(before)


def naive(path: str) -> ModuleType:
    """A reference of flash-linear-attention, without the rest of the package, which wants a GPU."""
    pytest.importorskip("einops")
    found = importlib.util.find_spec("fla")
    if found is None or not found.submodule_search_locations:
        pytest.skip("flash-linear-attention is not installed")
    for root in found.submodule_search_locations:
        file = Path(root) / "ops" / f"{path}.py"
        if file.is_file():
            spec = importlib.util.spec_from_file_location(f"naive_{path.replace('/', '_')}", file)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    pytest.skip(f"this version of flash-linear-attention has no {path}.py")
