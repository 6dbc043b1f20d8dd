"""Parts of blocks that run as units: which they are, and that they compute what PyTorch's operations do."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import seqc
from benchmarks.fit_around import TABLE, parts
from seqc.runtime import load_runner
from seqc.spec import ModelHandle
from tests.emit.cpu.parts import forced
from tests.emit.torch.rules import assert_alike, error

if TYPE_CHECKING:
    from backends.cpu.cost import region_work  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.cpu.freed import freed  # noqa: TID251
    from backends.cpu.runtime.cost import Work, spared  # noqa: TID251
else:
    from seqc.backends.cpu.cost import region_work
    from seqc.backends.cpu.freed import freed
    from seqc.backends.cpu.runtime.cost import Work, spared

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")

TEXT = """
rule late(x[channel]) {
    state held[channel] = 0
    held' = x
    return held
}
rule leaky(x[channel]) {
    state h[channel] = 0
    h' = 0.9 * h + x
    return h'
}
block mixer(x[d]; h = 3, p = 5) {
    param scale[h, p] = 1
    param mix[d] = 0.3
    let early      = mix * x + (1 - mix) * late(x)
    let wide[h, p] = silu(causal_conv(linear(early) as inner, width = 3, bias = true) as conv)
    let gate[h, p] = linear(early) as gate
    let y          = (leaky[p](wide) + wide) * gelu(gate)
    let normed     = y / sqrt(mean[h, p](y * y) + 1e-5) * scale
    let up[d]      = tanh(causal_conv(relu(linear(normed) as up), width = 2))
    return linear(up * softplus(x)) -> [d] as out
}
block still(x[d]) {
    return linear(x) -> [d] as map
}
model small(tokens; vocab = 11, d = 7, p = 5) {
    x[d] = embed(tokens, vocab)
    x = x + mixer(layer_norm(x), p = p)
    x = x + still(x)
    return lm_head(rms_norm(x), vocab)
}
"""


def handle(**settings: int) -> ModelHandle:
    return seqc.loads(TEXT).model("small", **settings)


def pair(double: bool = True, **settings: int) -> tuple[Any, Any]:
    """A module of which every part that can be is a unit, and the same in PyTorch."""
    own = handle(**settings)
    loops: Any = own.cpu(every=True)
    plain: Any = own.torch(kernels=False)
    generator = torch.Generator().manual_seed(1)
    for parameter in plain.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    loops.load_state_dict(plain.state_dict())
    forced(loops)
    return (loops.double(), plain.double()) if double else (loops, plain)


def tokens(batch: int, time: int) -> Tensor:
    return torch.randint(11, (batch, time), generator=torch.Generator().manual_seed(time))


def calls(module: Any) -> dict[str, list[str]]:
    """The parts that are units, by the blocks that call them."""
    return {
        type(part).__name__: list(type(part).around)
        for part in module.modules()
        if hasattr(type(part), "around")
    }


@cache
def counted(path: str, settings: tuple[tuple[str, int], ...]) -> list[Work]:
    return [region_work(rule) for rule in parts(path, dict(settings))]


def made(module: Any) -> bool:
    """Whether a part of a block was run as a unit."""
    return any(part.way.made for part in module.modules() if hasattr(type(part), "around"))


class Held(TorchDispatchMode):
    """The most numbers, made meanwhile, that are held at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not type it
        self.sizes: dict[StorageWeakRef, int] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in tree_leaves(args) if isinstance(x, Tensor)}
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and x.untyped_storage().data_ptr() not in given:
                self.sizes[StorageWeakRef(x.untyped_storage())] = x.untyped_storage().nbytes() // 4
        self.sizes = {ref: size for ref, size in self.sizes.items() if not ref.expired()}
        self.most = max(self.most, sum(self.sizes.values()))
        return out


def test_parts_are_found_by_what_they_compute() -> None:
    found = calls(pair()[0])
    assert found.keys() == {"Mixer", "LayerNorm", "RmsNorm"}
    assert found["Mixer"] == ["early", "wide", "normed", "around"]


