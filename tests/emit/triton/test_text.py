"""What is written: the functions of a rule, a folder that runs by itself, machine code without a GPU."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import seqc
from seqc.errors import UserError
from tests.emit.torch import rules
from tests.emit.triton import parts
from tests.emit.triton.parts import BACKEND, aot, definitions, functions, looped

pytest.importorskip("triton")


def test_the_rule_beside_the_kernels_is_what_is_written() -> None:
    """A unit holds the functions that `kernels/loop.py` imports, as `kernels/rule.py` has them for one rule."""
    text = parts.kernels_of(parts.written(parts.AVERAGE, d=100)()).kernel.text
    for file in ("rule", "loop"):
        assert functions("\n".join(definitions(file).values())).items() <= functions(text).items()


def test_the_stage_beside_the_kernels_is_what_is_written() -> None:
    (stage,) = parts.kernels_of(parts.of_spec("delta/gated_delta", "gated_delta", n=40, m=100)()).stages
    found = functions(stage.kernels.text)
    for file in ("stage", "adjoint", "gradients"):
        assert functions("\n".join(definitions(file).values())).items() <= found.items()
    kernels = functions("\n".join(definitions("chunk").values()))
    assert kernels.keys() - {"combine", "differentiate"} <= found.keys()
    assert {"combine0", *(f"differentiate{k}" for k in range(4))} <= found.keys()  # one an input


SCALED = """
rule scaled(q[n], k[n], v[m], w, g) {
    state S[m, n] = 0
    S' = sigmoid(g) * S + (w * v) * k
    return sum[n](S' * q)
}
"""


def test_what_scales_an_input_is_not_rounded_with_it() -> None:
    """It scales weights between tokens, which are rounded anyway, or what has been summed."""
    (stage,) = parts.kernels_of(parts.written(SCALED, n=5, m=3)()).stages
    text = stage.kernels.text
    assert re.search(r"tl\.dot\(\(w\[None, :\] \* .*\)\.to\(ROUNDED\), v\.to\(ROUNDED\)", text)
    _, _, back = text.partition("def before_back(")
    assert "v.to(ROUNDED)" in back
    assert not re.search(r"\* [kv]\)\.to\(ROUNDED\)", back)


def test_only_functions_that_are_used_are_spliced() -> None:
    text = BACKEND.unit(parts.scheduled(parts.MAKERS["dense, two states"]()))
    assert "def tanh(" in text
    assert "def expm1(" in text  # which tanh uses
    assert "def gelu(" not in text


def test_what_makes_first_states_has_its_imports() -> None:
    """Functions of the PyTorch runtime and what they mention, as named tuples."""
    made = parts.kernels_of(parts.of_spec("deep/mesanet", "mesa_recursive", n=4, m=3)())
    inverse = made.kernel.prepare(torch.zeros(1, 1))[-1]
    assert torch.equal(inverse, torch.eye(4))


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "gfx942"])
@pytest.mark.parametrize("kernel", ["forward", "backward"])
def test_kernels_compile_without_a_gpu_and_spill_nothing(target: str, kernel: str) -> None:
    (gpu,) = aot.targets(target)
    made = aot.compiled(looped(rules.gated_delta(vector_gate=True), ""), kernel, gpu, "bfloat16", resets=True)
    assert made.code
    assert 0 < made.registers <= 256
    assert made.spills == 0
    assert made.shared <= gpu.shared


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
@pytest.mark.parametrize("kernel", ["prepare", "sweep"])
def test_kernels_of_blocks_compile_without_a_gpu(target: str, kernel: str) -> None:
    (gpu,) = aot.targets(target)
    (stage,) = parts.kernels_of(parts.written(parts.RETENTION, n=5, m=3)()).stages
    made = aot.compiled_blocks(stage.kernels, kernel, gpu)
    assert made.code
    assert made.shared <= gpu.shared


def test_an_unknown_gpu_is_said() -> None:
    with pytest.raises(UserError, match="`sm_91`"):
        aot.targets("sm_90,sm_91")


ALONE = """
import sys
import torch
from kernels import attached
from kernels.chunk import BlockKernels
import retain

count = 0
launch = BlockKernels.launch

def counted(self, *args):
    global count
    count += 1
    launch(self, *args)

BlockKernels.launch = counted
model = attached(retain.Retain())
draw = torch.Generator().manual_seed(0)
q, k, v = (torch.randn(1, 40, n, generator=draw) for n in (5, 5, 3))
alpha = torch.full((1, 40), 0.9)
whole, _ = model(q=q, k=k, v=v, alpha=alpha)
assert count == 3, count
state, outs = model.init_state(1), []
for t in range(40):
    out, state = model.step(q=q[:, t], k=k[:, t], v=v[:, t], alpha=alpha[:, t], state=state)
    outs.append(out)
assert count == 3, count
assert torch.allclose(torch.stack(outs, 1), whole, atol=1e-4)
assert "seqc" not in sys.modules
"""


def test_a_written_folder_runs_without_the_compiler(tmp_path: Path) -> None:
    """A sequence in blocks, and the same a token at a time."""
    program = seqc.loads(parts.RETENTION).rule(n=5, m=3).program()
    parts.run_written(program, tmp_path, ALONE)


def test_on_the_cpu_the_module_runs_in_torch() -> None:
    rec = rules.average()
    module = BACKEND.module(parts.scheduled(rec))
    out, _ = module(**{key: x.float() for key, x in rules.inputs_of(rec, 1, 4).items()})
    assert out.dtype is torch.float32
