"""A rule, with all its sizes fixed, as a recurrence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from seqc.check import builtins
from seqc.check import memory as memories
from seqc.check.context import Broken, Context, Failed
from seqc.check.expressions import Elaborator
from seqc.check.layers import linear
from seqc.check.learner import Choices, Learning
from seqc.check.memory import Memories, Memory
from seqc.check.parameters import declare_parameter
from seqc.check.parts import split
from seqc.check.session import Namespace
from seqc.check.squares import solved
from seqc.check.unroll import RuleRepeat, assigned
from seqc.diagnostics.axes import AxesDiffer
from seqc.diagnostics.blocks import NoReturn, NotInRule, OutputCount
from seqc.diagnostics.learners import ChosenTwice, NameTheMemory
from seqc.diagnostics.memories import MemoryStructure, StateWithoutEquation, StoreOption
from seqc.diagnostics.names import (
    NameTaken,
    NotAState,
    NotPrimed,
    NotWritten,
    UnknownName,
    WrittenTwice,
)
from seqc.diagnostics.rules import WrongKind
from seqc.ir.build import ZERO
from seqc.ir.expr import Axes, DType, Expr, Leaf
from seqc.ir.recurrence import Recurrence, State, Store
from seqc.ir.traverse import substitute
from seqc.source import Span
from seqc.syntax import tree

CHOICE = (tree.Objective, tree.Retention, tree.Learner, tree.Proximal)
InlineCall = Callable[[Elaborator, tree.Call, Axes | None], Expr]


class RuleElaborator(Elaborator):
    """Goes through a rule's statements in order; a fault ends a statement, not the rule."""

    def __init__(self, context: Context, inline: InlineCall, home: Namespace, outer: Axes) -> None:
        super().__init__(context)
        self._inline = inline
        self.home = home
        self._outer = outer
        self.states: dict[str, State] = {}
        self.stores: dict[str, Store] = {}
        self.memories: dict[str, Memory] = {}
        self.updates: dict[str, Expr] = {}
        self.names: list[tuple[str, Expr]] = []
        self.lets: set[str] = set()
        self.outputs: list[Expr] = []
        self.pending: set[str] = set()  # states that are written by choices still to come
        self.binding = ""
        self.solvers: dict[str, tree.Call] = {}  # memories that are solved for where they are read
        self.judging = False  # inside the objective

    # --- the rule ---

    def run(self, rule: tree.Rule, inputs: Mapping[str, Expr]) -> Recurrence | None:
        for value in rule.values:
            self.context.define(value.name, inputs[value.name.text])
        self.solvers = _solvers(rule)
        last = max((i for i, s in enumerate(rule.body) if isinstance(s, CHOICE)), default=-1)
        for index, statement in enumerate(rule.body):
            try:
                self._statement(statement)
            except Failed:
                self.failed = True
                self._break(statement)
            if index == last:
                self._choices(rule)
        self._kept_memories(rule, last)
        self._check_written()
        if not any(isinstance(s, tree.Return) for s in rule.body):
            self.context.bag.add(NoReturn(rule.name.span, self.context.owner))
        if self.failed or self.context.bag.has_errors:
            return None
        return self._recurrence(rule, inputs)

    def _recurrence(self, rule: tree.Rule, inputs: Mapping[str, Expr]) -> Recurrence:
        given = tuple(leaf for leaf in inputs.values() if isinstance(leaf, Leaf))
        states = tuple(self.states.values())
        self._see_through_mirrors()
        return Recurrence(
            name=rule.name.text,
            inputs=given,
            parameters=tuple(self.context.parameters.values()),
            states=states,
            stores=tuple(self.stores.values()),
            updates=tuple(self.updates[state.name] for state in states),
            outputs=tuple(self.outputs),
            returns=tuple(output.axes for output in self.outputs),
            sizes=dict(self.context.sizes),
            names=tuple(self.names),
            origins=dict(self.context.origins),
        )

    def _see_through_mirrors(self) -> None:
        """Put what the states hold where the text speaks of memories."""
        meaning = {leaf: seen for memory in self.memories.values() for leaf, seen in memory.meaning.items()}
        if not meaning:
            return
        roots = [
            *self.updates.values(),
            *self.outputs,
            *(value for _, value in self.names),
            *self.context.origins,
        ]
        seen = iter(substitute([*roots, *(store.value for store in self.stores.values())], meaning))
        self.updates = {name: next(seen) for name in self.updates}
        self.outputs = [next(seen) for _ in self.outputs]
        self.names = [(name, next(seen)) for name, _ in self.names]
        self.context.origins = {next(seen): span for span in self.context.origins.values()}
        self.stores = {name: replace(store, value=next(seen)) for name, store in self.stores.items()}

    # --- statements ---

    def _statement(self, node: tree.RuleStatement) -> None:
        match node:
            case tree.Memory():
                self._memory(node)
            case tree.State():
                self._state(node)
            case tree.Store():
                self._store(node)
            case tree.ParamDecl():
                declare_parameter(self, node, decays=False)
            case tree.Let():
                bound = self.let(node)
                self.lets.update(name for name, _ in bound)
                self.names.extend(bound)
            case tree.Repeat():
                self.names.extend(RuleRepeat(self).run(node))
            case tree.Update():
                self._update(node)
            case tree.Return(values):
                self.outputs = self.returned(values)
            case _:
                return  # the choices are worked out together, after the last of them

    def _break(self, node: tree.RuleStatement) -> None:
        """What a failed statement would have defined is broken: its uses are not faults of their own."""
        names: Sequence[tree.Ident] = ()
        match node:
            case (
                tree.Memory(name=name)
                | tree.State(name=name)
                | tree.Store(name=name)
                | tree.ParamDecl(name=name)
            ):
                names = (name,)
            case tree.Let(targets=targets):
                names = tuple(target.name for target in targets)
            case tree.Update(name=name):
                self.updates.setdefault(name.text, ZERO)
            case tree.Repeat(body=body):
                self.context.values.update(
                    (name.text, Broken()) for name in assigned(body) if name.text in self.lets
                )
            case _:
                pass
        for name in names:
            self.context.places.setdefault(name.text, name.span)
            self.context.values.setdefault(name.text, Broken())

    def _memory(self, node: tree.Memory) -> None:
        memory = Memories(self, self._outer).build(node)
        self.context.define(node.name, memory)
        if self.context.values.get(node.name.text) is not memory:
            return
        self.memories[memory.name] = memory
        for tensor in memory.tensors:
            self.states[tensor.name] = tensor
            self.context.note(tensor.leaf, node.span)

    def _state(self, node: tree.State) -> None:
        axes = self.context.fixed_axes(node.axes)
        initial = ZERO if node.initial is None else memories.state_initial(self, node.initial, axes)
        dtype = DType.COMPLEX if node.complex else DType.REAL
        if initial.dtype is DType.COMPLEX and not node.complex:
            self.context.fail(WrongKind((node.initial or node).span, "a real number", "a complex number"))
        state = State(node.name.text, axes, initial, dtype)
        self.context.define(node.name, state.leaf)
        if self.context.values.get(node.name.text) is state.leaf:
            self.states[state.name] = state
            self.context.note(state.leaf, node.span)

    def _store(self, node: tree.Store) -> None:
        growing, rest = node.axes[0], node.axes[1:]
        if growing.text in self.context.sizes or growing.text in self.context.settings:
            self.context.fail(NameTaken(growing.span, growing.text, growing.span))
        self.context.growing.setdefault(growing.text, growing.span)
        axes = self.context.fixed_axes(rest)
        value = self.value(node.value)
        if set(value.axes) != set(axes):
            self.context.fail(AxesDiffer(node.value.span, f"`{node.name.text}`", axes, value.axes))
        window, sinks = self._store_options(node)
        store = Store(node.name.text, growing.text, axes, value, window, sinks)
        for other in self.stores.values():
            if other.axis == store.axis and (other.window, other.sinks) != (window, sinks):
                self.context.fail(
                    StoreOption(node.span, "stores along one axis have the same window and sinks")
                )
        self.context.define(node.name, store.leaf)
        self.stores[store.name] = store

    def _store_options(self, node: tree.Store) -> tuple[int | None, int]:
        window: int | None = None
        sinks = 0
        for option in node.options:
            match option.name.text:
                case "window":
                    window = self.size(option.value)
                case "sinks":
                    number = self.number(option.value)
                    sinks = self.size(option.value) if number else 0
                case other:
                    self.context.fail(
                        StoreOption(option.span, f"`{other}` is no option: there are `window` and `sinks`")
                    )
        return window, sinks

    def let(self, node: tree.Let) -> list[tuple[str, Expr]]:
        """Bind the names of a `let`, which are returned with what they mean."""
        first = node.targets[0]
        self.binding = first.name.text
        try:
            if len(node.targets) > 1:
                values = self._several(node)
            else:
                expected = None if first.axes is None else self.context.axes(first.axes)
                values = [self.value(node.value, expected)]
        finally:
            self.binding = ""
        for target, value in zip(node.targets, values, strict=True):
            self.check_declared(target, value, node.value.span)
            self.context.define(target.name, value)
        return [(target.name.text, value) for target, value in zip(node.targets, values, strict=True)]

    def _several(self, node: tree.Let) -> list[Expr]:
        call = node.value
        if isinstance(call, tree.Call) and call.callee.name == "split" and "split" not in self.context.values:
            return split(self, call, node.targets)
        self.context.fail(OutputCount(node.value.span, len(node.targets), 1))

    def _update(self, node: tree.Update) -> None:
        name = node.name.text
        state = self._written_state(node)
        if name in self.updates:
            self.context.fail(WrittenTwice(node.name.span, name))
        value = self.value(node.value)
        beyond = [axis for axis in value.axes if axis not in state.axes]
        if beyond:
            self.context.fail(AxesDiffer(node.value.span, f"the state `{name}`", state.axes, value.axes))
        if value.dtype is not state.dtype and state.dtype is DType.REAL:
            self.context.fail(WrongKind(node.value.span, "a real number", builtins.KINDS[value.dtype]))
        self.updates[name] = value

    def _written_state(self, node: tree.Update) -> State:
        name = node.name.text
        memory = self.memories.get(name)
        if memory is not None and len(memory.tensors) == 1:
            return memory.tensors[0]
        if name in self.states:
            return self.states[name]
        if isinstance(self.context.values.get(name), Broken):
            raise Failed
        if name not in self.context.values:
            self.context.fail(UnknownName(node.name.span, name, tuple(self.states), self.context.owner))
        self.context.fail(NotAState(node.name.span, name, tuple(self.states)))

    # --- the four choices ---

    def _choices(self, rule: tree.Rule) -> None:
        try:
            chosen = self._gather(rule)
            objective = next((s for s in rule.body if isinstance(s, tree.Objective)), None)
            learning = Learning(self, objective, [choices.memory for choices in chosen.values()])
        except Failed:
            self.failed = True
            self._write_all(list(self.memories.values()))
            return
        equations = {s.name.text for s in rule.body if isinstance(s, tree.Update)}
        for choices in chosen.values():
            if choices.memory.name in equations and not choices.named:
                continue
            try:
                update = learning.lower(choices)
            except Failed:
                self.failed = True
                self._write_all([choices.memory])
                continue
            self.states.update((state.name, state) for state in update.states)
            self.updates.update(update.equations)
            for tensor in choices.memory.tensors:
                self.context.note(update.equations[tensor.name], _place(choices))

    def _write_all(self, broken: Sequence[Memory]) -> None:
        for memory in broken:
            for tensor in memory.tensors:
                self.updates.setdefault(tensor.name, ZERO)

    def _gather(self, rule: tree.Rule) -> dict[str, Choices]:
        chosen = {name: Choices(memory) for name, memory in self.memories.items()}
        seen: dict[str, tree.RuleStatement] = {}
        for statement in rule.body:
            match statement:
                case tree.Objective():
                    self._once(seen, "objective", "", statement)
                case tree.Retention():
                    for choices in self._meant(chosen, statement.memory, statement.expr, statement):
                        self._once(seen, "retention", choices.memory.name, statement)
                        choices.retention = statement
                case tree.Learner():
                    for choices in self._meant(chosen, statement.memory, None, statement):
                        self._once(seen, "learner", choices.memory.name, statement)
                        choices.learner = statement
                case tree.Proximal():
                    for choices in self._meant(chosen, statement.memory, statement.call, statement):
                        choices.proximal.append(statement)
                case _:
                    continue
        return chosen

    def _once(
        self, seen: dict[str, tree.RuleStatement], kind: str, memory: str, node: tree.RuleStatement
    ) -> None:
        before = seen.setdefault(f"{kind} {memory}", node)
        if before is not node:
            self.context.fail(ChosenTwice(node.span, kind, before.span))

    def _meant(
        self,
        chosen: dict[str, Choices],
        name: tree.Ident | None,
        expr: tree.Expr | None,
        node: tree.RuleStatement,
    ) -> list[Choices]:
        """The memories that a choice is about."""
        if name is not None:
            if name.text in chosen:
                return [chosen[name.text]]
            if isinstance(self.context.values.get(name.text), Broken):
                raise Failed
            self.context.fail(UnknownName(name.span, name.text, tuple(chosen), self.context.owner))
        if expr is None or len(chosen) == 1:
            return list(chosen.values())
        if any(isinstance(value, Broken) for value in self.context.values.values()):
            raise Failed
        mentioned = {n.name for n in tree.walk(expr) if isinstance(n, tree.Name) and n.name in chosen}
        if len(mentioned) == 1:
            return [chosen[mentioned.pop()]]
        self.context.fail(NameTheMemory(node.span, tuple(chosen)))

    def _kept_memories(self, rule: tree.Rule, last: int) -> None:
        """A memory without choices and without an equation is never written: that is a fault, found below."""
        if last >= 0:
            return
        for name, memory in self.memories.items():
            if name not in self.updates and len(memory.tensors) > 1:
                self.context.bag.add(StateWithoutEquation(memory.span, name))
                self._write_all([memory])

    def _check_written(self) -> None:
        for name, state in self.states.items():
            if name not in self.updates:
                place = self.context.places.get(name)
                if place is not None:
                    self.context.bag.add(StateWithoutEquation(place, state.name))

    # --- names and calls ---

    def as_value(self, node: tree.Name, value: object) -> Expr:
        if isinstance(value, Memory) and len(value.tensors) == 1:
            self._refuse_unsolved(node)
            return value.before[0]
        return super().as_value(node, value)

    def _refuse_unsolved(self, node: tree.Name) -> None:
        """A memory that is solved for has no entries to look at."""
        if node.name in self.solvers and not self.judging:
            reason = f"`{node.name}` is solved for where it is read: write `{node.name}(...)`"
            self.context.fail(MemoryStructure(node.span, reason))

    def primed(self, node: tree.Name) -> Expr:
        name = node.name
        store = self.stores.get(name)
        if store is not None:
            return store.next
        memory = self.memories.get(name)
        state = (
            memory.tensors[0] if memory is not None and len(memory.tensors) == 1 else self.states.get(name)
        )
        if state is not None and name in self.context.values:
            if name not in self.updates:
                self.context.fail(NotWritten(node.span, name))
            self._refuse_unsolved(node)
            return state.next if memory is None else memory.after[0]
        if memory is not None:
            return self.as_value(node, memory)
        if isinstance(self.context.values.get(name), Broken):
            raise Failed
        if name in self.context.values:
            self.context.fail(NotPrimed(node.span, name))
        self.context.fail(UnknownName(node.span, name, tuple(self.states), self.context.owner))

    def call_value(self, node: tree.Call) -> Expr:
        memory = self.memories.get(node.callee.name)
        if memory is None:
            return super().call_value(node)
        args = self.all(node.args)
        tensors = memory.before
        solver = None if self.judging else self.solvers.get(memory.name)
        if node.callee.primed:
            if any(tensor.name not in self.updates for tensor in memory.tensors):
                self.context.fail(NotWritten(node.callee.span, memory.name))
            tensors = memory.after
        answer = memories.read(self.context, memory, tensors, node, args)
        if solver is None or len(memory.tensors) > 1:
            return answer
        return solved(self, solver, memory, node.callee.primed, args[0])

    def call_special(self, node: tree.Call, expected: Axes | None) -> Expr:
        if node.callee.name == "linear":
            return linear(self, node, expected, self.binding)
        if node.callee.name in builtins.SEQUENCE:
            self.context.fail(NotInRule(node.callee.span, node.callee.name))
        return super().call_special(node, expected)

    def call_defined(self, node: tree.Call, expected: Axes | None) -> Expr:
        return self._inline(self, node, expected)

    def callables(self) -> tuple[str, ...]:
        return (*super().callables(), *self.home.callables())


def _solvers(rule: tree.Rule) -> dict[str, tree.Call]:
    every = [s.name.text for s in rule.body if isinstance(s, tree.Memory)]
    learners = [s for s in rule.body if isinstance(s, tree.Learner) and s.call.callee.name == "exact"]
    return {
        name: learner.call
        for learner in learners
        for name in (every if learner.memory is None else [learner.memory.text])
    }


def _place(choices: Choices) -> Span:
    for node in (choices.learner, choices.retention, *choices.proximal):
        if node is not None:
            return node.span
    return choices.memory.span
