"""Examining one program: every check of every form that a backend offers of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from seqc.conformance.case import Case
from seqc.conformance.checks import checks
from seqc.conformance.compare import single
from seqc.conformance.report import COMPILE, Finding, Outcome, Status
from seqc.conformance.subject import Request, Subject, subjects
from seqc.diagnostics import SpecError
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence
from seqc.oracle import initial_parameters
from seqc.passes.schedule import modes_of

Progress = Callable[[str], None]


def examine(
    case: Case, name: str, wanted: Iterable[str], progress: Progress | None, mode: str | None = None
) -> Iterator[Outcome]:
    """Every check of every form that a backend offers of a program, or of those in one `mode`."""
    with TemporaryDirectory(prefix="seqc-conform-") as folder:
        modes = modes_of(case.whole) if mode is None else (mode,)
        request = Request(case.whole, case.weights, Path(folder), modes, case.fast, mode)
        offered = iter(subjects(name, request))
        while True:
            try:
                subject = next(offered, None)
            except SpecError as error:
                reason = "; ".join(diagnostic.message for diagnostic in error.diagnostics)
                yield Outcome(case.name, name, "", COMPILE, "not applicable", reason=reason)
                return
            except Exception as error:
                yield Outcome(case.name, name, "", COMPILE, "failed", reason=_words(error))
                return
            if subject is None:
                return
            for check in wanted:
                if progress is not None:
                    progress(f"{case.name}: {subject.backend} {subject.mode}: {check}")
                yield examined(case, subject, check)


def examined(case: Case, subject: Subject, name: str) -> Outcome:
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


def generic_weights(whole: Recurrence | Model) -> dict[str, Tensor]:
    """Weights of which none is exactly 0 or 1, or like its neighbours, so that no use of them goes unseen."""
    weights = initial_parameters(whole)
    generator = torch.Generator().manual_seed(0)
    changed: dict[str, Tensor] = {}
    for name, x in weights.items():
        factor = 1 + 0.05 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        term = 0.1 * torch.randn(x.shape, generator=generator, dtype=x.dtype) if _is_plain(x) else 0.0
        changed[name] = single(x * factor + term)
    return changed


def _is_plain(x: Tensor) -> bool:
    return bool((x == 0).any())
