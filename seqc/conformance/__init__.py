"""The proof that what was generated means what was written: `seqc conform`, `seqc.conform`.

Every form of a rule or a model, in every backend, is compared with the oracle, by the checks of `checks/`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from seqc.backend import Weights, backends
from seqc.conformance.case import Case
from seqc.conformance.checks import checks
from seqc.conformance.report import Finding, Outcome, Report, Status
from seqc.conformance.subject import Request, Subject, subjects
from seqc.diagnostics import SpecError
from seqc.errors import UserError
from seqc.ir.paths import instances
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence
from seqc.oracle import initial_parameters, parameter_table
from seqc.spec import Handle, Spec

Progress = Callable[[str], None]


def conform(
    spec: Spec | Handle,
    backends: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    *,
    fast: bool = False,
    weights: Weights | None = None,
    only: Sequence[str] | None = None,
    progress: Progress | None = None,
    settings: Mapping[str, float] | None = None,
) -> Report:
    """Examine a spec, or one rule or model of it.

    `backends` are the backends' names (default: all that have something to examine), `names` the rules and
    models (default: all models, or all rules where there is no model), `settings` their sizes, `only` the
    checks. `weights` are a single model's parameters, by full name; without them they are drawn.  `progress`
    is told what is being examined.
    """
    report, start = Report(), time.perf_counter()
    for handle in _handles(spec, names, settings or {}):
        case = Case(handle.name, handle.whole, _weights(handle.whole, weights), fast)
        for name in _backends(backends):
            report.outcomes.extend(_examine(case, name, _checks(only), progress))
    report.seconds = time.perf_counter() - start
    return report


def _handles(spec: Spec | Handle, names: Sequence[str] | None, settings: Mapping[str, float]) -> list[Handle]:
    if isinstance(spec, Handle):
        return [spec]
    chosen = tuple(names) if names else spec.models or spec.rules
    return [_handle(spec, name, settings) for name in chosen]


def _handle(spec: Spec, name: str, settings: Mapping[str, float]) -> Handle:
    if name in spec.models:
        return spec.model(name, **settings)
    if name in spec.blocks:
        return spec.block(name, **settings)
    return spec.rule(name, **{**_sizes(spec, name), **settings})


def _sizes(spec: Spec, name: str) -> dict[str, float]:
    """A length for every axis of a rule that needs one, all different and small."""
    lengths = (6, 5, 4, 3, 7, 2, 8, 9, 10, 11)
    return dict(zip(spec.checked.default_sizes(name), lengths, strict=False))


def _backends(asked: Sequence[str] | None) -> Sequence[str]:
    known = backends()
    for name in asked or ():
        if name not in known:
            raise UserError(f"there is no target `{name}`", f"the targets are {', '.join(known)}")
    return list(asked) if asked else list(known)


def _checks(only: Sequence[str] | None) -> list[str]:
    known = list(checks())
    for name in only or ():
        if name not in known:
            raise UserError(f"there is no check `{name}`", f"the checks are {', '.join(known)}")
    return [name for name in known if not only or name in only]


def _weights(whole: Recurrence | Model, given: Weights | None) -> dict[str, Tensor]:
    if given is None:
        return _generic(initial_parameters(whole))
    table = parameter_table(whole)
    missing = [name for name in table if name not in given]
    if missing:
        raise UserError(f"the weights lack `{missing[0]}`", "give those of this very model")
    found = {name: torch.as_tensor(given[name]).detach().to("cpu", torch.float64) for name in table}
    for name, named in table.items():
        if tuple(found[name].shape) != named.shape:
            raise UserError(f"`{name}` has the shape {tuple(found[name].shape)}, not {named.shape}")
    return found


def _generic(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of which none is exactly 0 or 1, or like its neighbours, so that no use of them goes unseen."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: x * (1 + 0.05 * torch.randn(x.shape, generator=generator, dtype=x.dtype))
        + (0.1 * torch.randn(x.shape, generator=generator, dtype=x.dtype) if _is_plain(x) else 0.0)
        for name, x in weights.items()
    }


def _is_plain(x: Tensor) -> bool:
    return bool((x == 0).any())


def modes_of(whole: Recurrence | Model) -> tuple[str, ...]:
    """The parallel forms that the rules of a program allow, each once."""
    from seqc.passes.schedule import schedule

    owners = {instance.owner: None for instance in instances(whole)}
    plans = [schedule(owner) for owner in owners if isinstance(owner, Recurrence)]
    return tuple(dict.fromkeys(mode for plan in plans for mode in plan.modes))


def _examine(case: Case, name: str, wanted: Iterable[str], progress: Progress | None) -> Iterator[Outcome]:
    """Every check of every form that a backend offers of a program."""
    with TemporaryDirectory(prefix="seqc-conform-") as folder:
        request = Request(case.whole, case.weights, Path(folder), modes_of(case.whole), case.fast)
        offered = iter(subjects(name, request))
        while True:
            try:
                subject = next(offered, None)
            except SpecError as error:
                reason = "; ".join(diagnostic.message for diagnostic in error.diagnostics)
                yield Outcome(case.name, name, "", "compile", "not applicable", reason=reason)
                return
            except Exception as error:
                yield Outcome(case.name, name, "", "compile", "failed", reason=_words(error))
                return
            if subject is None:
                return
            for check in wanted:
                if progress is not None:
                    progress(f"{case.name}: {subject.backend} {subject.mode}: {check}")
                yield _outcome(case, subject, check)


def _outcome(case: Case, subject: Subject, name: str) -> Outcome:
    """One check of one form.  Whatever the form raises is a failure of the check."""
    check, start = checks()[name], time.perf_counter()
    findings: list[Finding] = []
    reason = check.applies(case, subject)
    status: Status = "not applicable" if reason else "passed"
    if not reason:
        try:
            findings.extend(check.check(case, subject))
        except Exception as error:
            status, reason = "failed", _words(error)
    if any(not finding.passed for finding in findings):
        status = "failed"
    seconds = time.perf_counter() - start
    return Outcome(case.name, subject.backend, subject.mode, name, status, seconds, tuple(findings), reason)


def _words(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


__all__ = ["Finding", "Outcome", "Report", "conform"]
