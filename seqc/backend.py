"""What a backend is, and how one is found: the core knows none by name.

A backend is a folder of `backends/` whose package has a variable `BACKEND`, or a package of somebody else's with an
entry point in the group `seqc.backends` that leads to such an object. Importing it must be cheap: torch, onnx and the
like are imported when something is written or loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Protocol, runtime_checkable

from seqc.diagnostics.words import by_nearness
from seqc.errors import UserError
from seqc.ir.plan import Plan
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence
from seqc.source import Source, Span

GROUP = "seqc.backends"

# Tensors by full name: numpy arrays, or torch tensors (which every backend can read without importing torch).
Weights = Mapping[str, Any]


@dataclass(frozen=True, eq=False, slots=True)
class Scheduled:
    """What a backend is handed: a checked model or rule, and the plan of every recurrence in it."""

    whole: Recurrence | Model
    plan: Callable[[Recurrence], Plan]
    place: Span | None = None  # where it is written, if anywhere

    @property
    def name(self) -> str:
        return self.whole.name

    @property
    def origin(self) -> Span:
        """Its place, or an empty text of its name."""
        return self.place or Source("", self.name).span(0, 0)


class Backend(Protocol):
    """Turns a scheduled program into files. What it cannot do it says as a diagnostic, by raising `SpecError`."""

    @property
    def about(self) -> str:
        """One line for `seqc list targets`."""
        ...

    def write(
        self,
        program: Scheduled,
        folder: Path,
        *,
        weights: Weights | None,
        seed: int,
        options: Mapping[str, str],
    ) -> None:
        """Write everything into an existing, empty folder, `manifest.json` included.

        `weights` are the parameters; without them they are initialised from `seed`. An unknown option is a
        `UserError` that lists the known ones.
        """
        ...


class Runner(Protocol):
    """A compiled model or rule with its weights: inputs and outputs have the batch first, in `prefill` the time next.

    Inputs are arrays by name, or the only one. Outputs are by name, of a model of tokens the logits alone; the state is
    whatever the runner keeps between calls.
    """

    def prefill(self, inputs: Any, state: Any = None) -> tuple[Mapping[str, Any], Any]: ...

    def step(self, inputs: Any, state: Any) -> tuple[Mapping[str, Any], Any]: ...


@runtime_checkable
class Trains(Protocol):
    """A runner that can also go backward."""

    def train(self, inputs: Any) -> None:
        """Whole sequences forward, and the gradients of the sum of all outputs, which are thrown away."""
        ...


@runtime_checkable
class Runs(Protocol):
    """A backend that can also run the folders it writes."""

    def runner(self, folder: Path, threads: int | None) -> Runner:
        """What is in a folder, loaded; `threads` None leaves their number to the runtime.

        Whatever is wrong with the folder is an `OSError`, a `ValueError`, a `LookupError`, a `TypeError` or a
        `RuntimeError`; what is wrong with the asking is a `UserError`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to quantise: the name of a format, how many weights share a scale (None: the format's own choice), and a text
    to calibrate by, as tokens.
    """

    format: str
    block: int | None = None
    tokens: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class Quantized:
    """What was done: by name, in which form each changed weight is held; and how many values were smoothed."""

    held: Mapping[str, str]
    smoothed: int = 0


@runtime_checkable
class Quantizes(Protocol):
    """A backend that can write the folders it wrote in fewer bits."""

    @property
    def formats(self) -> Mapping[str, str]:
        """The formats by name, one line each."""
        ...

    def quantize(self, folder: Path, out: Path, recipe: Recipe) -> Quantized:
        """Write a folder of the same form into an existing, empty one; errors as in `Runs.runner`."""
        ...


@runtime_checkable
class Calls(Protocol):
    """A backend whose target has operators for some rules as a whole."""

    def operators(self, plan: Plan) -> tuple[str, ...]:
        """The operators that sequences without resets are run by, by the target's names; nothing heavy is imported."""
        ...


@runtime_checkable
class Predicts(Protocol):
    """A backend that computes a rule in one of several ways, and knows which."""

    def predicted(self, plan: Plan) -> Mapping[str, Any]:
        """How a rule is computed there: `way`, `because`, and with alternatives `tokens` and `seconds`.

        `how` says more about the way, by what it is about.  `seconds` are predicted, for each of several kinds of call
        and each way; nothing heavy is imported.
        """
        ...


@runtime_checkable
class Surrounds(Protocol):
    """A backend that has a way of its own for parts of blocks around the rules of a model."""

    def around(self, program: Scheduled) -> Mapping[str, Sequence[str]]:
        """What these parts compute, in words, by the names of the blocks; nothing heavy is imported."""
        ...


@runtime_checkable
class Compiles(Protocol):
    """A backend that compiles every rule before it can run, which takes seconds each."""

    @property
    def on_request(self) -> bool:
        """Whether conformance leaves it out where no backend is named."""
        ...


@cache
def backends() -> dict[str, Backend]:
    """All backends by name: those that come with seqc, then those that are installed."""
    ours = import_module(GROUP)
    found: dict[str, Backend] = {}
    for info in iter_modules(ours.__path__):
        own = vars(import_module(f"{GROUP}.{info.name}")) if info.ispkg else {}
        if "BACKEND" in own:
            found[info.name] = own["BACKEND"]
    for entry in entry_points(group=GROUP):
        found.setdefault(entry.name, entry.load())
    return found


def examined() -> list[str]:
    """The names of the backends that conformance examines where none is named."""
    return [name for name, own in backends().items() if not (isinstance(own, Compiles) and own.on_request)]


def backend(name: str) -> Backend:
    """The backend of that name."""
    known = backends()
    if name not in known:
        near = ", ".join(f"`{other}`" for other in by_nearness(name, known))
        raise UserError(f"there is no target `{name}`", f"the targets are {near}")
    return known[name]