def test_a_report_says_what_they_compute_where_they_pay() -> None:
    report = handle(d=256, p=64)
    assert report.report()["around"]["cpu"] == {
        "mixer": [
            "early: token shift, elementwise",
            "wide: convolution, elementwise",
            "normed: sums, elementwise",
            "convolution, elementwise",
        ],
        "layer_norm": ["sums, elementwise"],
        "rms_norm": ["sums, elementwise"],
    }
    assert "    layer_norm  sums, elementwise" in report.explain().split("\n")
    assert "around" not in seqc.loads(TEXT.partition("block")[0]).rule("leaky", channel=3).explain()


@pytest.mark.parametrize("time", [1, 2, 13])
@pytest.mark.parametrize("resets", [False, True])
def test_values_states_and_gradients_are_those_of_pytorch(time: int, resets: bool) -> None:
    loops, plain = pair()
    given = tokens(3, time)
    reset = torch.rand(3, time, generator=torch.Generator().manual_seed(5)) < 0.3 if resets else None
    state = {name: torch.randn_like(x) for name, x in plain.init_state(3).items()}
    assert {name: x.shape for name, x in loops.init_state(3).items()} == {
        n: x.shape for n, x in state.items()
    }
    results: list[list[Tensor]] = []
    for module in (loops, plain):
        begin = {name: x.clone().requires_grad_() for name, x in state.items()}
        logits, after = module(given, begin, reset)
        assert after.keys() == state.keys()
        ends = [after[name] for name in sorted(after)]
        total = logits.square().sum() + sum(x.square().sum() for x in ends)
        wrt = [*begin.values(), *module.parameters()]
        grads = torch.autograd.grad(total, wrt, allow_unused=True, materialize_grads=True)
        results.append([logits, *ends, *grads])
    assert made(loops)
    assert all(error(x, y) < 1e-11 for x, y in zip(*results, strict=True) if y.numel())


def test_tokens_go_on_from_a_sequence_and_a_sequence_from_tokens() -> None:
    loops, plain = pair()
    given = tokens(2, 9)
    wanted = plain(given)[0]
    first, state = loops(given[:, :4])
    parts = [first]
    for t in (4, 5):
        logits, state = loops.step(given[:, t], state)
        parts.append(logits[:, None])
    parts.append(loops(given[:, 6:], state)[0])
    assert error(torch.cat(parts, 1), wanted) < 1e-11


def test_single_precision_is_as_exact_as_pytorchs() -> None:
    loops, plain = pair(double=False, d=35)
    given = tokens(3, 70)
    exact = copy.deepcopy(plain).double()(given)[0]
    assert error(loops(given)[0].double(), exact) < 1e-5
    assert made(loops)


def test_other_precisions_are_left_to_pytorch() -> None:
    loops, plain = pair(double=False)
    given = tokens(2, 6)
    with torch.autocast("cpu", torch.bfloat16):
        loops(given)
    assert not made(loops)
    assert loops.bfloat16()(given)[0].dtype == plain.bfloat16()(given)[0].dtype
    assert not made(loops)


