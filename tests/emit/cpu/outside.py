"""Units that run in a process of their own: under the sanitizers, or under an emulated processor."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from struct import pack
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.emit.cpu import zoo
from tests.emit.cpu.parts import kernel, text_of

DRIVER = Path(__file__).with_name("outside.cpp").read_text(encoding="utf-8")
NUMBER = count()
NUMBERS = {torch.float32: "float", torch.float64: "double"}

Arrays = Sequence[Tensor]


class Failed(Exception):
    """What a compiler, a sanitizer or the program says."""


class Outside:
    """A unit and a program that calls its functions, built by `compiler` and started by `runner`.

    It is called as the library that `Kernel` loads is, but for tensors instead of pointers.  What a function writes
    is not a number before.  One thread computes it, and then two, which have to agree.
    """

    def __init__(
        self, text: str, dtype: torch.dtype, folder: Path, compiler: Sequence[str], runner: Sequence[str] = ()
    ) -> None:
        self.dtype, self.folder, self.runner = dtype, folder, runner
        (folder / "unit.cpp").write_text(text + DRIVER, encoding="utf-8")
        self._done([*compiler, f"-DREAL={NUMBERS[dtype]}", "unit.cpp", "-o", "unit"])

    def prepare(self, given: Arrays, found: Arrays) -> None:
        self._call(0, (0, 0), None, [given, found], 1)

    def prepare_backward(self, given: Arrays, found: Arrays) -> None:
        self._call(1, (0, 0), None, [given, found], 1)

    def forward(
        self, threads: int, batch: Any, time: Any, inputs: Arrays, constants: Arrays, initial: Tensor,
        before: Tensor, reset: Tensor | None, outputs: Arrays, after: Tensor, kept: Tensor | None,
    ) -> None:  # fmt: skip
        last = [] if kept is None else [kept]
        groups = [inputs, constants, [initial], [before], outputs, [after], last]
        self._call(2, (batch.value, time.value), reset, groups, 4)

    def backward(
        self, threads: int, batch: Any, time: Any, inputs: Arrays, constants: Arrays, initial: Tensor,
        kept: Tensor, reset: Tensor | None, outputs: Arrays, cotangents: Arrays, d_after: Tensor, parts: Arrays,
        shared: Tensor, begin: Tensor, before: Tensor,
    ) -> None:  # fmt: skip
        known = [inputs, constants, [initial], [kept], outputs, cotangents, [d_after]]
        self._call(3, (batch.value, time.value), reset, [*known, parts, [shared], [begin], [before]], 7)

    def _call(
        self,
        function: int,
        sizes: tuple[int, int],
        reset: Tensor | None,
        groups: Sequence[Arrays],
        read: int,
    ) -> None:
        """Pass groups of arrays; those after the first `read` are written."""
        for x in (x for arrays in groups[read:] for x in arrays):
            x.fill_(torch.nan)
        flags = b"" if reset is None else reset.numpy().tobytes()
        parts = [pack("=4q", function, *sizes, len(flags)), flags, pack("=q", len(groups))]
        for arrays in groups:
            parts.append(pack("=q", len(arrays)))
            parts += [pack("=q", x.numel()) + x.detach().numpy().tobytes() for x in arrays]
        file = self.folder / "arrays"
        file.write_bytes(b"".join(parts))
        self._done([*self.runner, "./unit", "arrays"])
        everything = [x for arrays in groups for x in arrays]
        if not any(x.numel() for x in everything):
            return
        found = torch.frombuffer(bytearray(file.read_bytes()), dtype=self.dtype)
        for k, part in enumerate(found.split([x.numel() for x in everything])):
            if k >= sum(map(len, groups[:read])):
                everything[k].copy_(part.reshape(everything[k].shape))

    def _done(self, command: Sequence[str]) -> None:
        run = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if run.returncode:
            raise Failed(run.stderr)


def outside(
    module: Any,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    compiler: Sequence[str],
    runner: Sequence[str] = (),
) -> Any:
    """The same module of a rule, whose unit runs outside, in double precision.

    Operators are registered once for a text: under a name of its own this unit has its own.
    """
    monkeypatch.setattr(kernel, "_pointers", list)
    monkeypatch.setattr(kernel, "_pointer", lambda x: x)  # pyright: ignore[reportUnknownLambdaType]
    unit = kernel.Kernel(text_of(module), module.fused.kernel.interface, f"outside_{next(NUMBER)}")
    made: Any = unit.built
    made[torch.float64] = Outside(text_of(module), torch.float64, folder, compiler, runner)
    module.fused._kernel = unit
    return module.double()


def wrong(
    family: str,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    compiler: Sequence[str],
    runner: Sequence[str] = (),
) -> dict[str, str]:
    """What is wrong with the units of a family of specs that run outside, by name.

    No unit can be nearer to the token loop than that is to itself when inputs are rounded otherwise.
    """
    found: dict[str, str] = {}
    for name, rule, module, time in zoo.units(family):
        try:
            error = zoo.apart(outside(module, monkeypatch, folder, compiler, runner), rule, time)
        except Failed as said:
            found[name] = str(said)
        else:
            if not (error < 1e-9 or error < zoo.moved(rule, time)):
                found[name] = f"error {error}"
    return found
