"""Units under the compiler's sanitizers: nothing is read or written outside the tensors, and nothing is undefined."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

import pytest

import seqc
from seqc import bundled
from seqc.conformance import lengths
from seqc.ir.recurrence import Recurrence
from tests.emit.cpu.parts import Interface, fused, interface_of, text_of
from tests.emit.cpu.test_rules import MAKERS, WIDE, written

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")

BATCH, TIME = 2, 19
FLAGS = ("-std=c++17", "-O0", "-g", "-fopenmp", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def vectors(name: str, sizes: Sequence[int], value: str) -> str:
    """Tensors of exactly these sizes, and the pointers to them."""
    made = "".join(f"    std::vector<real> {name}{k}({size}, {value});\n" for k, size in enumerate(sizes))
    pointers = ", ".join(f"{name}{k}.data()" for k in range(len(sizes))) or "nullptr"
    return f"{made}    real* {name}[] = {{{pointers}}};\n"


def driver(face: Interface) -> str:
    """A program that calls everything in a unit once, and adds up what comes out."""
    tokens, rows = BATCH * TIME, prod(face.rows)
    inputs = [tokens * prod(port.shape) for port in face.inputs]
    outputs = [tokens * prod(port.shape) for port in face.outputs]
    shared = [
        tokens * prod(port.shape) * prod(n for n, has in zip(face.rows, port.has, strict=True) if not has)
        for port in face.inputs
        if port.differentiable
    ]
    ports = [*face.constants, *face.states]
    given = [prod(port.shape) for port in face.parameters]
    back = [*given, *(prod(port.shape) for port in ports if port.differentiable)]
    return f"""
#include <cstdio>
#include <vector>
int main() {{
{vectors("parameters", given, "real(0.01)")}{vectors("all", [prod(p.shape) for p in ports], "NOT_A_NUMBER")}
{vectors("inputs", inputs, "real(0.1)")}{vectors("outputs", outputs, "NOT_A_NUMBER")}
{vectors("d_outputs", outputs, "real(1)")}{vectors("d_inputs", shared, "NOT_A_NUMBER")}
{vectors("from", back, "real(0.1)")}{vectors("to", given, "NOT_A_NUMBER")}
    std::vector<real> initial(ROWS * STATE, real(0.1)), before({BATCH} * ROWS * STATE, real(0.1)), after(before);
    std::vector<real> d_initial(before), d_before(before), d_shared({BATCH} * ROWS * SHARED);
    std::vector<real> kept({BATCH * rows} * (({TIME} + SEGMENT - 1) / SEGMENT) * STATE);
    std::vector<std::uint8_t> reset({tokens}, 0);
    reset[3] = reset[{tokens - 1}] = 1;
    prepare(parameters, all);
    forward(2, {BATCH}, {TIME}, inputs, all, initial.data(), before.data(), reset.data(), outputs, after.data(),
        kept.data());
    backward(2, {BATCH}, {TIME}, inputs, all, initial.data(), kept.data(), reset.data(), d_outputs, after.data(),
        d_inputs, d_shared.data(), d_initial.data(), d_before.data());
    prepare_backward(from, to);
    real total = 0;
    for (real x : after) total += x;
    for (real x : d_before) total += x;
    std::printf("%s\\n", total == total ? "finite" : "not a number");
}}
"""


def check(recurrence: Recurrence, folder: Path) -> str:
    """What the sanitizers say, or nothing."""
    loop = fused(recurrence)
    (folder / "unit.cpp").write_text(text_of(loop) + driver(interface_of(loop)))
    for command in (["c++", *FLAGS, "unit.cpp", "-o", "unit"], ["./unit"]):
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if run.returncode:
            return run.stderr
    return "" if run.stdout.strip() == "finite" else run.stdout


@pytest.mark.parametrize("make", [*MAKERS[2:6], written(WIDE, d=320, n=3)])
def test_a_unit_stays_within_its_tensors(make: Callable[[], Recurrence], tmp_path: Path) -> None:
    assert check(make(), tmp_path) == ""


@pytest.mark.slow
def test_all_rules_of_the_specs_do(tmp_path: Path) -> None:
    found: dict[str, str] = {}
    for path in bundled.specs():
        spec = seqc.load(path)
        for name in spec.rules:
            recurrence = spec.rule(name, **lengths(spec, name)).recurrence
            if hasattr(fused(recurrence), "fused"):
                found[f"{path.stem}: {name}"] = check(recurrence, tmp_path)
    assert {name: text for name, text in found.items() if text} == {}
