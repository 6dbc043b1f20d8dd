"""What `benchmarks.gpu` would do on a GPU, as far as the CPU can: cases, what they are compared with, and the clock."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import gpu, gpu_cases
from benchmarks.gpu_cases import CASES, MORE, Case, Inputs, Rival, drawn
from benchmarks.gpu_machine import rates, versions
from benchmarks.measure import Sample
from benchmarks.report import Bar

SHAPE = (1, 20, 2, 6)
ALL = {case.name: case for case in (*CASES, *MORE)}
QUICK = ("complex scan", "two corrections", "held gradients, momentum")
OF_FLA = [(case, rival) for case in ALL.values() for rival in case.rivals if rival.place.startswith("fla.")]


def measure(run: Callable[[], Any]) -> Sample:
    run()
    return Sample(2.0, 0.1)


def ticks(step: float) -> Callable[[], float]:
    """A clock that moves by `step` whenever it is read."""
    times: Iterator[float] = (step * k for k in range(10**6))
    return lambda: next(times)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in ALL]
)
def test_cases_are_what_tokens_compute(name: str) -> None:
    """Without kernels; `--check` has them interpreted."""
    for dtype, bound in gpu.WITHIN.items():
        assert gpu.worst(ALL[name], SHAPE, dtype, "cpu") < bound


@pytest.mark.slow
@pytest.mark.parametrize("case", ALL.values(), ids=lambda case: case.name)
def test_cases_have_kernels_at_a_shape(case: Case) -> None:
    assert any(gpu.has_kernels(case, shape) for shape in gpu.SHAPES)


@pytest.mark.parametrize(("case", "rival"), OF_FLA, ids=[case.name for case, _ in OF_FLA])
def test_what_is_compared_takes_these_arguments(case: Case, rival: Rival) -> None:
    pytest.importorskip("fla")
    leaves = rival.leaves(drawn(case, SHAPE, torch.bfloat16, "cpu"))
    inspect.signature(rival.function()).bind(**leaves, **rival.fixed)
    assert all(x.is_leaf and x.requires_grad and x.is_contiguous() for x in leaves.values())


def naive_scan(x: Tensor, g: Tensor) -> Tensor:
    h, outs = torch.zeros_like(x[:, 0]), list[Tensor]()
    for t in range(x.shape[1]):
        h = g[:, t].exp() * h + x[:, t]
        outs.append(h)
    return torch.stack(outs, 1)


def naive_matrix(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None = None, beta: Tensor | None = None
) -> Tensor:
    """Logarithms of gates by head or key, corrections where there is a rate."""
    held, outs = q.new_zeros(*q.shape[:1], *q.shape[2:], v.shape[-1]), list[Tensor]()
    for t in range(q.shape[1]):
        if g is not None:
            held = held * g[:, t].exp().view(*g[:, t].shape, *(1,) * (held.dim() - g[:, t].dim()))
        key, new = k[:, t, :, :, None], v[:, t, :, None]
        if beta is not None:
            new = beta[:, t, :, None, None] * (new - (held * key).sum(2, keepdim=True))
        held = held + key * new
        outs.append((held * q[:, t, :, :, None]).sum(2))
    return torch.stack(outs, 1)


def naive_low_rank(r: Tensor, k: Tensor, v: Tensor, w: Tensor, a: Tensor, b: Tensor) -> Tensor:
    held, outs = r.new_zeros(*r.shape[:1], *r.shape[2:], v.shape[-1]), list[Tensor]()
    for t in range(r.shape[1]):
        read = (held * a[:, t, :, :, None]).sum(2, keepdim=True)
        held = (
            held * w[:, t, :, :, None].exp()
            + b[:, t, :, :, None] * read
            + k[:, t, :, :, None] * v[:, t, :, None]
        )
        outs.append((held * r[:, t, :, :, None]).sum(2))
    return torch.stack(outs, 1)


def naive_products(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """Gates stand before the first correction of a token, and it is read after the last."""
    gates, reads = torch.zeros_like(beta), torch.zeros_like(k)
    gates[:, :: gpu_cases.STEPS], reads[:, gpu_cases.STEPS - 1 :: gpu_cases.STEPS] = g, q
    return naive_matrix(reads, k, v, gates, beta)[:, gpu_cases.STEPS - 1 :: gpu_cases.STEPS]


def naive_forgetting(q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> Tensor:
    total = g.cumsum(1).transpose(1, 2)
    scores = (
        torch.einsum("bihn,bjhn->bhij", q, k) * q.shape[-1] ** -0.5 + total[..., None] - total[..., None, :]
    )
    past = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    return torch.einsum("bhij,bjhm->bihm", scores.masked_fill(~past, -torch.inf).softmax(-1), v)


def naive_state_space(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    heads = x.shape[2]
    q, k = (y.expand(-1, -1, heads, -1) for y in (C, B))
    return naive_matrix(q, k, dt[..., None] * x, dt * A)


NAIVE: dict[str, Callable[..., Tensor]] = {
    "chunk_hgrn": naive_scan,
    "chunk_rwkv7": naive_low_rank,
    "chunk_gated_delta_product": naive_products,
    "parallel_forgetting_attn": naive_forgetting,
    "mamba_chunk_scan_combined": naive_state_space,
}


@pytest.mark.parametrize(
    ("case", "rival"),
    [(c, r) for c in ALL.values() for r in c.rivals if r.name != "flex_forgetting"],
    ids=lambda x: x.name,
)
def test_arguments_say_the_same(case: Case, rival: Rival) -> None:
    """What their functions compute of the arguments is what our rule computes of the inputs."""

    def function(**given: Any) -> Tensor:
        tensors = {key: x.float() for key, x in given.items() if key not in rival.fixed}
        return NAIVE.get(rival.name, naive_matrix)(**tensors)

    assert gpu.difference("cpu", case, rival, function, SHAPE) < 1e-2


def test_flex_attention_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is defined: it is compiled on a GPU."""
    flex: Any = importlib.import_module("torch.nn.attention.flex_attention").flex_attention

    def without_gradients(*given: Tensor, **fixed: Any) -> Any:
        return flex(*(x.detach() for x in given), **fixed)

    monkeypatch.setattr(gpu_cases, "_flex", lambda: without_gradients)
    case = ALL["attention, forget gates"]
    rival = case.rivals[1]
    assert gpu.difference("cpu", case, rival, rival.function(), (2, 20, 2, 8)) < 1e-2


