"""A block or a model's body, with all its settings fixed, as a function on whole sequences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from seqc.check import builtins
from seqc.check.calls import call_results, one
from seqc.check.context import Broken, Context, Failed
from seqc.check.expressions import Elaborator
from seqc.check.layers import LAYERS
from seqc.check.limits import MAX_REPEAT, MAX_UNROLLED
from seqc.check.parameters import declare_parameter
from seqc.check.parts import split
from seqc.check.session import Namespace, Session
from seqc.check.unroll import assigned, written_out
from seqc.check.uses import is_pure
from seqc.diagnostics.blocks import NoReturn, OutputCount, ReboundAxes, RepeatsNothing
from seqc.diagnostics.rules import WrongKind
from seqc.diagnostics.settings import TooLarge
from seqc.ir.expr import Axes, DType, Expr, Invoke, Item, Leaf, LeafKind
from seqc.ir.program import Function, Repeat
from seqc.ir.traverse import leaves
from seqc.syntax import tree


class BlockElaborator(Elaborator):
    """Goes through a block's statements in order; a fault ends a statement, not the block."""

    def __init__(self, context: Context, session: Session, home: Namespace) -> None:
        super().__init__(context)
        self.session = session
        self.home = home
        self.binding = ""
        self.bindings: list[tuple[str, Expr]] = []
        self.outputs: list[Expr] = []

    def run(self, node: tree.Block | tree.Model, inputs: Mapping[str, Leaf]) -> Function | None:
        for value in node.values:
            self.context.define(value.name, inputs[value.name.text])
        self.statements(node.body)
        if not any(isinstance(statement, tree.Return) for statement in node.body):
            self.context.bag.add(NoReturn(node.name.span, self.context.owner))
        if isinstance(node, tree.Model):
            self._check_real(node)
        if self.failed or self.context.bag.has_errors:
            return None
        return self.function(node.name.text, tuple(inputs.values()), self.outputs)

    def _check_real(self, node: tree.Model) -> None:
        values = next((s.values for s in node.body if isinstance(s, tree.Return)), ())
        for value, written in zip(self.outputs, values, strict=False):
            if value.dtype is DType.COMPLEX:
                self.context.bag.add(WrongKind(written.span, "a real number", "a complex number"))

    def function(self, name: str, inputs: tuple[Leaf, ...], outputs: Sequence[Expr]) -> Function:
        return Function(
            name=name,
            inputs=inputs,
            parameters=tuple(self.context.parameters.values()),
            bindings=tuple(self.bindings),
            outputs=tuple(outputs),
            returns=tuple(output.axes for output in outputs),
            sizes=dict(self.context.sizes),
            origins=dict(self.context.origins),
        )

    # --- statements ---

    def statements(self, body: Sequence[tree.BlockStatement]) -> None:
        for statement in body:
            try:
                self.context.budget.read(self.context.bag, statement.span)
                self._statement(statement)
            except Failed:
                self.failed = True
                self._break(statement)

    def _statement(self, node: tree.BlockStatement) -> None:
        match node:
            case tree.Let():
                self._let(node)
            case tree.ParamDecl():
                declare_parameter(self, node, decays=len(node.axes) > 1)
            case tree.Assign():
                self._assign(node)
            case tree.Repeat():
                self._repeat(node)
            case tree.If():
                self._if(node)
            case tree.Return(values):
                self.outputs = self.returned(values)

    def _break(self, node: tree.BlockStatement) -> None:
        names: Sequence[tree.Ident] = ()
        match node:
            case tree.Let(targets=targets):
                names = [target.name for target in targets]
            case tree.ParamDecl(name=name) | tree.Assign(target=tree.Target(name=name)):
                names = [name]
            case tree.Repeat(body=body):
                names = assigned(body)
            case _:
                pass
        for name in names:
            self.context.places.setdefault(name.text, name.span)
            self.context.values[name.text] = Broken()

    def _let(self, node: tree.Let) -> None:
        self.binding = node.targets[0].name.text
        try:
            values = self._values(node)
        finally:
            self.binding = ""
        for target, value in zip(node.targets, values, strict=True):
            self.check_declared(target, value, node.value.span)
            self.context.define(target.name, value)
            self.bindings.append((target.name.text, value))

    def _values(self, node: tree.Let) -> list[Expr]:
        call, wanted = node.value, len(node.targets)
        if wanted == 1:
            return [self.value(call, self._declared_axes(node.targets[0]))]
        if isinstance(call, tree.Call) and call.callee.name == "split":
            return split(self, call, node.targets)
        if isinstance(call, tree.Call) and call.callee.name not in (*builtins.NAMES, *self.context.values):
            results = call_results(self, self.session, self.home, call, None, self._path(call))
            if len(results) == wanted:
                return results
            self.context.fail(OutputCount(call.span, wanted, len(results)))
        self.context.fail(OutputCount(call.span, wanted, 1))

    def _declared_axes(self, target: tree.Target) -> Axes | None:
        return None if target.axes is None else self.context.axes(target.axes)

    def _assign(self, node: tree.Assign) -> None:
        target = node.target
        name = target.name.text
        old = self.context.values.get(name)
        expected = self._declared_axes(target)
        if expected is None and isinstance(old, Expr):
            expected = self.declared(old.axes)
        value = self.value(node.value, expected)
        self.check_declared(target, value, node.value.span)
        if isinstance(old, Expr):
            if set(old.axes) != set(value.axes):
                self.context.fail(ReboundAxes(node.value.span, name, old.axes, value.axes))
        elif old is None:
            self.context.places[name] = target.name.span
        self.context.values[name] = value
        self.bindings.append((name, value))

    def _if(self, node: tree.If) -> None:
        taken, other = (node.then, node.orelse) if self.number(node.condition) else (node.orelse, node.then)
        if self.context.unsure(node.condition):
            self._look_at(other)
        self.statements(taken)

    def _look_at(self, body: Sequence[tree.BlockStatement]) -> None:
        """Report the faults of a branch that these settings do not take."""
        context = self.context
        kept = (dict(context.values), dict(context.places), dict(context.parameters), set(context.instances))
        bindings, sizes = list(self.bindings), dict(context.sizes)
        self.statements(body)
        context.values, context.places, context.parameters, context.instances = kept
        self.bindings, context.sizes = bindings, sizes

    # --- repeat ---

    def _repeat(self, node: tree.Repeat) -> None:
        count = self.number(node.count)
        if count > MAX_REPEAT:
            self.context.fail(
                TooLarge(node.count.span, "the number of repetitions", f"{count:,}", MAX_REPEAT)
            )
        times = 0 if count == 0 else self.size(node.count)
        names = list(
            dict.fromkeys(name.text for name in assigned(node.body) if name.text in self.context.values)
        )
        if not names:
            self.context.fail(RepeatsNothing(node.count.span))
        word = node.count.name if isinstance(node.count, tree.Name) else "repeat"
        path = self.context.instance(word)
        mentioned = dict.fromkeys(found.name for found in tree.walk(node) if isinstance(found, tree.Name))
        inputs = self._body_inputs((*names, *mentioned))
        varies = node.index is not None and node.index.text in mentioned
        bodies = self._bodies(node, path, names, inputs, times, varies=varies)
        if not times:
            return
        if times <= MAX_UNROLLED and all(is_pure(body) for body in bodies) and _agree(bodies):
            results = written_out(self.context, node, bodies, [self._held(leaf.name) for leaf in inputs])
        else:
            results = self._repeated(node, path, names, inputs, bodies)
        for name, value in zip(names, results, strict=True):
            self.context.values[name] = self.context.note(value, node.span)
            self.bindings.append((name, value))

    def _repeated(
        self,
        node: tree.Repeat,
        path: str,
        names: Sequence[str],
        inputs: tuple[Leaf, ...],
        bodies: tuple[Function, ...],
    ) -> list[Expr]:
        """One call, which applies the bodies to what they use."""
        used = {
            leaf.name for body in bodies for leaf in leaves([*body.outputs, *(e for _, e in body.bindings)])
        }
        kept = tuple(leaf for leaf in inputs if leaf.name in names or leaf.name in used)
        bodies = tuple(_with_inputs(body, kept) for body in bodies)
        args = tuple(self._held(leaf.name) for leaf in kept)
        call = Invoke(path, Repeat(_shared_objects(bodies), node.shared), args)
        return [Item(call, index) for index in range(len(names))]

    def _held(self, name: str) -> Expr:
        value = self.context.values[name]
        if isinstance(value, Expr):
            return value
        raise Failed

    def _body_inputs(self, names: Iterable[str]) -> tuple[Leaf, ...]:
        """What the body sees of the outside: first what it carries from one repetition to the next."""
        inputs: list[Leaf] = []
        for name in dict.fromkeys(name for name in names if name in self.context.values):
            value = self._held(name)
            inputs.append(Leaf(LeafKind.INPUT, name, value.axes, value.dtype))
        return tuple(inputs)

    def _bodies(
        self,
        node: tree.Repeat,
        path: str,
        names: Sequence[str],
        inputs: tuple[Leaf, ...],
        times: int,
        *,
        varies: bool,
    ) -> tuple[Function, ...]:
        """One function a repetition; where the index is not mentioned (`varies`) they are all the same."""
        if self.context.made_up or not times:
            times = min(times, 2) or 1
        if not varies:
            return (self._body(node, path, names, inputs, 0),) * times
        return tuple(self._body(node, path, names, inputs, i) for i in range(times))

    def _body(
        self, node: tree.Repeat, path: str, names: Sequence[str], inputs: tuple[Leaf, ...], index: int
    ) -> Function:
        outer = self.context
        settings = dict(outer.settings)
        if node.index is not None:
            settings[node.index.text] = index
        context = Context(
            bag=outer.bag,
            budget=outer.budget,
            settings=settings,
            sizes=dict(outer.sizes),
            mapped=outer.mapped,
            owner=outer.owner,
            made_up=set(outer.made_up),
            values={leaf.name: leaf for leaf in inputs},
            places={leaf.name: outer.places[leaf.name] for leaf in inputs if leaf.name in outer.places},
            defaults=outer.defaults,
        )
        inner = BlockElaborator(context, self.session, self.home)
        inner.statements(node.body)
        if inner.failed:
            raise Failed
        outputs: list[Expr] = []
        for leaf in inputs[: len(names)]:
            value = context.values[leaf.name]
            if not isinstance(value, Expr):
                raise Failed
            outputs.append(value)
        returned = tuple(leaf.axes for leaf in inputs[: len(names)])
        function = inner.function(path, inputs, outputs)
        return _with_returns(function, returned)

    # --- calls ---

    def call_special(self, node: tree.Call, expected: Axes | None) -> Expr:
        layer = LAYERS.get(node.callee.name)
        if layer is None:
            return super().call_special(node, expected)
        return layer(self, node, expected, self.binding)

    def call_defined(self, node: tree.Call, expected: Axes | None) -> Expr:
        return one(self, node, call_results(self, self.session, self.home, node, expected, self._path(node)))

    def _path(self, node: tree.Call) -> str:
        """The path of an instance, before it is made unique."""
        if node.as_name is not None:
            return node.as_name.text
        return f"{self.binding}.{node.callee.name}" if self.binding else node.callee.name

    def callables(self) -> tuple[str, ...]:
        return (*super().callables(), *self.home.callables())

    def is_function(self, name: str) -> bool:
        return super().is_function(name) or self.home.lookup(name) is not None


def _agree(bodies: Sequence[Function]) -> bool:
    """Whether an axis has one length in all of them."""
    sizes: dict[str, int] = {}
    return all(sizes.setdefault(axis, size) == size for body in bodies for axis, size in body.sizes.items())


def _with_inputs(body: Function, inputs: tuple[Leaf, ...]) -> Function:
    return body if body.inputs == inputs else replace(body, inputs=inputs)


def _with_returns(body: Function, returns: tuple[Axes, ...]) -> Function:
    return replace(body, returns=returns)


def _shared_objects(bodies: tuple[Function, ...]) -> tuple[Function, ...]:
    """Bodies that say the same are the same object."""
    seen: dict[object, Function] = {}
    result: list[Function] = []
    for body in bodies:
        parameters = tuple((p.name, p.axes, p.initial, p.decays) for p in body.parameters)
        key = (body.inputs, parameters, body.bindings, body.outputs, tuple(body.sizes.items()))
        result.append(seen.setdefault(key, body))
    return tuple(result)
