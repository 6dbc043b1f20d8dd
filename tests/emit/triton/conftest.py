"""A process in which Triton interprets kernels, which it decides when it is imported."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

Interpreted = Callable[..., Any]


def quicken() -> None:
    """Let the interpreter replace the functions of Triton's language once a launch, not at every call in it, scan all
    rows of a block at once, not number by number, and do with 16 bits and TF32 what a GPU does: round to the nearest
    bfloat16, and multiply with such factors, and with those that TF32 has.
    """
    import triton.language as tl
    from triton.runtime import interpreter

    found: Any = interpreter
    whole = found._patch_lang

    def once(function: Any) -> Any:
        return whole(function) if tl.core.is_builtin(tl.arange) else found._LangPatchScope()

    found._patch_lang = once
    found.ScanOps.generic_scan = _scanned
    product, cast = found.InterpreterBuilder.create_dot, found.InterpreterBuilder.cast_impl

    def rounded(self: Any, a: Any, b: Any, d: Any, precision: Any, most: Any) -> Any:
        if a.dtype.scalar == tl.bfloat16:
            a, b = (found.TensorHandle(_widened(x.data), tl.float32) for x in (a, b))
        elif precision.name == "TF32" and a.dtype.scalar == tl.float32:
            a, b = (found.TensorHandle(_tf32(x.data), x.dtype) for x in (a, b))
        return product(self, a, b, d, precision, most)

    def nearest(self: Any, x: Any, kind: Any) -> Any:
        if x.dtype.scalar == tl.float32 and kind.scalar == tl.bfloat16:
            return found.TensorHandle(_bfloat16(x.data), kind.scalar)
        return cast(self, x, kind)

    found.InterpreterBuilder.create_dot = rounded
    found.InterpreterBuilder.cast_impl = nearest


def _tf32(x: Any) -> Any:
    """Numbers cut to the 11 bits that TF32 has of them, which is what a GPU may do."""
    return (np.ascontiguousarray(x, np.float32).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def _bfloat16(x: Any) -> Any:
    """The bits of the nearest numbers of bfloat16."""
    rounded = torch.from_numpy(np.ascontiguousarray(x, np.float32)).to(torch.bfloat16)
    return rounded.view(torch.int16).numpy().view(np.uint16)


def _widened(bits: Any) -> Any:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _scanned(self: Any, given: Sequence[Any]) -> list[Any]:
    """As `ScanOps.generic_scan` of the interpreter."""
    rows = [np.moveaxis(x.handle.data, self.axis, 0).copy() for x in given]
    for k in range(1, len(rows[0])):
        before, here = (
            [self.to_tensor(row[place], x.dtype) for row, x in zip(rows, given, strict=True)]
            for place in (k - 1, k)
        )
        found = self.combine_fn.fn(*before, *here)
        for row, x in zip(rows, found if isinstance(found, tuple) else (found,), strict=True):
            row[k] = x.handle.data.reshape(row[k].shape)
    whole = [np.ascontiguousarray(np.moveaxis(row, 0, self.axis)) for row in rows]
    return [self.to_tensor(row, x.dtype) for row, x in zip(whole, given, strict=True)]


def _interpret() -> None:
    os.environ["TRITON_INTERPRET"] = "1"
    quicken()


@pytest.fixture(scope="session")
def interpreted() -> Iterator[Interpreted]:
    """Calls a function in that process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _interpret) as pool:

        def call(function: Callable[..., Any], *args: Any, **given: Any) -> Any:
            return pool.submit(function, *args, **given).result()

        yield call
