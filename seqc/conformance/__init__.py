"""The proof that what was generated means what was written: `seqc conform`, `seqc.conform`.

Every form of a rule or a model, in every backend, is compared with the oracle, by the checks of `checks/`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from seqc.backend import Weights, backend, examined
from seqc.conformance.case import Case
from seqc.conformance.checks import checks
from seqc.conformance.compare import single
from seqc.conformance.examine import Progress, examine, generic_weights
from seqc.conformance.report import Finding, Outcome, Report
from seqc.errors import UserError
from seqc.ir.paths import parameter_table
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence
from seqc.spec import Handle, Spec


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
    mode: str | None = None,
) -> Report:
    """Examine a spec, or one rule or model of it.

    `backends` are the backends' names (default: all that have something to examine, but for those that are examined
    `on_request`), `names` the rules and models (default: all of both), `settings` their sizes, `only` the checks.
    `weights` are a single model's parameters, by full name; without them they are drawn.  Where `settings` or
    `weights` are given without `names`, rules beside a model are left out.  With `mode` only that parallel form is
    examined, of those that have it; some has to.  `progress` is told what is being examined.
    """
    report, start = Report(), time.perf_counter()
    handles = _handles(spec, names, settings or {}, weights is not None or bool(settings))
    for handle in handles if mode is None else _having(handles, mode):
        case = Case(handle.name, handle.whole, _weights(handle.whole, weights), fast)
        for name in _backends(backends):
            report.outcomes.extend(examine(case, name, _checks(only), progress, mode))
    report.seconds = time.perf_counter() - start
    return report


def _handles(
    spec: Spec | Handle, names: Sequence[str] | None, settings: Mapping[str, float], models_only: bool
) -> list[Handle]:
    if isinstance(spec, Handle):
        return [spec]
    everything = () if models_only and spec.models else spec.rules
    return [_handle(spec, name, settings) for name in names or (*everything, *spec.models)]


def _having(handles: Sequence[Handle], mode: str) -> list[Handle]:
    found = [handle for handle in handles if mode in handle.modes]
    for handle in [] if found else handles:
        handle.program(mode)  # says which there are
    return found


def _handle(spec: Spec, name: str, settings: Mapping[str, float]) -> Handle:
    if name in spec.models:
        return spec.model(name, **settings)
    if name in spec.blocks:
        return spec.block(name, **settings)
    return spec.rule(name, **{**lengths(spec, name), **settings})


def lengths(spec: Spec, name: str) -> dict[str, float]:
    """A length for every axis of a rule that needs one, all different and small."""
    lengths = (6, 5, 4, 3, 7, 2, 8, 9, 10, 11)
    return dict(zip(spec.checked.default_sizes(name), lengths, strict=False))


def _backends(asked: Sequence[str] | None) -> Sequence[str]:
    for name in asked or ():
        backend(name)  # says which there are
    return list(asked or examined())


def _checks(only: Sequence[str] | None) -> list[str]:
    known = list(checks())
    for name in only or ():
        if name not in known:
            raise UserError(f"there is no check `{name}`", f"the checks are {', '.join(known)}")
    return [name for name in known if not only or name in only]


def _weights(whole: Recurrence | Model, given: Weights | None) -> dict[str, Tensor]:
    if given is None:
        return generic_weights(whole)
    table = parameter_table(whole)
    missing = [name for name in table if name not in given]
    if missing:
        raise UserError(f"the weights lack `{missing[0]}`", "give those of this very model")
    found = {name: single(torch.as_tensor(given[name]).detach().cpu()) for name in table}
    for name, named in table.items():
        if tuple(found[name].shape) != named.shape:
            raise UserError(f"`{name}` has the shape {tuple(found[name].shape)}, not {named.shape}")
    return found


__all__ = ["Finding", "Outcome", "Report", "conform", "lengths"]
