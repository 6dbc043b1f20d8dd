"""Expressions, recurrences and programs to JSON and back.

What is read back is equal: an expression comes back as the very same object, since nodes are interned; a
recurrence or a function comes back with equal fields.  The form is that of `seqc.ir.forms`, and carries its
version.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from seqc.ir.expr import Expr, Invoke, Leaf
from seqc.ir.forms import (
    FORMS,
    AnyNode,
    ExpressionsForm,
    FunctionForm,
    ModelForm,
    NodeForm,
    OriginForm,
    ParameterForm,
    ProgramForm,
    RecurrenceForm,
    RepeatForm,
    SourceForm,
    StateForm,
    StoreForm,
)
from seqc.ir.ops import OPS
from seqc.ir.program import Function, Model, Repeat
from seqc.ir.recurrence import Parameter, Recurrence, State, Store
from seqc.ir.traverse import walk
from seqc.source import Source, Span

Callable = Recurrence | Function | Repeat

T = TypeVar("T")
F = TypeVar("F", ExpressionsForm, ProgramForm)


class InvalidForm(ValueError):
    """The text is not the JSON form of an expression or a program, or of another version."""


# --- Writing ------------------------------------------------------------------------------------------------


def expressions_to_json(roots: Iterable[Expr]) -> str:
    """Expressions without calls."""
    roots = tuple(roots)
    table = _Nodes(roots, {})
    form = ExpressionsForm(nodes=table.forms, roots=tuple(table.at[root] for root in roots))
    return form.model_dump_json(exclude_defaults=False)


def to_json(whole: Recurrence | Function | Model) -> str:
    """A recurrence, a function or a model, with all that it calls and the texts it comes from."""
    root = whole.body if isinstance(whole, Model) else whole
    callables = _callables(root)
    position = {callee: i for i, callee in enumerate(callables)}
    sources: dict[Source, int] = {}
    forms = tuple(_callable_form(callee, position, sources) for callee in callables)
    model = None
    if isinstance(whole, Model):
        settings = dict(whole.settings)
        model = ModelForm(
            name=whole.name, kind=whole.kind, settings=settings, reads_future=whole.reads_future
        )
    texts = tuple(SourceForm(name=s.name, text=s.text, library=s.library) for s in sources)
    return ProgramForm(model=model, sources=texts, callables=forms).model_dump_json()


class _Nodes:
    """The nodes below some roots as a list, and where each one stands in it."""

    def __init__(self, roots: Iterable[Expr], callables: dict[Callable, int]) -> None:
        self.at: dict[Expr, int] = {}
        self._callables = callables
        self.forms: tuple[AnyNode, ...] = tuple(self._form(node) for node in walk(roots))

    def _form(self, node: Expr) -> Any:
        self.at[node] = len(self.at)
        form = FORMS[type(node)]
        values: dict[str, Any] = {}
        for name in form.model_fields:
            if name == "node":
                continue
            value = getattr(node, name)
            if isinstance(node, Invoke) and name == "callee":
                values[name] = self._callables[value]
            else:
                values[name] = self._positions(value) if name in form.refs else value
        return form(**values)

    def _positions(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(self._positions(part) for part in value)
        return self.at[value] if isinstance(value, Expr) else value


def _callables(root: Recurrence | Function) -> list[Callable]:
    """Everything that `root` calls, callees first, and `root` at the end."""
    done: dict[Callable, None] = {}
    stack: list[tuple[Callable, bool]] = [(root, False)]
    while stack:
        callee, ready = stack.pop()
        if callee in done:
            continue
        if ready:
            done[callee] = None
            continue
        stack.append((callee, True))
        stack.extend((below, False) for below in reversed(_called(callee)) if below not in done)
    return list(done)


def _called(callee: Callable) -> list[Callable]:
    match callee:
        case Recurrence():
            return []
        case Repeat():
            return list(callee.bodies)
        case Function():
            roots = [*callee.outputs, *(value for _, value in callee.bindings)]
            return [node.callee for node in walk(roots) if isinstance(node, Invoke)]


def _callable_form(
    callee: Callable, position: dict[Callable, int], sources: dict[Source, int]
) -> RecurrenceForm | FunctionForm | RepeatForm:
    if isinstance(callee, Repeat):
        return RepeatForm(bodies=tuple(position[body] for body in callee.bodies), shared=callee.shared)
    table = _Nodes(_roots(callee), position)
    at = table.at
    names = callee.names if isinstance(callee, Recurrence) else callee.bindings
    common: dict[str, Any] = {
        "name": callee.name,
        "nodes": table.forms,
        "inputs": tuple(at[leaf] for leaf in callee.inputs),
        "parameters": tuple(
            ParameterForm(name=p.name, axes=p.axes, initial=at[p.initial], decays=p.decays)
            for p in callee.parameters
        ),
        "names": tuple((name, at[value]) for name, value in names),
        "outputs": tuple(at[out] for out in callee.outputs),
        "returns": callee.returns,
        "sizes": dict(callee.sizes),
        "origins": tuple(
            OriginForm(
                node=at[node],
                source=sources.setdefault(span.source, len(sources)),
                start=span.start,
                end=span.end,
            )
            for node, span in callee.origins.items()
            if node in at
        ),
    }
    if isinstance(callee, Function):
        return FunctionForm(**common)
    states = tuple(
        StateForm(name=s.name, axes=s.axes, initial=at[s.initial], dtype=s.dtype) for s in callee.states
    )
    stores = tuple(
        StoreForm(name=s.name, axis=s.axis, axes=s.axes, value=at[s.value], window=s.window, sinks=s.sinks)
        for s in callee.stores
    )
    updates = tuple(at[update] for update in callee.updates)
    return RecurrenceForm(**common, states=states, stores=stores, updates=updates, mapped=callee.mapped)


def _roots(owner: Recurrence | Function) -> list[Expr]:
    """Every expression that an owner holds."""
    roots: list[Expr] = [*owner.inputs, *(parameter.initial for parameter in owner.parameters)]
    if isinstance(owner, Recurrence):
        roots += [value for _, value in owner.names]
        roots += [state.initial for state in owner.states]
        roots += [store.value for store in owner.stores]
        roots += owner.updates
    else:
        roots += [value for _, value in owner.bindings]
    return [*roots, *owner.outputs]


# --- Reading ------------------------------------------------------------------------------------------------


def expressions_from_json(text: str | bytes) -> tuple[Expr, ...]:
    """What `expressions_to_json` wrote, as the same objects."""
    form = _validate(ExpressionsForm, text)
    nodes = _read_nodes(form.nodes, [])
    return tuple(_get(nodes, root) for root in form.roots)


def from_json(text: str | bytes) -> Recurrence | Function | Model:
    """What `to_json` wrote."""
    form = _validate(ProgramForm, text)
    sources = [Source(source.text, source.name, library=source.library) for source in form.sources]
    callables: list[Callable] = []
    for each in form.callables:
        if isinstance(each, RepeatForm):
            bodies = tuple(_get(callables, body) for body in each.bodies)
            if not bodies or not all(isinstance(body, Function) for body in bodies):
                raise InvalidForm("a repeat has no body, or one that is no function")
            callables.append(Repeat(bodies, each.shared))  # type: ignore[arg-type]  # checked above
        else:
            callables.append(_read_owner(each, callables, sources))
    root = callables[-1] if callables else None
    if root is None or isinstance(root, Repeat):
        raise InvalidForm("a program ends with a recurrence or a function")
    if form.model is None:
        return root
    if not isinstance(root, Function):
        raise InvalidForm("the body of a model is a function")
    m = form.model
    return Model(m.name, m.kind, root, dict(m.settings), m.reads_future)


def _validate(form: type[F], text: str | bytes) -> F:
    try:
        return form.model_validate_json(text)
    except ValidationError as error:
        raise InvalidForm(str(error)) from None


def _get(items: Sequence[T], position: int) -> T:
    if position >= len(items):
        raise InvalidForm(f"position {position} is referred to before it is defined")
    return items[position]


def _read_nodes(forms: Iterable[NodeForm], callables: Sequence[Callable]) -> list[Expr]:
    nodes: list[Expr] = []
    for form in forms:
        values = {name: getattr(form, name) for name in type(form).model_fields if name != "node"}
        for name in form.refs:
            values[name] = _read_refs(values[name], nodes)
        if form.type is Invoke:
            values["callee"] = _get(callables, values["callee"])
        if values.get("op") not in OPS and form.type.__name__ == "Apply":
            raise InvalidForm(f"there is no operation {values['op']!r}")
        try:
            nodes.append(form.type(**values))
        except (AssertionError, IndexError, ValueError, TypeError, AttributeError) as error:
            raise InvalidForm(f"node {len(nodes)} does not hold together: {error}") from None
    return nodes


def _read_refs(value: Any, nodes: Sequence[Expr]) -> Any:
    if isinstance(value, tuple):
        return tuple(_read_refs(part, nodes) for part in value)
    return _get(nodes, value) if isinstance(value, int) else value


def _read_owner(
    form: RecurrenceForm | FunctionForm, callables: Sequence[Callable], sources: Sequence[Source]
) -> Recurrence | Function:
    nodes = _read_nodes(form.nodes, callables)

    def at(position: int) -> Expr:
        return _get(nodes, position)

    inputs = tuple(leaf for leaf in map(at, form.inputs) if isinstance(leaf, Leaf))
    parameters = tuple(Parameter(p.name, p.axes, at(p.initial), p.decays) for p in form.parameters)
    names = tuple((name, at(value)) for name, value in form.names)
    outputs = tuple(map(at, form.outputs))
    origins = {at(o.node): Span(_get(sources, o.source), o.start, o.end) for o in form.origins}
    sizes = dict(form.sizes)
    if isinstance(form, FunctionForm):
        return Function(form.name, inputs, parameters, names, outputs, form.returns, sizes, origins)
    return Recurrence(
        form.name,
        inputs,
        parameters,
        tuple(State(s.name, s.axes, at(s.initial), s.dtype) for s in form.states),
        tuple(Store(s.name, s.axis, s.axes, at(s.value), s.window, s.sinks) for s in form.stores),
        tuple(map(at, form.updates)),
        outputs,
        form.returns,
        sizes,
        names,
        origins,
        form.mapped,
    )
