"""Conformance can fail: a fault in any emitted operation makes it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import onnx
import pytest
import torch

import seqc
from seqc.backend import backend
from seqc.conformance import lengths
from seqc.conformance.case import Case
from seqc.conformance.checks import checks
from seqc.conformance.examine import examined, generic_weights
from seqc.conformance.subject import Subject
from seqc.ir.program import Model
from seqc.spec import Handle
from tests.conformance.graphs import graph_mutants
from tests.conformance.mutants import Mutant, mutants

if TYPE_CHECKING:
    from backends.onnx.conform import Graphs  # noqa: TID251  # what `seqc.backends` is in a checkout
    from backends.onnx.session import Session  # noqa: TID251
    from backends.torch.conform import Form  # noqa: TID251
    from backends.torch.load import load_module  # noqa: TID251
else:
    from seqc.backends.onnx.conform import Graphs
    from seqc.backends.onnx.session import Session
    from seqc.backends.torch.conform import Form
    from seqc.backends.torch.load import load_module

SPECS = Path(__file__).parents[2] / "specs"
# The checks that see a fault, the quickest first.
CHECKS = ("values", "gradients", "steps", "resets", "splits", "gates", "lengths")

# A rule of every class.
RULES = {
    "gated_delta": "delta/gated_delta.seq",
    "gla": "linear/gla.seq",
    "rg_lru": "gated/rg_lru.seq",
    "lru": "gated/lru.seq",
    "aaren": "attention/aaren.seq",
    "softmax_attention": "attention/softmax.seq",
    "lstm": "nonlinear/lstm.seq",
}
EACH = pytest.mark.parametrize("name", [*RULES, "griffin"])
# Enough to meet every kind of operation that PyTorch is given; `make test-all` takes all of RULES.
QUICK = pytest.mark.parametrize("name", ["gated_delta", "rg_lru", "lru", "softmax_attention", "lstm"])

# Faults that change nothing but rounding, or nothing at all, with the reason.
HARMLESS: dict[tuple[str, str], str] = {
    ("rg_lru", "Relu: dropped"): "1 - a² is never negative",
    ("griffin", "Relu: dropped"): "the same, in its RG-LRU",
    ("rg_lru", "Where: exchanged"): "two spellings of expm1, which differ in rounding only",
    (
        "rg_lru",
        "Sub: Add instead",
    ): "the spelling of expm1 for large arguments, where it is asked for small ones",
    ("aaren", "Sub: Add instead"): "the same",
    (
        "gla",
        "CumSum: direction, of one without its own entry",
    ): "1 - Π g is Σ (1 - g) times the gates on either side",
    ("gated_delta", "CumSum: direction, of one without its own entry"): "the same",
}
# The same in emitted Python, with the function that has the fault.
HARMLESS_IN_PYTORCH: dict[tuple[str, str, str], str] = {
    ("aaren", "div: inverted", "cotangents"): "by how many entries are the largest, which is one",
}


# A model with every kind of block: convolution, rotary embedding, attention, norms, gates, an embedding.
SETTINGS = {"d": 16, "w": 24, "h": 2, "n": 8, "layers": 1, "vocab": 20}


def handle(name: str) -> Handle:
    if name == "griffin":
        return seqc.load(SPECS / "hybrid/griffin.seq").model(**SETTINGS)
    spec = seqc.load(SPECS / RULES[name])
    return spec.rule(name, **lengths(spec, name))


def case_of(found: Handle) -> Case:
    return Case(found.name, found.whole, generic_weights(found.whole), fast=True)


class Double(Form):
    """A form in double precision only: a fault shows there as well as anywhere."""

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        return (torch.float64,)


def is_caught(case: Case, make: Callable[[], Subject]) -> bool:
    """Whether the form cannot even be made, or fails a check."""
    try:
        subject = make()
    except Exception:
        return True
    return any(examined(case, subject, check).status == "failed" for check in CHECKS)


def from_text(text: str, case: Case) -> Subject:
    classes = [node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    module = getattr(load_module(text, "mutant"), classes[-1])(0)
    return Double("mutant", module, isinstance(case.whole, Model), case.weights)


def from_folder(folder: Path) -> Subject:
    return Graphs("mutant", Session(folder))


T = TypeVar("T")


def some(all_: Iterable[T], kind: Callable[[T], str], every: bool) -> Iterator[T]:
    """All mutants, or one of every kind: the first that lies in the middle of its kind."""
    by_kind: dict[str, list[T]] = {}
    for mutant in all_:
        by_kind.setdefault(kind(mutant), []).append(mutant)
    for found in by_kind.values():
        yield from found if every else found[len(found) // 2 : len(found) // 2 + 1]


def torch_survivors(name: str, every: bool) -> list[str]:
    rule = handle(name)
    case, text = case_of(rule), backend("torch").text(rule.program())  # type: ignore[attr-defined]
    assert not is_caught(case, lambda: from_text(text, case))

    def alive(mutant: Mutant) -> bool:
        key = (name, mutant.kind, mutant.place.partition(":")[0])
        return key not in HARMLESS_IN_PYTORCH and not is_caught(case, lambda: from_text(mutant.text, case))

    chosen = some(_living(text), lambda mutant: mutant.kind, every)
    return [f"{mutant.kind} at {mutant.place}" for mutant in chosen if alive(mutant)]


def _living(text: str) -> Iterator[Mutant]:
    """Mutants of what this form runs: only a loop begins a state anew by itself."""
    loop = "Stage" not in text
    for mutant in mutants(text):
        function = mutant.place.partition(":")[0]
        if function == "restarted" and not loop:
            continue
        # Of a model, what its rules do not have: they are seen to by themselves.
        if "(Network):" not in text or function in ("forward", "body", "causal_conv", "attend"):
            yield mutant


def graph_survivors(name: str, folder: Path, every: bool) -> list[str]:
    rule = handle(name)
    case = case_of(rule)
    rule.onnx(folder, weights=case.weights)
    assert not is_caught(case, partial(from_folder, folder))
    found: list[str] = []
    for file in ("prefill.onnx", "step.onnx"):
        whole = onnx.load(folder / file)
        for mutant in some(graph_mutants(whole), lambda mutant: mutant.kind, every):
            onnx.save(mutant.model, folder / file)
            harmless = (name, mutant.kind) in HARMLESS
            if not harmless and not is_caught(case, partial(from_folder, folder)):
                found.append(f"{file}: {mutant.kind} at {mutant.node}")
        onnx.save(whole, folder / file)
    return found


@QUICK
def test_a_fault_of_every_kind_in_pytorch_is_caught(name: str) -> None:
    assert torch_survivors(name, every=False) == []


@EACH
def test_a_fault_of_every_kind_in_onnx_is_caught(name: str, tmp_path: Path) -> None:
    assert graph_survivors(name, tmp_path / "built", every=False) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gla", "aaren", "griffin"])
def test_a_fault_of_every_kind_in_more_of_pytorch_is_caught(name: str) -> None:
    assert torch_survivors(name, every=False) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_every_fault_in_pytorch_is_caught(name: str) -> None:
    assert torch_survivors(name, every=True) == []


def test_the_checks_are_there() -> None:
    assert set(CHECKS) <= set(checks())
