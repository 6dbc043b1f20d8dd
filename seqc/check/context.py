"""What is in scope while a rule or a block is worked out, and what has been found so far."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from seqc.check.limits import CHARACTERS, MADE_UP, MAX_AXIS, MAX_ELEMENTS, MAX_WORK
from seqc.diagnostics import Bag, Diagnostic
from seqc.diagnostics.axes import UnknownAxis
from seqc.diagnostics.names import NameTaken
from seqc.diagnostics.rules import WrongKind
from seqc.diagnostics.settings import NotAWholeSize, TooLarge, TooMuchWork
from seqc.ir.expr import Axes, Expr
from seqc.ir.recurrence import Parameter
from seqc.source import Span
from seqc.syntax import tree


class Failed(Exception):
    """The fault has been reported; what it is a part of cannot be worked out."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The value of a name whose definition failed: using it is not a second fault."""


@dataclass(slots=True)
class Budget:
    """How much work one run may still do, shared by everything that it elaborates."""

    left: int = MAX_WORK

    def read(self, bag: Bag, span: Span) -> None:
        """Looking through a stretch of text, which may have parts that nothing else counts."""
        self.spend(bag, span, 1 + (span.end - span.start) // CHARACTERS)

    def spend(self, bag: Bag, span: Span, amount: int = 1) -> None:
        if self.left >= 0 > self.left - amount:
            bag.add(TooMuchWork(span, MAX_WORK))
        self.left -= amount
        if self.left < 0:
            raise Failed


Number = int | float


@dataclass(slots=True)
class Context:
    """The names of one rule or block.

    `settings` holds all numbers, the lengths of axes among them; `sizes` those that have been used as axes.  `mapped`
    are axes beyond the declared ones: reductions and linear maps leave them alone.  `growing` are the axes of stores.
    `made_up` are the numbers and axes whose values nobody has given yet: nothing is said about their sizes.
    """

    bag: Bag
    budget: Budget
    settings: dict[str, Number]
    sizes: dict[str, int]
    mapped: Axes = ()
    owner: str = "this text"
    made_up: set[str] = field(default_factory=set[str])
    growing: dict[str, Span] = field(default_factory=dict[str, Span])
    values: dict[str, object] = field(default_factory=dict[str, object])
    places: dict[str, Span] = field(default_factory=dict[str, Span])
    parameters: dict[str, Parameter] = field(default_factory=dict[str, Parameter])
    origins: dict[Expr, Span] = field(default_factory=dict[Expr, Span])
    defaults: dict[str, tree.Expr] = field(default_factory=dict[str, tree.Expr])
    instances: set[str] = field(default_factory=set[str])
    prefixes: set[str] = field(default_factory=set[str])  # the bindings that instances begin with

    def fail(self, diagnostic: Diagnostic) -> NoReturn:
        self.bag.add(diagnostic)
        raise Failed

    # --- values ---

    def define(self, name: tree.Ident, value: object) -> None:
        if name.text in self.places:
            self.bag.add(NameTaken(name.span, name.text, self.places[name.text]))
            return
        self.places[name.text] = name.span
        self.values[name.text] = value

    # --- axes ---

    def axis(self, name: tree.Ident) -> str:
        """The axis of that name, which is now in use."""
        text = name.text
        if text in self.sizes or text in self.growing or text in self.mapped:
            return text
        if text not in self.settings:
            self.fail(UnknownAxis(name.span, text, self.known_axes()))
        self.sizes[text] = self.as_size(self.settings[text], name.span, text, text in self.made_up)
        return text

    def axes(self, names: Iterable[tree.Ident]) -> Axes:
        found = [(self.axis(name), name) for name in names]
        for position, (axis, name) in enumerate(found):
            if any(axis == other for other, _ in found[:position]):
                self.fail(NameTaken(name.span, axis, next(n.span for a, n in found if a == axis)))
        return tuple(axis for axis, _ in found)

    def fixed_axes(self, names: Iterable[tree.Ident]) -> Axes:
        """Like `axes`, for what has a length: no axis of a store."""
        names = tuple(names)
        for name in names:
            if name.text in self.growing:
                self.fail(WrongKind(name.span, "an axis of fixed length", "the axis of a store"))
        return self.axes(names)

    def known_axes(self) -> tuple[str, ...]:
        whole = (name for name, value in self.settings.items() if float(value).is_integer())
        return tuple(dict.fromkeys((*self.sizes, *self.growing, *whole)))

    def as_size(self, value: Number, span: Span, name: str = "", made_up: bool = False) -> int:
        """A number as the length of an axis or as a count."""
        if made_up:
            return MADE_UP if not 1 <= value <= MAX_AXIS else -int(-value // 1)
        if value > MAX_AXIS:
            self.fail(TooLarge(span, f"this size{f' (`{name}`)' if name else ''}", f"{value:,}", MAX_AXIS))
        if float(value).is_integer() and value >= 1:
            return int(value)
        formula = self.defaults.get(name)
        because = ""
        if (
            isinstance(formula, tree.Binary)
            and formula.op == "/"
            and value > 0
            and self._follows(formula, value)
        ):
            span = formula.span
            because = f"`{formula.right.span.text}` does not divide `{formula.left.span.text}`"
        self.fail(NotAWholeSize(span, name or span.text, f"{value:g}", because))

    def _follows(self, formula: tree.Expr, value: Number) -> bool:
        """Whether a setting has its default value, rather than one that was passed."""
        from seqc.check.numbers import Arithmetic

        try:
            return Arithmetic(Bag(), self.settings)(formula) == value
        except Failed:
            return False

    def unsure(self, *nodes: tree.Expr) -> bool:
        """Whether an expression mentions a number that nobody has given yet."""
        names = self.made_up
        return bool(names) and any(
            isinstance(n, tree.Name) and n.name in names for node in nodes for n in tree.walk(node)
        )

    def fresh_axis(self, name: str, size: int, made_up: bool = False) -> str:
        """An axis that the text cannot name."""
        candidate, count = name, 0
        while candidate in self.sizes or candidate in self.settings or candidate in self.growing:
            count += 1
            candidate = f"{name}_{count}"
        self.sizes[candidate] = size
        if made_up:
            self.made_up.add(candidate)
        return candidate

    # --- parameters and instances ---

    def instance(self, name: str) -> str:
        """A path for an operation that no other of this body has, nor begins with: `u.linear`, `u.linear_1`, …"""
        binding, dot, word = name.rpartition(".")
        taken = self.instances
        if dot:
            binding = _unused(binding, taken)
        found = _unused(f"{binding}{dot}{word}", taken, self.prefixes)
        taken.add(found)
        self.prefixes.add(binding)
        return found

    def parameter(self, parameter: Parameter, span: Span) -> Expr:
        elements = 1
        for axis in parameter.axes:
            elements *= self.sizes.get(axis, 1)
        if elements > MAX_ELEMENTS:
            self.fail(TooLarge(span, "the number of entries", f"{elements:,}", MAX_ELEMENTS))
        self.parameters[parameter.name] = parameter
        return parameter.leaf

    def note(self, expr: Expr, span: Span) -> Expr:
        """Remember where an expression was first written."""
        self.origins.setdefault(expr, span)
        return expr


def _unused(name: str, *taken: Container[str]) -> str:
    candidate, count = name, 0
    while any(candidate in names for names in taken):
        count += 1
        candidate = f"{name}_{count}"
    return candidate
