"""Calls of rules and blocks: which argument is which, which axis is which, and what comes back.

Axes match by name.  If exactly one declared axis and one axis of the arguments are left over, across all uses of the
declared one, they are the same axis; otherwise the caller renames.  Nothing is matched by position, but for the
bracket of a call (`rms_norm[n](x)`), which lists the axes of the first value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from seqc.check import builtins
from seqc.check.context import Context, Failed, Number
from seqc.check.expressions import Elaborator
from seqc.check.limits import MADE_UP
from seqc.check.session import Definition, Given, Namespace, Session, Signature, fix_settings
from seqc.check.uses import made_up, needs_axes
from seqc.diagnostics import Bag
from seqc.diagnostics.axes import AmbiguousAxis, AxesDiffer, AxisToName, ResultAxisTaken
from seqc.diagnostics.blocks import (
    ArgumentCount,
    GivenTwice,
    MissingArgument,
    NotAModelCall,
)
from seqc.diagnostics.names import UnknownCallee
from seqc.diagnostics.rules import WrongKind
from seqc.diagnostics.settings import UnknownSetting
from seqc.diagnostics.words import counted
from seqc.ir import build
from seqc.ir.expr import Axes, DType, Expr
from seqc.ir.program import Function
from seqc.ir.traverse import substitute, walk
from seqc.passes.relabel import relabel
from seqc.source import Span
from seqc.syntax import tree


@dataclass(slots=True)
class Matching:
    """The arguments of one call, and the caller's name of each axis of the callee."""

    node: tree.Call
    definition: Definition
    written: dict[str, tree.Expr] = field(default_factory=dict[str, tree.Expr])
    settings: dict[str, Number] = field(default_factory=dict[str, Number])
    given: dict[str, tree.Expr] = field(default_factory=dict[str, tree.Expr])  # the settings, as written
    args: dict[str, Expr] = field(default_factory=dict[str, Expr])
    axes: dict[str, str] = field(default_factory=dict[str, str])
    # Mapped axes: the caller's name -> the callee's.
    outer: dict[str, str] = field(default_factory=dict[str, str])
    made_up: frozenset[str] = frozenset()  # the callee's numbers that nobody has given yet

    def to_callee(self, name: str) -> dict[str, str]:
        """For one value: an axis of the caller may be several axes of the callee, each in another value."""
        return {**self.outer, **{self.axes[theirs]: theirs for theirs in self.definition.declared[name]}}

    def to_caller(self) -> dict[str, str]:
        return {**{theirs: ours for ours, theirs in self.outer.items()}, **self.axes}


