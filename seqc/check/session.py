"""One run of the checker: definitions, what has been worked out already, and headers with their settings fixed.

Everything is worked out once for each way in which it is used: two layers that are the same block with the same
settings and axes share one `Function`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from seqc.check.context import Budget, Context, Failed, Number
from seqc.check.limits import MADE_UP, MAX_CALLS
from seqc.check.numbers import Arithmetic
from seqc.diagnostics import Bag
from seqc.diagnostics.blocks import Recursive
from seqc.diagnostics.names import NameTaken
from seqc.diagnostics.settings import MissingSetting, NoNumber, SizesDiffer, TooLarge
from seqc.ir.expr import Axes, DType, Leaf, LeafKind
from seqc.ir.program import Function
from seqc.ir.recurrence import Recurrence
from seqc.passes.mapping import map_recurrence
from seqc.source import Span
from seqc.syntax import tree

Item = tree.Rule | tree.Block | tree.Model


class Namespace(Protocol):
    """Where the calls of an item find what they call."""

    def lookup(self, name: str) -> Definition | None: ...

    def callables(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, eq=False, slots=True)
class Definition:
    """An item, and the names that it sees."""

    node: Item
    home: Namespace

    @property
    def name(self) -> str:
        return self.node.name.text

    @property
    def title(self) -> str:
        kind = {tree.Rule: "rule", tree.Block: "block", tree.Model: "model"}[type(self.node)]
        return f"the {kind} `{self.name}`"

    @property
    def declared(self) -> dict[str, Axes]:
        """The declared axes of every value in the header."""
        return {value.name.text: tuple(axis.text for axis in value.axes) for value in self.node.values}


@dataclass(frozen=True, slots=True)
class Signature:
    """How an item is used: its settings, the lengths of its axes, and what each value looks like."""

    settings: tuple[tuple[str, Number], ...]
    sizes: tuple[tuple[str, int], ...]
    inputs: tuple[tuple[Axes, DType], ...]
    mapped: Axes = ()
    made_up: tuple[str, ...] = ()


@dataclass(slots=True)
class Session:
    bag: Bag
    budget: Budget = field(default_factory=Budget)
    rules: dict[object, Recurrence | None] = field(default_factory=dict[object, "Recurrence | None"])
    functions: dict[object, Function | None] = field(default_factory=dict[object, "Function | None"])
    mapped: dict[object, Recurrence] = field(default_factory=dict[object, Recurrence])
    stack: list[tuple[Definition, Span]] = field(default_factory=list[tuple[Definition, Span]])

    # --- items ---

    def rule(self, definition: Definition, use: Signature, span: Span) -> Recurrence:
        """A rule with its declared axes only; the mapped ones may be named by `per`."""
        from seqc.check.calls import inline_call
        from seqc.check.rule import RuleElaborator

        node = definition.node
        assert isinstance(node, tree.Rule)
        key = (definition, use)
        self._refuse_recursion(definition, span)
        if key not in self.rules:
            self.rules[key] = None
            self._enter(definition, span)
            context, bag = self._context(definition, use)

            def inline(elaborator: RuleElaborator, call: tree.Call, expected: Axes | None) -> object:
                return inline_call(elaborator, self, definition.home, call, expected)

            elaborator = RuleElaborator(context, inline, definition.home, use.mapped)  # type: ignore[arg-type]
            try:
                self.rules[key] = elaborator.run(node, self.inputs(definition, use))
            finally:
                self._leave(bag)
        found = self.rules[key]
        if found is None:
            raise Failed
        return found

    def function(self, definition: Definition, use: Signature, span: Span) -> Function:
        """A block or the body of a model."""
        from seqc.check.block import BlockElaborator

        node = definition.node
        assert not isinstance(node, tree.Rule)
        key = (definition, use)
        self._refuse_recursion(definition, span)
        if key not in self.functions:
            self.functions[key] = None
            self._enter(definition, span)
            context, bag = self._context(definition, use)
            elaborator = BlockElaborator(context, self, definition.home)
            try:
                self.functions[key] = elaborator.run(node, self.inputs(definition, use))
            finally:
                self._leave(bag)
        found = self.functions[key]
        if found is None:
            raise Failed
        return found

    def map(self, rec: Recurrence, extra: Mapping[str, Axes], sizes: Mapping[str, int]) -> Recurrence:
        used = tuple(dict.fromkeys(axis for axes in extra.values() for axis in axes))
        key = (rec, tuple(extra.items()), tuple((axis, sizes.get(axis)) for axis in used))
        if key not in self.mapped:
            self.mapped[key] = map_recurrence(rec, extra, sizes)
        return self.mapped[key]

    # --- what all items need ---

    def inputs(self, definition: Definition, use: Signature) -> dict[str, Leaf]:
        return {
            value.name.text: Leaf(LeafKind.INPUT, value.name.text, axes, dtype)
            for value, (axes, dtype) in zip(definition.node.values, use.inputs, strict=True)
        }

    def _context(self, definition: Definition, use: Signature) -> tuple[Context, Bag]:
        bag = Bag()
        node = definition.node
        context = Context(
            bag=bag,
            budget=self.budget,
            settings=dict(use.settings),
            sizes=dict(use.sizes),
            mapped=use.mapped if not isinstance(node, tree.Rule) else (),
            owner=definition.title,
            made_up=set(use.made_up),
            defaults={s.name.text: s.default for s in node.settings if s.default is not None},
        )
        return context, bag

    def _refuse_recursion(self, definition: Definition, span: Span) -> None:
        open_calls = [other for other, _ in self.stack]
        if definition in open_calls:
            chain = tuple(other.name for other in open_calls[open_calls.index(definition) :])
            self.bag.add(Recursive(span, chain))
            raise Failed

    def _enter(self, definition: Definition, span: Span) -> None:
        if len(self.stack) >= MAX_CALLS:
            depth = str(len(self.stack))
            self.bag.add(TooLarge(span, "the number of blocks that call one another", depth, MAX_CALLS))
            raise Failed
        self.stack.append((definition, span))

    def _leave(self, bag: Bag) -> None:
        """Keep what was found; a fault in the library also shows the call of it in the program."""
        call = next((span for _, span in reversed(self.stack) if not span.source.library), None)
        self.stack.pop()
        for diagnostic in bag:
            inside = diagnostic.span.source.library and call is not None
            self.bag.add(replace(diagnostic, call=call) if inside else diagnostic)


@dataclass(frozen=True, slots=True)
class Given:
    """The numbers that an item gets from outside: its settings, and the lengths that the arguments bring.

    `made_up` are those among them that stand for numbers nobody has given yet.
    """

    settings: Mapping[str, Number]
    axes: Mapping[str, int]
    made_up: frozenset[str] = frozenset()


def fix_settings(
    bag: Bag, definition: Definition, given: Given, span: Span
) -> tuple[dict[str, Number], tuple[str, ...]]:
    """All numbers that an item sees, in order, and which of them follow from made-up ones."""
    known: dict[str, Number] = dict(given.axes)
    unsure = set(given.made_up)
    for setting in definition.node.settings:
        name, default = setting.name.text, setting.default
        if name in given.settings:
            known[name] = given.settings[name]
            if name in given.axes and given.axes[name] != known[name] and name not in unsure:
                bag.add(SizesDiffer(span, name, given.axes[name], name, int(known[name])))
                raise Failed
        elif name in given.axes:
            continue
        elif default is None:
            bag.add(MissingSetting(span, (name,), definition.title))
            raise Failed
        elif mentions(default, unsure):
            unsure.add(name)
            known[name] = _guess(default, known, bag)
        else:
            known[name] = Arithmetic(bag, known)(default)
    return known, tuple(sorted(unsure))


def mentions(node: tree.Expr, names: Container[str]) -> bool:
    return any(isinstance(n, tree.Name) and n.name in names for n in tree.walk(node))


def _guess(node: tree.Expr, known: Mapping[str, Number], bag: Bag) -> Number:
    """A number that follows from made-up ones: where it has no value, that is nobody's fault."""
    scratch = Bag()
    try:
        return Arithmetic(scratch, known)(node)
    except Failed:
        bag.extend(d for d in scratch if not isinstance(d, NoNumber))
        if any(not isinstance(d, NoNumber) for d in scratch):
            raise
        return MADE_UP


def check_header(bag: Bag, node: Item) -> None:
    """Names in a header: values are one kind, axes and settings another."""
    for names in ([value.name for value in node.values], [setting.name for setting in node.settings]):
        seen: dict[str, Span] = {}
        for name in names:
            if name.text in seen:
                bag.add(NameTaken(name.span, name.text, seen[name.text]))
            seen.setdefault(name.text, name.span)
    for value in node.values:
        axes: dict[str, Span] = {}
        for axis in value.axes:
            if axis.text in axes:
                bag.add(NameTaken(axis.span, axis.text, axes[axis.text]))
            axes.setdefault(axis.text, axis.span)
