"""A process in which Triton interprets kernels, which it decides when it is imported."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

Interpreted = Callable[..., Any]


def quicken() -> None:
    """Let the interpreter replace the functions of Triton's language once a launch, not at every call in it."""
    import triton.language as tl
    from triton.runtime import interpreter

    found: Any = interpreter
    whole = found._patch_lang

    def once(function: Any) -> Any:
        return whole(function) if tl.core.is_builtin(tl.arange) else found._LangPatchScope()

    found._patch_lang = once


def _interpret() -> None:
    os.environ["TRITON_INTERPRET"] = "1"
    os.environ["TRITON_DEFAULT_FP_FUSION"] = "1"
    quicken()


@pytest.fixture(scope="session")
def interpreted() -> Iterator[Interpreted]:
    """Calls a function in that process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _interpret) as pool:

        def call(function: Callable[..., Any], *args: Any) -> Any:
            return pool.submit(function, *args).result()

        yield call