class Caller:
    """Works out the calls that one elaborator meets."""

    def __init__(self, elaborator: Elaborator, session: Session, home: Namespace) -> None:
        self.elaborator = elaborator
        self.context: Context = elaborator.context
        self.session = session
        self.home = home

    def find(self, node: tree.Call) -> Definition:
        name = node.callee.name
        definition = self.home.lookup(name)
        if definition is None:
            self.context.fail(
                UnknownCallee(node.callee.span, name, (*builtins.NAMES, *self.home.callables()))
            )
        if isinstance(definition.node, tree.Model):
            self.context.fail(NotAModelCall(node.callee.span, name))
        return definition

    def match(self, node: tree.Call, definition: Definition, expected: Axes | None) -> Matching:
        matching = Matching(node, definition)
        self._distribute(matching)
        self._bracket(matching)
        late = [name for name, arg in matching.written.items() if needs_axes(arg)]
        early = [name for name in matching.written if name not in late]
        self._evaluate(matching, early, None)
        self._unify(matching)
        if late:
            beyond = self._from_result(matching, late, expected)
            for name in late:
                self._evaluate(matching, [name], self._wanted(matching, name, beyond))
            self._unify(matching)
        self._check(matching)
        return matching

    # --- arguments ---

    def _distribute(self, matching: Matching) -> None:
        node, definition = matching.node, matching.definition
        values = [value.name.text for value in definition.node.values]
        settings = [setting.name.text for setting in definition.node.settings]
        slots = [*values, *settings]
        if len(node.args) > len(slots):
            self.context.fail(
                ArgumentCount(
                    node.span, definition.name, f"at most {counted(len(slots), 'argument')}", len(node.args)
                )
            )
        given: dict[str, tree.Expr] = dict(zip(slots, node.args, strict=False))
        for keyword in node.keywords:
            name = keyword.name.text
            if name not in slots:
                self.context.fail(UnknownSetting(keyword.name.span, name, definition.title, tuple(slots)))
            if name in given:
                self.context.fail(GivenTwice(keyword.name.span, name))
            given[name] = keyword.value
        for name in values:
            if name not in given:
                self.context.fail(MissingArgument(node.span, definition.name, name, f"{name} = ..."))
        matching.written = {name: given[name] for name in values}
        for name in settings:
            if name in given:
                self._setting(matching, name, given[name])

    def _setting(self, matching: Matching, name: str, node: tree.Expr) -> None:
        matching.settings[name] = self.elaborator.number(node)
        matching.given[name] = node
        if isinstance(node, tree.Name) and node.name in self.context.settings:
            matching.axes[name] = node.name

    def _bracket(self, matching: Matching) -> None:
        """`rms_norm[n](x)`: the axes of the first value, in order."""
        node, definition = matching.node, matching.definition
        if not node.over:
            return
        first = definition.node.values[0].axes if definition.node.values else ()
        if len(first) != len(node.over):
            has = tuple(axis.text for axis in first)
            self.context.fail(AxesDiffer(node.callee.span, f"`{definition.name}`", has, _texts(node.over)))
        for axis, name in zip(first, node.over, strict=True):
            matching.axes[axis.text] = self.context.axis(name)

    def _evaluate(self, matching: Matching, names: Sequence[str], expected: Axes | None) -> None:
        failed = False
        for name in names:
            try:
                arg = self.elaborator.value(matching.written[name], expected)
                takes_tokens = not matching.definition.declared[name] and isinstance(
                    matching.definition.node, tree.Block
                )
                if arg.dtype is DType.BOOL or (arg.dtype is DType.INT and not takes_tokens):
                    found = "a condition" if arg.dtype is DType.BOOL else "tokens"
                    self.context.fail(WrongKind(matching.written[name].span, "a number", found))
                matching.args[name] = arg
            except Failed:
                failed = True
        if failed:
            raise Failed

    # --- axes ---

    def _left(self, matching: Matching, name: str) -> tuple[list[str], list[str]]:
        """Declared axes without a partner, and the argument's axes without one."""
        declared = matching.definition.declared[name]
        taken = {matching.axes[axis] for axis in declared if axis in matching.axes}
        free = [axis for axis in declared if axis not in matching.axes]
        return free, [a for a in self.elaborator.declared(matching.args[name].axes) if a not in taken]

    def _unify(self, matching: Matching) -> None:
        declared = matching.definition.declared
        for name, arg in matching.args.items():
            for axis in declared[name]:
                if axis in arg.axes and axis not in matching.axes and axis not in matching.axes.values():
                    matching.axes[axis] = axis
        changed = True
        while changed:
            changed = False
            free = {axis for name in matching.args for axis in declared[name] if axis not in matching.axes}
            for axis in sorted(free):
                partner = self._partner(matching, axis)
                if partner is not None:
                    matching.axes[axis] = partner
                    changed = True

    def _partner(self, matching: Matching, axis: str) -> str | None:
        candidates: set[str] | None = None
        for name, arg in matching.args.items():
            if axis not in matching.definition.declared[name] or not self.elaborator.declared(arg.axes):
                continue
            free, left = self._left(matching, name)
            if free != [axis]:
                return None
            candidates = set(left) if candidates is None else candidates & set(left)
        return candidates.pop() if candidates is not None and len(candidates) == 1 else None

    def _from_result(self, matching: Matching, late: Sequence[str], expected: Axes | None) -> Axes:
        """What the caller expects of the result says which axes are meant, where the result has them.

        Gives the axes expected beyond those of the result: where there is one value, they are its mapped axes.
        """
        wanted = _texts(matching.node.result) if matching.node.result is not None else expected
        if wanted is None:
            return ()
        declared = matching.definition.declared
        free = {axis for name in late for axis in declared[name] if axis not in matching.axes}
        returned = self._returned(matching.definition)
        theirs = [axis for axis in returned if axis not in matching.axes and axis in free]
        ours = [axis for axis in wanted if axis not in matching.axes.values()]
        for axis in [axis for axis in theirs if axis in ours]:
            matching.axes[axis] = axis
            theirs.remove(axis)
            ours.remove(axis)
        if len(theirs) == len(ours) == 1:
            matching.axes[theirs[0]] = ours[0]
        if len(declared) != 1:
            return ()
        found = {matching.axes.get(axis) for axis in returned}
        return tuple(axis for axis in wanted if axis not in found)

    def _returned(self, definition: Definition) -> Axes:
        """The axes of the first result, as the callee calls them."""
        use = made_up(definition, Bag())
        if isinstance(definition.node, tree.Rule):
            return self.session.rule(definition, use, definition.node.name.span).returns[0]
        return self.session.function(definition, use, definition.node.name.span).returns[0]

    def _wanted(self, matching: Matching, name: str, beyond: Axes) -> Axes | None:
        wanted: list[str] = []
        for axis in matching.definition.declared[name]:
            if axis not in matching.axes and (axis in self.context.sizes or axis in self.context.settings):
                matching.axes[axis] = axis
            if axis not in matching.axes:
                return None
            wanted.append(matching.axes[axis])
        return (*beyond, *wanted) if beyond or wanted else None

    def _check(self, matching: Matching) -> None:
        for name, arg in matching.args.items():
            own = self.elaborator.declared(arg.axes)
            span = matching.written[name].span
            for axis in matching.definition.declared[name]:
                ours = matching.axes.get(axis)
                if ours is None or (own and ours not in arg.axes):
                    self._unclear(matching, name, axis, own, span)
            meant = {matching.axes[axis] for axis in matching.definition.declared[name]}
            if own and len(meant) < len(matching.definition.declared[name]):
                self._unclear(matching, name, matching.definition.declared[name][-1], own, span)
            beyond = [axis for axis in arg.axes if axis not in meant]
            for axis in beyond:
                if axis in matching.axes.values() and axis in self._bound(matching):
                    declared = tuple(matching.axes[a] for a in matching.definition.declared[name])
                    self.context.fail(
                        AxesDiffer(span, f"`{name}` of `{matching.definition.name}`", declared, own)
                    )
                matching.outer.setdefault(axis, self._outer_name(matching, axis))

    def _bound(self, matching: Matching) -> set[str]:
        """The caller's axes that are axes of the callee's values."""
        declared = {axis for axes in matching.definition.declared.values() for axis in axes}
        return {ours for theirs, ours in matching.axes.items() if theirs in declared}

    def _unclear(self, matching: Matching, name: str, axis: str, own: Axes, span: Span) -> None:
        node, definition = matching.node, matching.definition
        single = len(definition.node.values) == 1 and len(definition.node.values[0].axes) == 1
        if single and len(own) > 1 and not node.over:
            self.context.fail(AxisToName(node.callee.span, definition.name, own))
        self.context.fail(AmbiguousAxis(span, definition.name, name, axis, own))

    def _outer_name(self, matching: Matching, axis: str) -> str:
        node = matching.definition.node
        taken = {a for axes in matching.definition.declared.values() for a in axes}
        taken |= {setting.name.text for setting in node.settings}
        return f"{axis}.outer" if axis in taken else axis

    # --- the call itself ---

    def signature(self, matching: Matching) -> tuple[Signature, dict[str, int]]:
        """How the callee is used, and the lengths of the mapped axes as it calls them."""
        definition, context = matching.definition, self.context
        declared = list(dict.fromkeys(axis for axes in definition.declared.values() for axis in axes))
        lengths = {axis: self._length(matching.axes[axis], matching.node.span) for axis in declared}
        unsure = {axis for axis in declared if matching.axes[axis] in context.made_up}
        unsure |= {name for name, node in matching.given.items() if context.unsure(node)}
        given = Given(matching.settings, lengths, frozenset(unsure))
        settings = definition.node.settings
        if settings:
            context.budget.read(context.bag, settings[0].span.to(settings[-1].span))
        known, made_up = fix_settings(context.bag, definition, given, matching.node.span)
        outer = {
            theirs: self._length(ours, matching.node.span)
            for ours, theirs in matching.outer.items()
            if ours not in context.growing
        }
        inputs: list[tuple[Axes, DType]] = []
        for name, axes in definition.declared.items():
            arg, rename = matching.args[name], matching.to_callee(name)
            beyond = tuple(rename[a] for a in arg.axes if rename[a] not in axes)
            inputs.append(((*beyond, *axes), arg.dtype))
        matching.made_up = frozenset(made_up)
        use = Signature(
            settings=tuple(known.items()),
            sizes=(*lengths.items(), *outer.items()),
            inputs=tuple(inputs),
            mapped=tuple(matching.outer.values()),
            made_up=(
                *made_up,
                *(theirs for ours, theirs in matching.outer.items() if ours in context.made_up),
            ),
        )
        return use, outer

    def _length(self, axis: str, span: Span) -> int:
        sizes, settings = self.context.sizes, self.context.settings
        if axis not in sizes and axis in settings:
            sizes[axis] = self.context.as_size(settings[axis], span, axis, axis in self.context.made_up)
        return sizes.get(axis, MADE_UP)

    def arguments(self, matching: Matching) -> tuple[Expr, ...]:
        """The arguments with their axes called as the callee does."""
        args = matching.args
        return tuple(
            build.rename(args[name], matching.to_callee(name)) for name in matching.definition.declared
        )

    def results(self, matching: Matching, values: Sequence[Expr], sizes: Mapping[str, int]) -> list[Expr]:
        """What comes back, with its axes called as the caller does."""
        names = matching.to_caller()
        for value in values:
            for axis in value.axes:
                if axis not in names:
                    names[axis] = self._new_axis(matching, axis, sizes.get(axis, MADE_UP))
            self._distinct(matching, [names[axis] for axis in value.axes])
        return [build.rename(value, names) for value in values]

    def _new_axis(self, matching: Matching, axis: str, size: int) -> str:
        """An axis that only the callee knows becomes one of the caller's, under its own name."""
        context = self.context
        if axis in matching.outer or axis in context.settings or context.sizes.get(axis, size) != size:
            context.fail(ResultAxisTaken(matching.node.span, matching.definition.name, axis))
        context.sizes[axis] = size
        if axis in matching.made_up:
            context.made_up.add(axis)
        return axis

    def _distinct(self, matching: Matching, axes: Sequence[str]) -> None:
        """The axes of a result, as the caller calls them: no two are the same, and each has a length."""
        for position, axis in enumerate(axes):
            if axis in axes[:position]:
                self.context.fail(ResultAxisTaken(matching.node.span, matching.definition.name, axis))
            self._length(axis, matching.node.span)

    def inline(self, matching: Matching, function: Function) -> list[Expr]:
        """The outputs of a block that only computes, written out in the caller's axes."""
        names = matching.to_caller()
        returned = {axis for axes in function.returns for axis in axes}
        for axis, size in function.sizes.items():
            if axis in names:
                self.context.sizes.setdefault(names[axis], size)
            elif axis in returned:
                names[axis] = self._new_axis(matching, axis, size)
            else:
                names[axis] = self._inner_axis(f"{function.name}.{axis}", size, axis in matching.made_up)
        for axes in function.returns:
            self._distinct(matching, [names.get(axis, axis) for axis in axes])
        self.context.budget.spend(
            self.context.bag, matching.node.span, sum(1 for _ in walk(function.outputs))
        )
        apart = self._apart(function, names, matching.made_up)
        leaves = relabel(function.inputs, {**names, **apart})
        given = [
            build.rename(matching.args[name], {names[axis]: apart[axis] for axis in axes if axis in apart})
            for name, axes in matching.definition.declared.items()
        ]
        outputs = relabel(function.outputs, {**names, **apart})
        back = {inner: names[axis] for axis, inner in apart.items()}
        done = substitute(outputs, dict(zip(leaves, given, strict=True)))
        return [build.rename(output, back) for output in done]

    def _apart(self, function: Function, names: Mapping[str, str], made_up: frozenset[str]) -> dict[str, str]:
        """Names of their own, inside the block, for its axes that are one axis of the caller's."""
        first = {ours: theirs for theirs, ours in reversed(list(names.items()))}
        return {
            axis: self._inner_axis(f"{function.name}.{axis}", size, axis in made_up)
            for axis, size in function.sizes.items()
            if first[names[axis]] != axis
        }

    def _inner_axis(self, name: str, size: int, made_up: bool) -> str:
        """An axis inside a block that is written out: one name for all its uses of one length."""
        sizes = self.context.sizes
        return name if sizes.get(name) == size else self.context.fresh_axis(name, size, made_up)


def _texts(names: Sequence[tree.Ident]) -> Axes:
    return tuple(name.text for name in names)
