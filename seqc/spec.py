"""A spec as Python sees it: `load`, `loads`, and handles on its rules, blocks and models."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqc.check import Checked, check_source
from seqc.diagnostics import Diagnostic, SpecError
from seqc.diagnostics.targets import ModeNotAllowed
from seqc.errors import UserError
from seqc.ir.expr import Axes
from seqc.ir.program import Function, Model
from seqc.ir.recurrence import Recurrence
from seqc.ir.work import Meter, limited
from seqc.source import Source, Span
from seqc.syntax import tree
from seqc.syntax.lexer import MAX_CHARACTERS

if TYPE_CHECKING:
    from seqc.backend import Scheduled
    from seqc.ir.plan import Plan

# The forms that every rule has: a token at a time, from the definition.
LOOPS = ("step", "reference")
ONLINE = "rtrl"

# All axes of an input of a rule, mapped ones first: "kv g n", or ("kv", "g", "n").
AxesOf = Mapping[str, str | Axes]


def load(path: str | Path) -> Spec:
    """Read and check a `.seq` file and what it uses; raises `SpecError` with everything that is wrong in it."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            text = file.read(4 * MAX_CHARACTERS + 4).decode("utf-8", errors="strict")
    except FileNotFoundError:
        raise UserError(f"there is no file `{path}`") from None
    except UnicodeDecodeError:
        raise UserError(f"`{path}` is not a text in UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read `{path}`: {error.strerror}") from error
    return _checked(Source(text.removeprefix("\ufeff"), str(path), path))


def loads(text: str, name: str = "<text>") -> Spec:
    """Check a text; it can use the standard library and no files."""
    return _checked(Source(text, name))