@pytest.mark.parametrize("width", [48, 96])
def test_what_a_block_no_longer_needs_is_given_up(width: int) -> None:
    time = 512
    model: Any = seqc.load("specs/gated/mamba.seq").model(d=width, layers=3, vocab=7).cpu(every=True)
    forced(model)
    given = torch.randint(7, (1, time), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model(given)
        with Held() as held:
            model(given)
    assert made(model)
    # What the layer adds to and reads, and inside, twice as wide, two operands and a result; each state, B, C, logits.
    assert held.most < (2 + 3 * 2) * time * width + 6 * 2 * width * 20 + 60 * time


def test_names_are_deleted_after_the_statement_that_has_them_last() -> None:
    lines = [
        "class A(Block):",
        "    def forward(self, run, x):",
        "        a, late = f(x)",
        "        b = f(",
        "            a",
        "        )",
        "        c = lambda: late",
        "        b = f(b)",
        "        y = c() + b",
        "        return f(y)",
    ]
    text = "\n".join(lines)
    assert freed(text).split("\n") == [
        *lines[:6],
        "        del a",
        *lines[6:9],
        "        del b, c",
        lines[9],
    ]
    given_back = text.replace("return f(y)", "return y")
    assert freed(given_back).split("\n") == [*lines[:6], "        del a", *lines[6:9], "        return y"]


def test_short_calls_are_left_to_pytorch_and_long_ones_wait_for_what_units_cost() -> None:
    module: Any = handle(d=256).torch()
    blocks = [part for part in module.modules() if hasattr(type(part), "around")]
    assert blocks
    assert not any(part.way.pays(1, None) or part.way.pays(1, 8) for part in blocks)
    way = next(part.way for part in blocks if type(part).__name__ == "Mixer")
    gain = way.gain(8, 2048, False)
    assert gain > 0
    with torch.no_grad():
        assert not way.pays(8, 2048)
        assert way.lost == pytest.approx(gain)
        assert way.pays(round(8 * way.patience / gain) + 8, 2048)


def test_units_are_chosen_where_they_were_measured_to_be_faster() -> None:
    rows: list[dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))
    chosen = best = 0.0
    for row in rows:
        work = counted(row["spec"], tuple(row["settings"].items()))[row["part"]]
        loop = spared(work, 1, row["time"], row["training"]) > 0
        assert not loop or row["loop"] < 1.3 * row["torch"], row
        chosen += row["loop" if loop else "torch"]
        best += min(row["loop"], row["torch"])
    assert chosen < 1.05 * best
    assert 20 < sum(row["loop"] < row["torch"] for row in rows) < len(rows) - 20


def test_the_number_of_threads_changes_no_bit() -> None:
    loops, _ = pair(double=False, d=70)
    found: list[list[Tensor]] = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            part = next(part for part in loops.modules() if type(part).__name__ == "LayerNorm")
            x = torch.randn(3, 40, 70, generator=torch.Generator().manual_seed(2)).requires_grad_()
            y = part(loops.run(3, 40, None, None, False), x)
            found.append([y, *torch.autograd.grad(y.square().sum(), [x, *part.parameters()])])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))


def test_traces_call_the_units() -> None:
    loops, plain = pair(double=False)
    given = tokens(2, 9)
    compiled: Any = torch.compile(loops, fullgraph=True, backend="aot_eager")
    found, wanted = compiled(given)[0], plain(given)[0]
    assert_alike(loops, found, plain, wanted)


def test_exported_models_take_any_length() -> None:
    loops, plain = pair(double=False)
    shape = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("time", min=1)}

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = loops

        def forward(self, tokens: Tensor) -> Tensor:
            logits: Tensor = self.model(tokens)[0]
            return logits

    exported = torch.export.export(Logits().eval(), (tokens(2, 9),), dynamic_shapes=(shape,))
    assert "cpu_normed" in str(exported.graph)
    for time in (1, 2, 70):
        assert error(exported.module()(tokens(3, time)), plain(tokens(3, time))[0]) < 1e-5


def test_copies_keep_their_units_and_pickles_do_not() -> None:
    loops, plain = pair()
    given = tokens(2, 6)
    wanted = loops(given)[0]
    other = copy.deepcopy(loops)
    with torch.no_grad():
        next(loops.parameters()).zero_()
    assert torch.equal(other(given)[0], wanted)
    again = pickle.loads(pickle.dumps(other))
    assert not calls(again)
    assert torch.equal(again(given)[0], plain(given)[0])


def test_what_is_written_runs_its_units(tmp_path: Path) -> None:
    own = handle(d=64, p=32)
    folder = tmp_path / "built"
    folder.mkdir()
    own.write("cpu", folder)
    assert (folder / "kernels" / "Mixer_normed.cpp").is_file()
    runner: Any = load_runner(folder)
    module = runner.model
    assert calls(module) == calls(own.cpu())
    forced(module)
    given = tokens(2, 70)
    plain: Any = own.torch(kernels=False)
    plain.load_state_dict(module.state_dict())
    assert error(module(given)[0], plain(given)[0]) < 1e-5
    assert made(module)