def double(v: Tensor, alpha: Tensor) -> Tensor:
    """In PyTorch what a case `scan` computes."""
    return naive_scan(v, alpha.log())


def itself(x: Inputs) -> Inputs:
    return {name: x[name] for name in ("v", "alpha")}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes, a model and amounts that a CPU can do."""
    monkeypatch.setattr(gpu, "SMALL", SHAPE)
    monkeypatch.setattr(gpu, "rates", partial(rates, numbers=64, side=8))
    monkeypatch.setattr(gpu.whole, "__defaults__", ({"d": 8, "w": 8, "h": 2, "n": 4, "layers": 3}, (1, 5)))


@pytest.mark.usefixtures("small")
def test_a_report_has_ours_and_theirs() -> None:
    session = gpu.Session("cpu", measure, longest=0.0)
    there = Rival("another", __name__, "double", itself)
    wrong = Rival("another", __name__, "naive_wrong", itself)
    missing = Rival("a third", "no_such_package", "scan", itself)
    case = Case("scan", gpu_cases.SCAN, (there, wrong, missing))
    copied = Case("copied", gpu_cases.SCAN, copied=True)
    found = gpu.report(session, [case, copied], [SHAPE], "high")
    rows = {(each.case, each.side): each for each in found.rows}
    about = "scan, 1x20x2x6"
    for kind in gpu.KINDS:
        assert rows[f"{about}, {kind}", "ours"].ratio == 1.0
        assert rows[f"{about}, {kind}", "ours"].met
        assert rows[f"{about}, {kind}", "another"].ratio is None
    assert rows["copied, 1x20x2x6, forward", "ours"].bar == Bar(gpu.COPIED)
    assert rows["Griffin, a token decoded", "ours"].median == 2.0 / gpu.DECODED
    assert [each for each in session.failed if "computes something else" in each]
    assert session.left_out == ["scan: scan of a third, which is not installed"]
    assert "no GPU" in found.about
    assert "computes something else" in found.markdown(False)


def naive_wrong(v: Tensor, alpha: Tensor) -> Tensor:
    return naive_scan(v, 2 * alpha.log())


@pytest.mark.usefixtures("small")
def test_functions_that_fail_are_said_and_the_rest_goes_on() -> None:
    """Kernels of others have no CPU."""
    session = gpu.Session("cpu", measure, longest=0.0)
    fails = Rival("another", __name__, "failing", itself)
    found = gpu.report(session, [Case("scan", gpu_cases.SCAN, (fails,))], [SHAPE], "high")
    assert session.failed == ["scan: failing of another: RuntimeError no such kernel"]
    assert {each.side for each in found.rows if each.case.startswith("scan")} == {"ours"}


def failing(**_: Any) -> Tensor:
    raise RuntimeError("no such kernel\nand more")


@pytest.mark.usefixtures("small")
def test_the_clock_leaves_out_what_would_come_too_late() -> None:
    session = gpu.Session("cpu", measure, seconds=40.0, clock=ticks(1.0))
    found = gpu.report(session, [Case("scan", gpu_cases.SCAN)], [SHAPE] * 9, "high")
    assert 0 < len(found.rows) < 22
    assert session.left_out
    assert session.left_out[-1].startswith("scan, 1x20x2x6")
    assert "Left out:" in found.about


def one_thread(*_: Any) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1)


def test_what_is_compiled_beforehand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checks first, in both types; what fails is said, and measured all the same."""
    asked = list[tuple[Any, ...]]()

    def compile_one(*given: Any) -> None:
        asked.append(given)
        if given[-1] == "high":
            raise RuntimeError("no such kernel")

    monkeypatch.setattr(gpu, "ProcessPoolExecutor", one_thread)
    monkeypatch.setattr(gpu, "warmed", compile_one)
    session = gpu.Session("cpu", measure)
    gpu.compile_all(session, [MORE[0]], [(2, 64, 2, 6), (1, 32, 2, 6)], "high")
    number = len(CASES)
    assert asked == [
        (number, gpu.SMALL, torch.float32, "highest"),
        (number, gpu.SMALL, torch.bfloat16, "highest"),
        (number, (1, 256, 2, 6), torch.bfloat16, "high"),
    ]
    assert capsys.readouterr().err.count("no such kernel") == 1


def test_compiling_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    testing = pytest.importorskip("triton.testing")
    monkeypatch.setattr(testing, "do_bench", testing.do_bench)
    for name in ("SEQC_TUNE", "FLA_CACHE_RESULTS"):
        monkeypatch.setenv(name, "1")
    gpu.warmed(len(CASES), SHAPE, torch.float32, "highest", "cpu")
    assert testing.do_bench is gpu.once


def test_sizes_without_kernels_are_left_out() -> None:
    assert not gpu.has_kernels(ALL["gated unit"], (8, 2048, 32, 256))
    assert gpu.has_kernels(ALL["attention, forget gates"], (1, 64, 2, 16))


def test_the_machine_is_told_in_words() -> None:
    told = versions("cpu")
    assert f"torch {torch.__version__}" in told
    assert "driver" in told


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main() == 1
    assert "--check" in capsys.readouterr().out
