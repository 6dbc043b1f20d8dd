"""Rules whose blocks have another length, and choices of it by a clock that the tests set."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tests.emit.torch.rules import error, inputs_of
from tests.emit.triton import parts

if TYPE_CHECKING:
    from backends.triton.runtime import chunk, kernel, known, length  # noqa: TID251  # what `seqc.backends` is
    from backends.triton.runtime.rule import Looped  # noqa: TID251
else:
    from seqc.backends.triton.runtime import chunk, kernel, known, length
    from seqc.backends.triton.runtime.rule import Looped

TOKENS = 40  # no whole number of blocks
parts.MAKERS.update(
    {
        "gla": parts.of_spec("linear/gla", "gla", n=5, m=3),
        "mamba2": parts.of_spec("linear/mamba2", "mamba2", p=3, n=5),
        "gated delta rule": parts.of_spec("delta/gated_delta", "gated_delta", n=5, m=3),
        "hgrn": parts.of_spec("gated/hgrn", "hgrn", d=5),
        "computed": parts.written(parts.COMPUTED, n=5, m=3),
        "lru": parts.of_spec("gated/lru", "lru", d=5),
    }
)


def others(name: str) -> list[int]:
    """The lengths of blocks that a rule has besides its own."""
    return [block for block, made in parts.kernels_of(parts.MAKERS[name]()).others.items() if made()]


def of_length(name: str, block: int, time: int) -> tuple[float, set[int]]:
    """The worst error of a rule with blocks of so many tokens, and the lengths that kernels were launched with."""
    found, launch = set[int](), chunk.BlockKernels.launch

    def noted(self: Any, *args: Any, **given: Any) -> Any:
        found.add(self.face.block)
        return launch(self, *args, **given)

    def first(self: Any, *_: Any) -> int:
        return block

    with patch.object(length.Lengths, "block", first), patch.object(chunk.BlockKernels, "launch", noted):
        return max(parts.compared(name, time, True, begun=True)), found


class Clock:
    """Gives times in turn for what is measured, which it runs; none is left for anything else."""

    def __init__(self, times: Sequence[float]) -> None:
        self.times, self.taken = list(times), 0

    def __call__(self, run: Callable[[], object]) -> float:
        run()
        self.taken += 1
        return self.times.pop(0)


def _yes(_: Tensor) -> bool:
    return True


def _key(_: Tensor, about: object) -> str:
    return f"a GPU {about!r}"


@contextmanager
def measured(
    folder: Path, times: Sequence[float], recorded: bool = False
) -> Generator[tuple[Clock, list[str]]]:
    """As on a GPU, with times for what is measured; and what was launched, with the lengths of blocks."""
    clock, launched = Clock(times), list[str]()
    in_blocks, in_loop = chunk.BlockKernels.launch, kernel.Kernel.launch

    def blocks(self: Any, function: Any, *args: Any, **given: Any) -> Any:
        launched.append(f"{self.face.block} {function.fn.__name__.rstrip('0123456789')}")
        return in_blocks(self, function, *args, **given)

    def loop(self: Any, function: Any, *args: Any, **given: Any) -> list[Any]:
        launched.append(f"loop {function.fn.__name__}")
        return in_loop(self, function, *args, **given)

    known._known.cache_clear()  # pyright: ignore[reportPrivateUsage]  # as a new process would begin
    with (
        patch.dict("os.environ", {"SEQC_CACHE": str(folder)}),
        patch.object(length, "measures", _yes),
        patch.object(length, "key_of", _key),
        patch.object(length, "milliseconds", clock),
        patch.object(torch.cuda, "is_current_stream_capturing", lambda: recorded),
        patch.object(chunk.BlockKernels, "launch", blocks),
        patch.object(kernel.Kernel, "launch", loop),
    ):
        yield clock, launched
    known._known.cache_clear()  # pyright: ignore[reportPrivateUsage]


def _module(name: str, dtype: torch.dtype) -> tuple[Any, dict[str, Tensor]]:
    rec = parts.MAKERS[name]()
    drawn = {key: x.detach().to(dtype) for key, x in inputs_of(rec, 2, TOKENS).items()}
    return parts.BACKEND.module(parts.scheduled(rec)), {k: x.requires_grad_() for k, x in drawn.items()}


def _run(module: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    out: Tensor = module(**inputs)[0]
    return out


def _ways(launched: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(launched))


def chosen(name: str, folder: Path, times: Sequence[float], dtype: torch.dtype) -> dict[str, Any]:
    """What is measured and launched for a rule: at first, again, with another length, and by a new process."""
    found: dict[str, Any] = {}
    module, inputs = _module(name, dtype)
    state = torch.get_rng_state()
    with measured(folder, times) as (clock, launched):
        out = _run(module, inputs)
        found["tried"], found["measured"] = _ways(launched), clock.taken
        found["touched"] = [key for key, x in inputs.items() if x.grad is not None or x._version]
        found["touched"] += [key for key, x in module.named_parameters() if x.grad is not None]
        found["drawn"] = not torch.equal(state, torch.get_rng_state())
        launched.clear()
        out.float().sum().backward()
        found["back"] = _ways(launched)
        for key, less in (("again", 0), ("ragged", 3)):
            launched.clear()
            again = _run(module, {key: x[:, less:] for key, x in inputs.items()})
            again.float().sum().backward()
            found[key] = _ways(launched)
            found["same"] = found.get("same", True) and (less > 0 or torch.equal(out, again))
        found["measured again"] = clock.taken - found["measured"]
    with measured(folder, []) as (_, launched):
        _run(_module(name, dtype)[0], inputs)
        found["anew"] = _ways(launched)
    with measured(folder, [], recorded=True) as (_, launched), torch.no_grad():
        _run(module, inputs)
        found["recorded"] = _ways(launched)
    return found


def exact_while_measured(name: str, folder: Path, times: Sequence[float]) -> float:
    """The worst error of a rule whose way is chosen as it runs."""
    with measured(folder, times):
        return max(parts.compared(name, TOKENS, True, begun=True))


def recomputed(name: str, folder: Path, times: Sequence[float], reentrant: bool) -> tuple[list[float], int]:
    """The errors of gradients where a rule is computed again on the way back, and how often it was measured."""
    module, inputs = _module(name, torch.bfloat16)
    wanted = torch.autograd.grad(_run(module, inputs).float().square().sum(), list(inputs.values()))

    def again(*given: Tensor) -> Tensor:
        return _run(module, dict(zip(inputs, given, strict=True)))

    with measured(folder, times) as (clock, _):
        out: Any = checkpoint(again, *inputs.values(), use_reentrant=reentrant)
        out.float().square().sum().backward()
    found = [x.grad for x in inputs.values() if x.grad is not None]
    return [error(x, y) for x, y in zip(found, wanted, strict=True)], clock.taken


def without_room(folder: Path, failing: int) -> tuple[list[str], bool]:
    """What runs where so many ways, of three and a loop, have too little memory; and whether a choice is kept."""
    module, inputs = _module("hgrn", torch.float32)
    left = [float("inf")] * failing + [1.0] * (4 - failing)
    with measured(folder, left) as (_, launched), torch.no_grad():
        _run(module, inputs)
        launched.clear()
        if failing < 4:
            _run(module, inputs)
        return _ways(launched), (folder / "launch.json").exists()


def nowhere() -> bool:
    """Whether nothing is measured on the CPU."""
    module, inputs = _module("hgrn", torch.float32)

    def never(*_: Any) -> float:
        raise AssertionError("measured")

    with patch.object(length, "milliseconds", never):
        return bool(_run(module, inputs).isfinite().all())


def compiled(name: str, folder: Path, times: Sequence[float]) -> tuple[list[str], float]:
    """What a compiled module launches once a choice was made without it, and how far it is from the same as it is."""
    module, inputs = _module(name, torch.float32)
    with measured(folder, times) as (_, launched), patch.object(Looped, "runs", parts.always):
        wanted = _run(module, inputs)
        launched.clear()
        made: Any = torch.compile(module, fullgraph=True, backend="aot_eager")
        out = _run(made, inputs)
        out.sum().backward()
        return _ways(launched), float((out - wanted).detach().abs().max())
