"""From a recurrence to a plan: the parallel form that its structure allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seqc.diagnostics import Diagnostic, SpecError
from seqc.diagnostics.limits import RuleTooLarge
from seqc.diagnostics.targets import ModeNotAllowed, NoParallelForm
from seqc.ir.expr import Expr, LeafKind
from seqc.ir.paths import instances
from seqc.ir.plan import Plan
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence, State
from seqc.ir.traverse import leaves
from seqc.ir.work import OutOfWork, limited, spend
from seqc.passes.classify import classify
from seqc.passes.forms import FORMS
from seqc.passes.forms.held import find_held, held_stage
from seqc.passes.forms.problem import Build, Problem
from seqc.passes.groups import components, inlined, merge_coupled, reads_of, with_resets
from seqc.passes.reads import Reader
from seqc.source import Source, Span

MODES = ("scan", "chunk", "newton", "loop")  # the most parallel first
NEWTON, LOOP = MODES[-2:]
ATTENTION = "attention"  # the mode of a recurrence with growing stores

MAX_WORK = 220_000  # expressions made or visited for all rules of a program
LEAST_WORK = 250  # what any rule costs
MAX_STATES = 128


class Unschedulable(SpecError):
    """No schedule, or none of the asked mode; `why` not is in the diagnostic."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__([diagnostic])


class _NoForm(Exception):
    """Why no parallel form applies, and the expression to blame."""

    def __init__(self, why: str, node: Expr) -> None:
        super().__init__(why)
        self.why, self.node = why, node


def modes_of(whole: Recurrence | Model) -> tuple[str, ...]:
    """The parallel forms that the rules of a program allow, each once."""
    owners = dict.fromkeys(instance.owner for instance in instances(whole))
    plans = (schedule(owner) for owner in owners if isinstance(owner, Recurrence))
    return tuple(dict.fromkeys(mode for plan in plans for mode in plan.modes))


def schedule(recurrence: Recurrence, mode: str | None = None, block: int | None = None) -> Plan:
    """The plan of a recurrence: the best one, or the one of a `mode` of `modes(recurrence)`.

    `block` is the number of tokens that a form in blocks takes at a time, by default what suits PyTorch.
    Raises `Unschedulable`, a `SpecError`, when its class does not allow the mode, or allows none.
    """
    try:
        with limited(MAX_WORK):
            spend(LEAST_WORK)
            return _schedule(recurrence, mode, block)
    except _NoForm as error:
        raise Unschedulable(
            NoParallelForm(_place(recurrence, error.node), recurrence.name, error.why)
        ) from None
    except OutOfWork as error:
        raise Unschedulable(RuleTooLarge(_place(recurrence), recurrence.name, error.limit)) from None


def _place(recurrence: Recurrence, node: Expr | None = None) -> Span:
    """Where an expression of a recurrence was written; without one, where its text begins."""
    origins = recurrence.origins
    if node is not None and node in origins:
        return origins[node]
    first = min(origins.values(), key=lambda span: span.start, default=None)
    return Source("", recurrence.name).span(0, 0) if first is None else first


def _schedule(recurrence: Recurrence, mode: str | None, block: int | None) -> Plan:
    if len(recurrence.states) > MAX_STATES:
        raise OutOfWork(MAX_WORK)
    classes, allowed = classify(recurrence), modes(recurrence)
    if mode is not None and mode not in allowed:
        reason = "; ".join(dict.fromkeys(c.reason for c in classes)) or "it has no state"
        raise Unschedulable(ModeNotAllowed(_place(recurrence), mode, allowed, reason))
    held = find_held(recurrence)
    if held is not None and mode in (None, "chunk"):
        stage, adjoint, outputs = held_stage(recurrence, held)
        return Plan(recurrence, "chunk", allowed, classes, (stage,), (adjoint,), outputs)
    split = problems(recurrence, together=mode == LOOP, block=block)
    picked = _pick(split, mode)
    pairs = [build() for _, build in picked]
    stages, adjoints = tuple(stage for stage, _ in pairs), tuple(adjoint for _, adjoint in pairs)
    name = ATTENTION if recurrence.stores else _mode(picked)
    return Plan(recurrence, name, allowed, classes, stages, adjoints, split.tail)


def modes(recurrence: Recurrence) -> tuple[str, ...]:
    """The modes that the classes of a recurrence allow, besides taking one step after another."""
    if recurrence.stores:
        return (ATTENTION,)
    if find_held(recurrence) is not None:
        return ("chunk", "loop")
    apart, together = problems(recurrence), problems(recurrence, together=True)
    return tuple(mode for mode in MODES if _mode(_pick(together if mode == LOOP else apart, mode)) == mode)


Form = tuple[str, Build]


def _pick(split: Problems, wanted: str | None) -> list[Form]:
    """A form for each group of states: the first that applies, or the first of a wanted mode if there is one."""
    picked: list[Form] = []
    for problem in split.problems:
        found = [(form.MODE, build) for form in FORMS if (build := form.find(problem)) is not None]
        picked.append(next((pair for pair in found if pair[0] == wanted), found[0]))
    return picked


def _mode(picked: Sequence[Form]) -> str:
    """The mode of the whole: that of its most sequential group."""
    used = {mode for mode, _ in picked}
    return next((mode for mode in reversed(MODES) if mode in used), MODES[0])


@dataclass(frozen=True, slots=True)
class Problems:
    """The groups of states of a recurrence in the order in which they are solved.

    Each is over the answers to the groups before it, and so is the `tail`: the outputs, then the values of stores.
    """

    problems: Sequence[Problem]
    tail: tuple[Expr, ...]


def problems(
    recurrence: Recurrence, together: bool = False, block: int | None = None, resets: bool = True
) -> Problems:
    """What the parallel forms are asked for; `together` makes one group of all states.

    Without `resets`, none of the tokens begins a new sequence.
    """
    ready = with_resets(recurrence) if resets else recurrence
    updates = dict(ready.updates_by_name)
    tail = (*ready.outputs, *(store.value for store in ready.stores))
    left = merge_coupled(components(ready.states, updates), updates)
    if together and left:
        left = [[state for group in left for state in group]]
    found: list[Problem] = []
    while left:
        group, reader, exprs = _next(left, updates, tail)
        left.remove(group)
        later = [state for g in left for state in g]
        own = inlined(group, updates)
        updates.update(zip((s.name for s in later), exprs, strict=False))
        tail = exprs[len(later) :]
        if any(leaf.kind in (LeafKind.STORE, LeafKind.STORED) for leaf in leaves(own)):
            raise _NoForm("a state depends on the entries of a growing store", own[0])
        found.append(Problem(reader.prefix, group, own, reader.reads, recurrence.sizes, block))
    return Problems(found, tail)


def _next(
    left: Sequence[list[State]], updates: Mapping[str, Expr], tail: Sequence[Expr]
) -> tuple[list[State], Reader, tuple[Expr, ...]]:
    """A group that no unsolved one comes before, if possible one whose queries need no unsolved one either."""
    candidates: list[tuple[list[State], Reader, tuple[Expr, ...]]] = []
    for group in left:
        others = [state for g in left if g is not group for state in g]
        if any(reads_of(updates[state.name], others) for state in group):
            continue
        reader = Reader(group, "_".join(state.name for state in group), others)
        candidates.append((group, reader, reader.replace([*(updates[s.name] for s in others), *tail])))
        if not reader.blocked:
            break
    return next((c for c in candidates if not c[1].blocked), candidates[0])
