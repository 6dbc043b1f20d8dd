"""A program that has been read and checked, from which recurrences, functions and models are made."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from seqc.check.context import Budget, Context, Failed, Number
from seqc.check.files import Module, read_program
from seqc.check.limits import MAX_FRAMES
from seqc.check.session import Definition, Given, Session, Signature, fix_settings
from seqc.check.uses import is_tokens, made_up
from seqc.diagnostics import Bag, Diagnostic, SpecError
from seqc.diagnostics.files import NoSuchItem
from seqc.diagnostics.settings import MissingSetting, UnknownSetting
from seqc.ir.expr import Axes, DType, Flip, Invoke, Pool
from seqc.ir.program import Function, Model, Repeat
from seqc.ir.recurrence import Recurrence
from seqc.ir.traverse import walk
from seqc.passes.mapping import map_recurrence
from seqc.source import Source
from seqc.syntax import tree


@dataclass(slots=True)
class Checked:
    """The items of a program; the methods raise `SpecError` with everything that is wrong."""

    source: Source
    module: Module
    models_by_use: dict[object, Model] = field(default_factory=dict[object, Model])

    def _names(self, kind: type[tree.Rule] | type[tree.Block] | type[tree.Model]) -> tuple[str, ...]:
        return tuple(d.name for d in self.module.own if isinstance(d.node, kind))

    @property
    def rules(self) -> tuple[str, ...]:
        return self._names(tree.Rule)

    @property
    def blocks(self) -> tuple[str, ...]:
        return self._names(tree.Block)

    @property
    def models(self) -> tuple[str, ...]:
        return self._names(tree.Model)

    def definition(
        self, kind: type[tree.Rule] | type[tree.Block] | type[tree.Model], name: str | None
    ) -> Definition:
        """The item of that name, or the only one of its kind; rules and blocks of the library are found by name."""
        if name is None:
            own = self._names(kind)
            name = own[0] if len(own) == 1 else None
        found = None if name is None else self.module.lookup(name)
        if found is None or not isinstance(found.node, kind):
            own = self._names(kind)
            word = kind.__name__.lower()
            self._raise(Bag([NoSuchItem(self.source.span(0, 0), word, name or "", own)]))
        return found

    def _raise(self, bag: Bag) -> NoReturn:
        raise SpecError(bag.diagnostics)

    # --- rules ---

    def elaborate_rule(
        self,
        name: str | None = None,
        sizes: Mapping[str, float] | None = None,
        axes: Mapping[str, Axes] | None = None,
    ) -> Recurrence:
        """A rule as a recurrence.

        `sizes` are the lengths of its axes and its settings.  `axes` gives, for inputs that have more axes than
        the rule declares, all their axes; the lengths of the further ones may stay open.
        """
        definition = self.definition(tree.Rule, name)
        bag = Bag()
        extra = self._extra(definition, axes or {})
        outer = tuple(dict.fromkeys(axis for names in extra.values() for axis in names))
        known = self._numbers(bag, definition, sizes or {}, outer)
        declared = [axis for names in definition.declared.values() for axis in names]
        lengths = {axis: self._length(bag, definition, axis, known[axis]) for axis in declared}
        own = {axis: size for axis, size in known.items() if axis not in outer}
        inputs = tuple((names, DType.REAL) for names in definition.declared.values())
        use = Signature(tuple(own.items()), tuple(lengths.items()), inputs, outer)
        try:
            with deep_stack():
                rec = Session(bag).rule(definition, use, definition.node.name.span)
        except Failed:
            self._raise(bag)
        return map_recurrence(rec, extra, {axis: int(known[axis]) for axis in outer if axis in known})

    def _extra(self, definition: Definition, axes: Mapping[str, Axes]) -> dict[str, Axes]:
        extra: dict[str, Axes] = {}
        for name, written in axes.items():
            if name not in definition.declared:
                known = tuple(definition.declared)
                self._raise(Bag([UnknownSetting(definition.node.name.span, name, definition.title, known)]))
            extra[name] = tuple(axis for axis in written if axis not in definition.declared[name])
        return extra

    def _numbers(
        self, bag: Bag, definition: Definition, given: Mapping[str, float], outer: Axes = ()
    ) -> dict[str, Number]:
        """Settings from outside, with unknown ones refused."""
        span = definition.node.name.span
        settings = [setting.name.text for setting in definition.node.settings]
        declared = [axis for names in definition.declared.values() for axis in names]
        known = tuple(dict.fromkeys((*declared, *settings, *outer)))
        for name in given:
            if name not in known:
                bag.add(UnknownSetting(span, str(name), definition.title, known))
        defaults = [setting.name.text for setting in definition.node.settings if setting.default is not None]
        wanted = dict.fromkeys((*declared, *settings))
        if missing := tuple(name for name in wanted if name not in given and name not in defaults):
            bag.add(MissingSetting(span, missing, definition.title, outside=True))
        bag.raise_errors()
        numbers = {name: number(value) for name, value in given.items()}
        lengths = {
            name: self._length(bag, definition, name, numbers[name]) for name in declared if name in numbers
        }
        try:
            found, _ = fix_settings(bag, definition, Given(numbers, lengths), span)
        except Failed:
            self._raise(bag)
        return {**found, **{axis: numbers[axis] for axis in outer if axis in numbers}}

    def _length(self, bag: Bag, definition: Definition, axis: str, value: Number) -> int:
        context = Context(bag, Budget(), {}, {}, defaults=_defaults(definition))
        try:
            return context.as_size(value, definition.node.name.span, axis)
        except Failed:
            self._raise(bag)

    # --- blocks and models ---

    def elaborate_block(
        self,
        name: str | None = None,
        sizes: Mapping[str, float] | None = None,
        axes: Mapping[str, Axes] | None = None,
    ) -> Function:
        """A block as a function on sequences; `sizes` and `axes` as for a rule."""
        return self._function(self.definition(tree.Block, name), sizes or {}, axes or {})[0]

    def elaborate_model(self, name: str | None = None, settings: Mapping[str, float] | None = None) -> Model:
        """A model; settings that are not given take their defaults."""
        definition = self.definition(tree.Model, name)
        key = (definition, tuple(sorted((settings or {}).items())))
        if key not in self.models_by_use:
            body, known = self._function(definition, settings or {}, {})
            self.models_by_use[key] = self.as_model(body, known)
        return self.models_by_use[key]

    def as_model(self, body: Function, settings: Mapping[str, float]) -> Model:
        """A function as a model of its own."""
        kind: Literal["tokens", "series"] = "series"
        if any(leaf.dtype is DType.INT for leaf in body.inputs):
            kind = "tokens"
        return Model(body.name, kind, body, settings, reads_future(body))

    def default_sizes(self, name: str) -> dict[str, float]:
        """Lengths for the axes of a rule that have none, for showing it: 64 each."""
        definition = self.definition(tree.Rule, name)
        settings = {setting.name.text: setting.default for setting in definition.node.settings}
        axes = [axis for names in definition.declared.values() for axis in names]
        wanted = [*axes, *(name for name, default in settings.items() if default is None)]
        return {name: 64 for name in wanted if settings.get(name) is None}

    def _function(
        self, definition: Definition, sizes: Mapping[str, float], axes: Mapping[str, Axes]
    ) -> tuple[Function, dict[str, Number]]:
        bag = Bag()
        extra = self._extra(definition, axes)
        outer = tuple(dict.fromkeys(axis for names in extra.values() for axis in names))
        known = self._numbers(bag, definition, sizes, outer)
        lengths = {
            axis: self._length(bag, definition, axis, known[axis])
            for axis in dict.fromkeys((*(a for names in definition.declared.values() for a in names), *outer))
            if axis in known
        }
        inputs: list[tuple[Axes, DType]] = []
        for value, names in definition.declared.items():
            dtype = DType.INT if is_tokens(definition.node, value) else DType.REAL
            inputs.append(((*extra.get(value, ()), *names), dtype))
        settings = {name: value for name, value in known.items() if name not in outer}
        use = Signature(tuple(settings.items()), tuple(lengths.items()), tuple(inputs), outer)
        try:
            with deep_stack():
                return Session(bag).function(definition, use, definition.node.name.span), settings
        except Failed:
            self._raise(bag)

    # --- checking ---

    def check(self, bag: Bag) -> None:
        """Everything that can be said without settings: every rule and block alone, and every model by its defaults."""
        session = Session(bag)
        for definition in self.module.items.values():
            node = definition.node
            try:
                use = self._defaults_of(definition, bag) if isinstance(node, tree.Model) else None
                use = use or made_up(definition, bag)
                if isinstance(node, tree.Rule):
                    session.rule(definition, use, node.name.span)
                else:
                    session.function(definition, use, node.name.span)
            except Failed:
                continue

    def _defaults_of(self, definition: Definition, bag: Bag) -> Signature | None:
        """How a model is used when all settings have their defaults; None if there is something to make up."""
        try:
            known, _ = fix_settings(Bag(), definition, Given({}, {}), definition.node.name.span)
        except Failed:
            return None
        declared = dict.fromkeys(axis for names in definition.declared.values() for axis in names)
        if any(axis not in known for axis in declared):
            return None
        inputs = tuple(
            (names, DType.INT if is_tokens(definition.node, value) else DType.REAL)
            for value, names in definition.declared.items()
        )
        context = Context(bag, Budget(), {}, {}, defaults=_defaults(definition))
        span = definition.node.name.span
        lengths = tuple((axis, context.as_size(known[axis], span, axis)) for axis in declared)
        return Signature(tuple(known.items()), lengths, inputs)


@contextmanager
def deep_stack() -> Generator[None, None, None]:
    """Room for calls inside calls; Python's own limit counts frames, which are on the heap, not on the C stack."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, MAX_FRAMES))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _defaults(definition: Definition) -> dict[str, tree.Expr]:
    return {s.name.text: s.default for s in definition.node.settings if s.default is not None}


def number(value: float) -> Number:
    """A setting from outside: whole numbers stay whole, so that they can be sizes."""
    if isinstance(value, bool | int):
        return int(value)
    return int(value) if value.is_integer() else value


def reads_future(body: Function) -> bool:
    """Whether some operation looks at tokens to come."""
    seen: set[Function] = set()
    pending = [body]
    while pending:
        function = pending.pop()
        if function in seen:
            continue
        seen.add(function)
        for node in walk(function.outputs):
            if isinstance(node, Flip) or (isinstance(node, Pool) and node.op == "mean"):
                return True
            if isinstance(node, Invoke):
                pending.extend(_bodies(node))
    return False


def _bodies(call: Invoke) -> list[Function]:
    callee = call.callee
    if isinstance(callee, Repeat):
        return list(dict.fromkeys(callee.bodies))
    return [callee] if isinstance(callee, Function) else []


def check_source(source: Source) -> tuple[Checked, list[Diagnostic]]:
    """Read a text and what it uses, and check everything in it."""
    bag = Bag()
    module = read_program(source, bag)
    checked = Checked(source, module)
    if not bag.has_errors:
        with deep_stack():
            checked.check(bag)
    return checked, list(bag.diagnostics)