@contextmanager
def _uncollected() -> Generator[None]:
    """Without looking for cycles among what is allocated: trees and expressions have none, and are very many."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _checked(source: Source) -> Spec:
    with _uncollected():
        checked, diagnostics = check_source(source)
    if any(diagnostic.is_error for diagnostic in diagnostics):
        raise SpecError(diagnostics)
    return Spec(checked, tuple(diagnostics))


@dataclass(frozen=True, eq=False)
class Spec:
    """A program without errors; `warnings` are what there is to say about it nevertheless."""

    checked: Checked
    warnings: tuple[Diagnostic, ...] = ()

    @property
    def source(self) -> Source:
        return self.checked.source

    @property
    def rules(self) -> tuple[str, ...]:
        return self.checked.rules

    @property
    def blocks(self) -> tuple[str, ...]:
        return self.checked.blocks

    @property
    def models(self) -> tuple[str, ...]:
        return self.checked.models

    def rule(self, name: str | None = None, /, **sizes: float) -> RuleHandle:
        """A rule, by default the only one, with the lengths of its axes and its settings."""
        return RuleHandle(self, self._name(tree.Rule, name), _numbers(sizes))

    def block(self, name: str | None = None, /, **sizes: float) -> BlockHandle:
        """A block, by default the only one, with the lengths of its axes and its settings."""
        return BlockHandle(self, self._name(tree.Block, name), _numbers(sizes))

    def model(self, name: str | None = None, /, **settings: float) -> ModelHandle:
        """A model, by default the only one; settings that are not given take their defaults."""
        handle = ModelHandle(self, self._name(tree.Model, name), _numbers(settings))
        _ = handle.whole  # unknown settings and sizes that do not fit are said here, not later
        return handle

    def place(self, name: str) -> Span:
        """Where a rule, a block or a model begins."""
        found = self.checked.module.lookup(name)
        assert found is not None
        return found.node.name.span

    def explain(self) -> str:
        """What every model, or every rule of a spec without models, was understood to mean."""
        from seqc.explain import text

        handles: list[Handle] = [self.model(name) for name in self.models]
        if not handles:
            handles = [self.rule(name, **self.checked.default_sizes(name)) for name in self.rules]
        return "\n\n".join(text(facts) for facts in reports(handles))

    def _name(self, kind: type[tree.Rule] | type[tree.Block] | type[tree.Model], name: str | None) -> str:
        return self.checked.definition(kind, name).name


def _numbers(settings: Mapping[str, float]) -> dict[str, float]:
    for name, value in settings.items():
        if not isinstance(value, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may err
            raise UserError(f"the setting `{name}` must be a number, not {value!r}")
    return dict(settings)


@dataclass(frozen=True, eq=False)
class Handle:
    """One rule, block or model of a spec with its sizes; nothing is worked out before it is asked for."""

    spec: Spec
    name: str
    settings: Mapping[str, float] = field(default_factory=dict[str, float])

    @cached_property
    def whole(self) -> Recurrence | Model:
        raise NotImplementedError

    @property
    def place(self) -> Span:
        return self.spec.place(self.name)

    @property
    def modes(self) -> tuple[str, ...]:
        """The parallel forms that its rules allow, each once."""
        from seqc.passes.schedule import modes_of

        return modes_of(self.whole)

    def program(
        self, mode: str | None = None, axes: AxesOf | None = None, besides: tuple[str, ...] = ()
    ) -> Scheduled:
        """What backends are handed; `mode` is the parallel form of every rule, by default the scheduler's choice.

        Where there is no such form the diagnostic lists those that there are, and what is possible `besides`.
        """
        from seqc.backend import Scheduled

        whole = self._mapped(axes)
        return Scheduled(whole, plans(whole, mode, self.place, besides), self.place)

    def _mapped(self, axes: AxesOf | None) -> Recurrence | Model:
        if axes is not None:
            raise UserError(f"`{self.name}` is no rule: only the inputs of rules take further axes")
        return self.whole

    def report(self, meter: Meter | None = None) -> dict[str, Any]:
        """What `seqc explain --json` prints; `meter` is what is left of a limit on work."""
        from seqc.explain import report

        return report(self.whole, plans(self.whole, None, self.place, meter=meter), self.place)

    def explain(self) -> str:
        """The derived recurrence, its class and why, its schedule, parameters, states and costs."""
        from seqc.explain import text

        return text(self.report())

    def torch(
        self, mode: str | None = None, axes: AxesOf | None = None, kernels: bool = True, **options: Any
    ) -> Any:
        """A `torch.nn.Module`, made of the file that `seqc compile --target torch` writes.

        On a CPU its rules run as fused C++ loops where these pay (docs/cpu.md), unless a `mode` is asked for or
        `kernels` are not wanted.
        """
        from seqc.backend import backend

        if kernels and mode is None:
            return getattr(backend("cpu"), "module")(self.program(None, axes), patient=True, **options)  # noqa: B009
        module = getattr(backend("torch"), "module")  # noqa: B009  # no part of the protocol: only torch has modules
        if mode in (*LOOPS, ONLINE):
            return module(self.program(None, axes), mode=mode, **options)
        return module(self.program(mode, axes, LOOPS), **options)

    def cpu(self, mode: str | None = None, axes: AxesOf | None = None, **options: Any) -> Any:
        """The same module with every rule as a fused C++ loop (docs/cpu.md)."""
        from seqc.backend import backend

        module = getattr(backend("cpu"), "module")  # noqa: B009  # no part of the protocol
        return module(self.program(mode, axes), **options)

    def triton(self, mode: str | None = None, axes: AxesOf | None = None, **options: Any) -> Any:
        """The same module with every rule as kernels for the GPU (docs/triton.md)."""
        from seqc.backend import backend

        module = getattr(backend("triton"), "module")  # noqa: B009  # no part of the protocol
        return module(self.program(mode, axes), **options)

    def onnx(self, folder: str | Path, weights: Any = None, seed: int = 0, **options: str) -> None:
        """Write `prefill.onnx`, `step.onnx` and `manifest.json` into a folder."""
        self.write("onnx", folder, weights=weights, seed=seed, **options)

    def write(
        self,
        target: str,
        folder: str | Path,
        *,
        weights: Any = None,
        seed: int = 0,
        mode: str | None = None,
        **options: str,
    ) -> None:
        """Write what a backend makes of this into a folder, whole or not at all; `mode` as in `program`."""
        from seqc.backend import backend
        from seqc.output import new_folder
        from seqc.readme import write_readme
        from seqc.weights import check_room, check_weights, keep_weights

        writer, program = backend(target), self.program(mode)
        if weights is not None:
            check_weights(weights, self.whole)
        check_room(self.whole)
        with new_folder(Path(folder)) as staging:
            writer.write(program, staging, weights=weights, seed=seed, options=options)
            keep_weights(weights, self.whole, seed, staging)
            write_readme(program, target, staging, self.settings)


def plans(
    whole: Recurrence | Model,
    mode: str | None,
    place: Span,
    besides: tuple[str, ...] = (),
    meter: Meter | None = None,
) -> Callable[[Recurrence], Plan]:
    """The plan of each rule: in `mode` where its class allows that; some rule has to.

    `besides` is what else is possible, and said where it is not so.
    """
    from seqc.ir.paths import instances
    from seqc.passes.schedule import MAX_WORK, schedule

    meter = meter or Meter(MAX_WORK)
    known: dict[Recurrence, Plan] = {}
    for instance in instances(whole) if mode is not None else ():
        if isinstance(instance.owner, Recurrence):
            with limited(meter):
                known.setdefault(instance.owner, schedule(instance.owner))
    allowed = tuple(dict.fromkeys(m for plan in known.values() for m in plan.modes))
    if mode is not None and mode not in allowed:
        reason = "; ".join(dict.fromkeys(plan.classes[0].reason for plan in known.values() if plan.classes))
        raise SpecError([ModeNotAllowed(place, mode, (*allowed, *besides), reason)])

    @cache
    def plan_of(rec: Recurrence) -> Plan:
        fits = rec in known and mode in known[rec].modes
        with limited(meter):
            return schedule(rec, mode if fits else None)

    return plan_of


def reports(handles: Sequence[Handle]) -> list[dict[str, Any]]:
    """The reports of several, which share one limit of work."""
    from seqc.passes.schedule import MAX_WORK

    meter = Meter(MAX_WORK)
    with _uncollected():
        return [handle.report(meter) for handle in handles]


class RuleHandle(Handle):
    """A rule with the lengths of its axes."""

    @cached_property
    def recurrence(self) -> Recurrence:
        return self.spec.checked.elaborate_rule(self.name, self.settings)

    @cached_property
    def whole(self) -> Recurrence:
        return self.recurrence

    def _mapped(self, axes: AxesOf | None) -> Recurrence:
        return self.recurrence if axes is None else self.mapped(axes)

    def mapped(self, axes: AxesOf) -> Recurrence:
        """The rule over inputs with further axes: `mapped({"q": "kv g n", "k": "kv n"})`."""
        given = {name: tuple(a.split()) if isinstance(a, str) else tuple(a) for name, a in axes.items()}
        return self.spec.checked.elaborate_rule(self.name, self.settings, given)


class BlockHandle(Handle):
    """A block with its settings: a model whose inputs are its values."""

    @cached_property
    def function(self) -> Function:
        return self.spec.checked.elaborate_block(self.name, self.settings)

    @cached_property
    def model(self) -> Model:
        return self.spec.checked.as_model(self.function, self.settings)

    @cached_property
    def whole(self) -> Model:
        return self.model


class ModelHandle(Handle):
    """A model with its settings."""

    @cached_property
    def model(self) -> Model:
        return self.spec.checked.elaborate_model(self.name, self.settings)

    @cached_property
    def whole(self) -> Model:
        return self.model
