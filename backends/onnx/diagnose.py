"""What this backend cannot do, said as a diagnostic."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

from seqc.backend import Scheduled
from seqc.diagnostics import SpecError
from seqc.diagnostics.targets import NotSupported
from seqc.errors import UserError

from .control import Unsupported
from .export import PROFILES


@contextmanager
def diagnosed(program: Scheduled) -> Generator[Callable[[Mapping[str, str]], str]]:
    """Turns `Unsupported` into a `SpecError`; gives the function that reads the options."""
    try:
        yield _profile
    except Unsupported as error:
        reason = "ONNX has no such operation, or this backend does not make it of others"
        raise SpecError([NotSupported(program.origin, "onnx", str(error), reason)]) from error


def _profile(options: Mapping[str, str]) -> str:
    for name in options:
        if name != "profile":
            raise UserError(f"the target `onnx` has no option `{name}`", "the options are `profile`")
    profile = options.get("profile", "portable")
    if profile not in PROFILES:
        known = ", ".join(f"`{name}`" for name in PROFILES)
        raise UserError(f"the target `onnx` has no profile `{profile}`", f"the profiles are {known}")
    return profile
