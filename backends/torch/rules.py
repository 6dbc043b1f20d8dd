"""Printing a rule: its stages, and the class with its states, one token and the whole sequence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from string import ascii_lowercase

from seqc.ir.expr import Apply, Axes, DType, Expr, Leaf, LeafKind
from seqc.ir.plan import RESET, Plan, Stage
from seqc.ir.recurrence import Recurrence, State
from seqc.ir.traverse import children, depends_on, leaves, substitute, walk
from seqc.passes.cells import WIDEST
from seqc.passes.influence import Trace

from .attention import PrintedAttention, print_attention, print_store_token, store_axis
from .cells import Cell, find_cell, print_recurrent
from .expressions import Scope
from .layout import split_statement
from .names import RESERVED, Names, identifier
from .primitives import ATOM, Code
from .reading import all_axes, merged_order
from .splice import pieces
from .stages import WIDTH, print_stage, stage_class
from .values import Value

BASE = frozenset({*RESERVED, *pieces(), "flags", "stages"})
MOVES = frozenset(
    {"complex", "real", "imag", "neg", "abs", "relu", "max", "min", "where"}
)  # operations that do not round
LOOPS = ("reference", "step")


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of PyTorch that a module makes: its name there, and the class that says what it does."""

    name: str
    owner: str


@dataclass(frozen=True, slots=True)
class PrintedRule:
    """The text of a rule's class and of what it calls, and the class's name.

    `given` are the parameters that callers pass in; `stages` are the operators of the plan's stages, and `attention`
    that which reads growing stores.
    """

    name: str
    text: str
    recurrence: Recurrence
    given: tuple[str, ...]
    stages: tuple[Operator, ...]
    attention: Operator | None


def print_rule(
    rec: Recurrence,
    plan: Plan | None,
    names: Names,
    given: Sequence[str] = (),
    public: bool = False,
    place: str = "",
    traces: Sequence[Trace] | None = None,
) -> PrintedRule:
    """A rule as a class; without a plan, a sequence runs token after token.

    `given` are the parameters that callers pass in, after the inputs.  `public` adds the interface of a rule on its
    own; `place` says where it comes from.  With `traces` among its states it learns online.
    """
    if rec.stores:
        store_axis(rec)
    name = names.fresh_class(rec.name)
    printer = _RulePrinter(rec, plan, name, tuple(given), find_cell(rec, plan, given), traces=traces)
    lines: list[str] = []
    stages: list[Operator] = []
    attention: Operator | None = None
    if plan is not None:
        for k, stage in enumerate(plan.stages):
            class_text = names.fresh_class(stage_class(rec.name, stage))
            doc = f"{_listed([s.name for s in stage.carried])}: {_pace(stage)}."
            text = print_stage(stage, plan.adjoints[k] if plan.adjoints else None, class_text, doc)
            content = "\n".join(text)
            operator = names.fresh(f"{identifier(rec.name)}_{identifier(stage.name)}")
            key = f"{operator}_{hashlib.sha256(content.encode()).hexdigest()[:12]}"
            stages.append(Operator(operator, class_text))
            lines += [
                *text,
                "",
                "",
                *split_statement(f'{operator} = operator({class_text}, "{key}")', WIDTH),
                "",
                "",
            ]
        if rec.stores:
            operator = names.fresh(f"{identifier(rec.name)}_attention")
            attention = Operator(operator, names.fresh_class(f"{rec.name}_attention"))
            outputs = plan.outputs[: len(rec.outputs)]
            printer.attention = print_attention(rec, outputs, attention.owner, operator)
            lines += printer.attention.text
    if printer.cell is not None:
        printer.operator = names.fresh(f"{identifier(rec.name)}_cell")
        lines += [f'{printer.operator} = cell_operator("{printer.cell.kind}", "{printer.cell.key}")', "", ""]
    if place:
        lines.append(f"# {place}")
    lines += printer.header()
    lines += printer.initial()
    lines += printer.token()
    if plan is not None:
        lines += [*printer.recurrent(), *printer.sequence(plan, [stage.name for stage in stages])]
    if public:
        lines += printer.interface()
    return PrintedRule(name, "\n".join(lines), rec, tuple(given), tuple(stages), attention)


def print_course(rec: Recurrence, plan: Plan, given: Sequence[str], name: str, doc: str) -> list[str]:
    """A class with the method that goes through a sequence by operators that it is handed, one a stage.

    It is called with another class's instance, whose parameters it takes, with states in the precision that results
    have, and with `flags` for `RESET`.  What parameters alone give it computes in double precision, and rounds then:
    differences of nearby numbers, as of a gate that is almost 1, lose digits.
    """
    values = [item.value for stage in plan.stages for item in stage.inputs]
    exact = {
        x: Leaf(LeafKind.READ, f"%exact{k}", x.axes, x.dtype)
        for k, x in enumerate(_rounded([*values, *plan.outputs]))
    }

    def over(stage: Stage) -> Stage:
        found = substitute([item.value for item in stage.inputs], exact)
        inputs = zip(stage.inputs, found, strict=True)
        return replace(stage, inputs=tuple(replace(item, value=value) for item, value in inputs))

    outputs = substitute(plan.outputs, exact)
    plan = replace(plan, stages=tuple(map(over, plan.stages)), outputs=outputs)
    first = plan.stages[0].carried[0]
    like = f'state["{first.name}"]' + (".real" if first.dtype is DType.COMPLEX else "")
    printer = _RulePrinter(rec, plan, name, tuple(given), like=like, resets="flags")
    printer.exact = {leaf: value for value, leaf in exact.items()}
    operators = [f"stages[{k}]" for k in range(len(plan.stages))]
    arguments = ", flags: Tensor, stages: Sequence[Callable[..., list[Tensor]]]"
    return [f"class {name}(Weights):", f'    """{doc}"""', *printer.sequence(plan, operators, arguments)]


def _rounded(roots: Sequence[Expr]) -> list[Expr]:
    """The largest parts that operations which round give of parameters alone."""
    known = leaves(roots)
    given = depends_on(roots, known)
    varying = depends_on(roots, [leaf for leaf in known if leaf.kind is not LeafKind.PARAM])
    found, seen, stack = list[Expr](), set[Expr](), [*roots]
    while stack:
        node = stack.pop()
        if node in seen or node not in given:
            continue
        seen.add(node)
        if node in varying or node.dtype is DType.BOOL:
            stack.extend(children(node))
        elif any(isinstance(x, Apply) and x.op not in MOVES for x in walk([node])):
            found.append(node)
    return found


def argument_names(inputs: Iterable[str]) -> list[str]:
    """What `forward` and `step` call inputs: `self`, `reset` and words of Python gain a `_`."""
    names = Names({"self", "state", "reset", "outputs"})
    return [names.fresh(name) for name in inputs]


def targets_text(names: Sequence[str]) -> str:
    """What a tuple is unpacked into."""
    return f"({names[0]},)" if len(names) == 1 else ", ".join(names)


def _strings(names: Sequence[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"({quoted}{',' if len(names) == 1 else ''})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _pace(stage: Stage) -> str:
    if stage.newton is not None:
        return "all tokens at once, by Newton's iteration"
    if stage.block == 1:
        return "a token at a time"
    return "the whole sequence" if stage.block == 0 else f"{stage.block} tokens at a time"


def signature(rec: Recurrence) -> str:
    """`gated_delta(q[n], k[n], alpha) -> [m]`."""
    inputs = ", ".join(
        f"{leaf.name}[{', '.join(leaf.axes)}]" if leaf.axes else leaf.name for leaf in rec.inputs
    )
    outputs = ", ".join(f"[{', '.join(axes)}]" for axes in rec.returns)
    return f"{rec.name}({inputs}) -> {outputs}"


@dataclass(slots=True)
class _RulePrinter:
    rec: Recurrence
    plan: Plan | None
    name: str
    given: tuple[str, ...]
    cell: Cell | None = None
    operator: str = ""  # of the cell
    attention: PrintedAttention | None = None
    traces: Sequence[Trace] | None = None
    like: str = ""  # what says on which device and how exact numbers are, where that is not the first input
    resets: str = ""  # the flags of `RESET`, where they are not `reset` itself
    exact: Mapping[Expr, Expr] = field(
        default_factory=dict[Expr, Expr]
    )  # leaves for what is double precision

    def header(self) -> list[str]:
        rec = self.rec
        ranks = ", ".join(str(len(leaf.axes)) for leaf in rec.inputs) or "0"
        comma = "," if len(rec.inputs) <= 1 else ""
        lines = [
            f"class {self.name}({self._base}):",
            f'    """{signature(rec)}"""',
            "",
            f"    ranks = ({ranks}{comma})",
        ]
        states = [f'"{s.name}"' for s in rec.states] + [f'"{s.name}"' for s in rec.stores]
        states += [f'"{s.name}.count"' for s in rec.stores]
        comma = "," if len(states) == 1 else ""
        lines += split_statement(f"states = ({', '.join(states)}{comma})", WIDTH, 4)
        if rec.stores:
            stores = ", ".join(f'"{s.name}"' for s in rec.stores)
            lines.append(f"    stores = ({stores}{',' if len(rec.stores) == 1 else ''})")
        if self.traces is not None:
            rows = ", ".join(f'"{trace.own.name}": {_row(trace)}' for trace in self.traces)
            lines += split_statement(f"traces = {{{rows}}}", WIDTH, 4)
        if self.cell is not None:
            lines += [f'    kind = "{self.cell.kind}"', f"    operator = staticmethod({self.operator})"]
            lines += [f"    gates = {self.cell.gates}", f"    carried = {_strings(self.cell.carried)}"]
            lines.append(f"    widest = {WIDEST}")
        own = [p for p in rec.parameters if p.name not in self.given]
        if own:
            from .initial import print_constructor

            lines += print_constructor(own, rec.sizes)
        return lines

    @property
    def _base(self) -> str:
        if self.traces is not None:
            return "OnlineRule"
        return "Rule" if self.cell is None else "CellRule"

    # --- pieces -----------------------------------------------------------------------------------------------------

    def scope(
        self, roots: Sequence[Expr], known: Sequence[Axes], names: Names, autograd: bool = True
    ) -> Scope:
        order = merged_order([*known, *self._declared(), *all_axes(roots)])
        like = self.like or (self.locals[0] if self.locals else "like")
        scope = Scope(names, order, self.rec.sizes, like, autograd=autograd, width=WIDTH - 8)
        scope.special = special
        return scope

    def _declared(self) -> list[Axes]:
        rec = self.rec
        return [*(s.axes for s in rec.states), *rec.returns, *(leaf.axes for leaf in rec.inputs)]

    @property
    def locals(self) -> list[str]:
        """The inputs' names inside methods."""
        names = Names({*BASE, "state", "reset"})
        return [names.fresh(leaf.name) for leaf in self.rec.inputs] or ["clock"]

    @property
    def given_locals(self) -> list[str]:
        names = Names({*BASE, *self.locals})
        return [names.fresh(name.split(".")[-1]) for name in self.given]

    def bind(self, scope: Scope, roots: Sequence[Expr]) -> None:
        """Inputs, and the parameters that `roots` use, under names of their own."""
        for leaf, name in zip(self.rec.inputs, self.locals, strict=False):
            scope.bind(leaf, name)
        self.bind_parameters(scope, roots)

    def bind_exact(self, scope: Scope) -> None:
        """What `exact` stands for, computed in double precision."""
        if not self.exact:
            return
        roots = list(self.exact.values())
        inner = self.scope(roots, [], scope.names)
        inner.like = scope.names.fresh("wide")
        inner.lines.append(f"{inner.like} = {scope.like}[:0].double()")
        self.bind_parameters(inner, roots, cast=".double()")
        for leaf, value in zip(self.exact, inner.emit(roots), strict=True):
            kind = f"{scope.like}.dtype{'.to_complex()' if leaf.dtype is DType.COMPLEX else ''}"
            name = scope.names.fresh("rounded")
            inner.lines.append(f"{name} = {value.code.at(ATOM)}.to({kind})")
            scope.known[leaf] = replace(value, code=Code(name))
        scope.lines += inner.lines

    def bind_parameters(
        self, scope: Scope, roots: Sequence[Expr], like: str | None = None, cast: str = ""
    ) -> None:
        used = leaves(roots)
        given = dict(zip(self.given, self.given_locals, strict=True))
        for parameter in self.rec.parameters:
            if parameter.leaf not in used:
                continue
            if parameter.name in given:
                scope.bind(parameter.leaf, f"{given[parameter.name]}{cast}", lead=False)
                continue
            name = scope.names.fresh(
                parameter.name.split(".")[-1] if len(self.rec.parameters) < 9 else parameter.name
            )
            scope.lines.append(f'{name} = self.exact("{parameter.name}", {like or scope.like})')
            scope.bind(parameter.leaf, name, lead=False)

    def arguments(self) -> str:
        return "".join(f", {name}: Tensor" for name in (*self.locals, *self.given_locals))

    # --- methods ----------------------------------------------------------------------------------------------------

    def initial(self) -> list[str]:
        rec = self.rec
        names = Names({*BASE, *self.given_locals})
        scope = self.scope([s.initial for s in rec.states], [], names)
        scope.like = "self.like"
        roots = [s.initial for s in rec.states]
        self.bind_parameters(scope, roots)
        values = scope.emit(roots)
        rows = [f'"{s.name}": {self._initial(scope, s, v)}' for s, v in zip(rec.states, values, strict=True)]
        for store in rec.stores:
            sizes = "".join(f", {rec.sizes[a]}" for a in store.axes)
            entries = store.sinks + store.window - 1 if store.window is not None else 0
            rows.append(f'"{store.name}": self.zeros(batch, {entries}{sizes})')
            rows.append(f'"{store.name}.count": self.counts(batch)')
        arguments = "".join(f", {name}: Tensor" for name in self.given_locals)
        return [
            "",
            *split_statement(f"def initial(self, batch: int{arguments}) -> States:", WIDTH, 4),
            *(f"        {line}" for line in scope.lines),
            *split_statement(f"return {{{', '.join(rows)}}}", WIDTH, 8),
        ]

    def _initial(self, scope: Scope, state: State, value: Value) -> str:
        sizes = "".join(f", {self.rec.sizes[a]}" for a in state.axes)
        more = ", complex=True" if state.dtype is DType.COMPLEX else ""
        if value.code.number:
            fill = "" if value.code.text == "0.0" else f" + {value.code.text}"
            zeros = f"self.zeros(batch{sizes}{more})"
            return zeros if not fill else f"{zeros}{fill}".replace("+ -", "- ")
        text = scope.aligned(value, state.axes, False, every=True).text
        return f"self.zeros(batch{sizes}{more}) + {text}"

    def token(self) -> list[str]:
        """One token, straight from the equations."""
        rec = self.rec
        names = Names({*BASE, *self.locals, *self.given_locals})
        roots = [*rec.updates, *rec.outputs, *(s.value for s in rec.stores)]
        scope = self.scope(roots, [], names)
        self.bind(scope, roots)
        used = leaves(roots)
        for state in rec.states:
            if state.leaf in used:
                name = names.fresh(state.name)
                scope.lines.append(f'{name} = state["{state.name}"]')
                scope.bind(state.leaf, name)
        results = [f'"{s.name}": {text}' for s, text in self._updates(scope)]
        exprs = rec.outputs
        if rec.stores:
            more, exprs = print_store_token(rec, scope)
            results += more
        values = scope.emit(list(exprs))
        lead = self._lead(scope)
        outputs = [scope.full(v, axes, lead).text for v, axes in zip(values, rec.returns, strict=True)]
        return self._method("token" if self.traces is None else "traced", "", scope, outputs, results)

    def _updates(self, scope: Scope) -> list[tuple[State, str]]:
        """The updates in an order in which each finds the new states that it refers to."""
        rec, done = self.rec, dict[str, str]()
        left = list(zip(rec.states, rec.updates, strict=True))
        while left:
            state, update = next((s, u) for s, u in left if _needs(u) <= set(done))
            left.remove((state, update))
            value = scope.emit([update], [f"{identifier(state.name)}_new"])[0]
            text = scope.full(value, state.axes, self._lead(scope)).text
            if not text.isidentifier():
                name = scope.names.fresh(f"{state.name}_new")
                scope.line(f"{name} = {text}")
                text = name
            scope.bind(state.next, text, axes=state.axes)
            done[state.name] = text
        return [(state, done[state.name]) for state in rec.states]

    def _lead(self, scope: Scope) -> str:
        rank = len(self.rec.inputs[0].axes) if self.rec.inputs else 0
        return f"*{self.locals[0]}.shape[:-{rank}], " if rank else f"*{self.locals[0]}.shape, "

    def _method(
        self, name: str, more: str, scope: Scope, outputs: Sequence[str], results: Sequence[str]
    ) -> list[str]:
        head = (
            f"def {name}(self, state: States{more}{self.arguments()}) -> tuple[tuple[Tensor, ...], States]:"
        )
        lines = ["", *split_statement(head, WIDTH, 4), *(f"        {line}" for line in scope.lines)]
        texts: list[str] = []
        for k, text in enumerate(outputs):
            if len(text) > 40 or not text.isidentifier():
                name = scope.names.fresh("out" if len(outputs) == 1 else f"out{k}")
                lines += split_statement(f"{name} = {text}", WIDTH, 8)
                text = name
            texts.append(text)
        comma = "," if len(texts) == 1 else ""
        body = f"return ({', '.join(texts)}{comma}), {{{', '.join(results)}}}"
        return [*lines, *split_statement(body, WIDTH, 8)]

    def sequence(self, plan: Plan, operators: Sequence[str], arguments: str = "") -> list[str]:
        """`arguments` are further ones of the method."""
        rec = self.rec
        names = Names({*BASE, *self.locals, *self.given_locals, *operators})
        roots = [*plan.outputs, *(item.value for stage in plan.stages for item in stage.inputs)]
        scope = self.scope(roots, [r.leaf.axes for stage in plan.stages for r in stage.reads], names)
        self.bind(scope, roots)
        if any(leaf is RESET for leaf in leaves(roots)):
            flags = self.resets or f"resets(reset, {scope.like})"
            scope.known[RESET] = Value(Code(flags), (), True, DType.BOOL)
        self.bind_exact(scope)
        first = self.locals[0]
        scope.lines.insert(0, f"lead = {first}.shape[:2]")
        finals: dict[str, str] = {}
        for stage, operator in zip(plan.stages, operators, strict=True):
            self._stage_call(scope, stage, operator, finals)
        results = [f'"{s.name}": {finals.get(s.name, _state_text(s))}' for s in rec.states]
        name = "sequence" if self.cell is None else "loop"
        if rec.stores:
            outputs, more = self._attention_call(plan, scope)
            return self._method(name, ", reset: Tensor | None", scope, outputs, [*results, *more])
        values = scope.emit(list(plan.outputs))
        outputs = [scope.full(v, axes).text for v, axes in zip(values, rec.returns, strict=True)]
        return self._method(name, f", reset: Tensor | None{arguments}", scope, outputs, results)

    def recurrent(self) -> list[str]:
        """The weights and biases of a cell's state."""
        if self.cell is None:
            return []
        roots = [*(weight for weight, _ in self.cell.weights), *self.cell.biases]
        scope = self.scope(roots, [], Names({*BASE}))
        scope.like = "like"
        self.bind_parameters(scope, roots)
        return print_recurrent(self.cell, scope)

    def _attention_call(self, plan: Plan, scope: Scope) -> tuple[list[str], list[str]]:
        """Append to the stores and read them; texts of the outputs and of the stores' states."""
        rec, printed = self.rec, self.attention
        assert printed is not None
        count = len(rec.outputs)
        values = scope.emit([*plan.outputs[count:], *printed.queries])
        lines, names, results = scope.lines, list[str](), list[str]()
        first, window, sinks = rec.stores[0], rec.stores[0].window, rec.stores[0].sinks
        cached = f'state["{first.name}"].shape[1]' + (f" - {sinks}" if sinks else "")
        lines.append(f'start, count = begins(state["{first.name}.count"], reset, lead[1], {cached})')
        for store, value in zip(rec.stores, values, strict=False):
            name = scope.names.fresh(store.name)
            entry = scope.full(value, store.axes).text
            lines += split_statement(f'{name} = torch.cat([state["{store.name}"], {entry}], 1)', WIDTH - 8)
            # A copy: the state would hold the entries of the whole sequence otherwise.
            kept = name if window is None else f"kept({name}, count, {window}, {sinks}).clone()"
            results += [f'"{store.name}": {kept}', f'"{store.name}.count": count']
            names.append(name)
        texts = [
            scope.full(v, expr.axes).text
            for v, expr in zip(values[len(rec.stores) :], printed.queries, strict=True)
        ]
        outs = [scope.names.fresh("out" if count == 1 else f"out{k}") for k in range(count)]
        given = f"[{', '.join(texts)}], [{', '.join(names)}], start"
        text = f"{targets_text(outs)} = {printed.operator}({given})"
        if printed.kind is not None:
            text = f"{targets_text(outs)} = read_softmax({printed.kind}, {printed.operator}, {given}, reset)"
        lines += split_statement(text, WIDTH - 8)
        return outs, results

    def _stage_call(self, scope: Scope, stage: object, operator: str, finals: dict[str, str]) -> None:
        assert isinstance(stage, Stage)
        values = scope.emit([item.value for item in stage.inputs])
        arguments: list[str] = []
        for item, value in zip(stage.inputs, values, strict=True):
            axes = tuple(a for a in item.leaf.axes if not a.startswith("%"))
            if item.constant:
                text = scope.arranged(value, axes).code.text
                if value.code.number or set(value.axes) != set(axes):
                    text = scope.expanded(value, axes, scope.like, "")
            else:
                text = scope.full(value, axes).text
            arguments.append(text)
        carried = [f'state["{s.name}"]' for s in stage.carried]
        reads = [scope.names.fresh("read" if len(stage.reads) == 1 else "read1") for _ in stage.reads]
        ends = [scope.names.fresh(f"{s.name}_end") for s in stage.carried]
        if stage.phase is not None:
            arguments.append(f"resets(reset, {scope.like})")
        for s, end in zip(stage.carried, ends, strict=True):
            finals[s.name] = end
        for read, name in zip(stage.reads, reads, strict=True):
            scope.bind(read.leaf, name)
        targets = targets_text([*reads, *ends])
        inner = f"[{', '.join(arguments)}], [{', '.join(carried)}]"
        text = f"advance({operator}, {len(reads) + len(ends)}, lead[1], {inner})"
        if len(targets) < 60:
            scope.lines += split_statement(f"{targets} = {text}", WIDTH - 8)
        else:
            head, *rest = split_statement(text, WIDTH - 16)
            scope.lines += ["(", *(f"    {name}," for name in (*reads, *ends)), f") = {head}", *rest]

    def interface(self) -> list[str]:
        """`forward` and `step` with inputs by name; nothing else in them could be called like an input."""
        rec, own = self.rec, argument_names(leaf.name for leaf in self.rec.inputs)
        inputs = "".join(f"{name}: Tensor, " for name in own)
        given = ", ".join(own) + ("," if len(own) == 1 else "")
        results = "outputs" if len(rec.returns) != 1 else "outputs[0]"
        kind = "tuple[Tensor, ...]" if len(rec.returns) != 1 else "Tensor"
        lines: list[str] = []
        more = "state: States | None = None, reset: Tensor | None = None"
        head = f"def forward(self, *, {inputs}{more}) -> tuple[{kind}, States]:"
        lines += ["", *split_statement(head, WIDTH, 4)]
        lines.append('        """A sequence; inputs [batch, time, …mapped axes, …axes]."""')
        lines += split_statement(f"outputs, state = self.whole(({given}), state, reset)", WIDTH, 8)
        lines.append(f"        return {results}, state")
        head = f"def step(self, *, {inputs}state: States | None = None) -> tuple[{kind}, States]:"
        lines += ["", *split_statement(head, WIDTH, 4)]
        lines.append('        """One token; inputs [batch, …mapped axes, …axes]."""')
        lines += split_statement(f"outputs, state = self.single(({given}), state)", WIDTH, 8)
        lines.append(f"        return {results}, state")
        return lines


def _needs(update: Expr) -> set[str]:
    """The states whose new values an update refers to."""
    return {leaf.name for leaf in leaves([update]) if leaf.kind is LeafKind.NEXT}


def _row(trace: Trace) -> str:
    """The state, the parameter, and the sum that takes gradients of the one to the other."""
    letters = dict(zip(trace.own.axes, ascii_lowercase, strict=False))
    state, whole, parameter = (
        "".join(letters[axis] for axis in axes)
        for axes in (trace.state.axes, trace.own.axes, trace.parameter.axes)
    )
    return f'("{trace.state.name}", "{trace.parameter.name}", "Z{state},Z{whole}->{parameter}")'


def _state_text(state: State) -> str:
    return f'state["{state.name}"]'


def special(scope: Scope, node: Expr) -> Value | None:
    """A choice by `RESET`, which costs nothing when there are no resets."""
    if not (isinstance(node, Apply) and node.op == "where" and node.args[0] is RESET):
        return None
    yes, no = (scope.value(arg) for arg in node.args[1:])
    axes = scope.sorted({*yes.axes, *no.axes})
    inside = scope.aligned(yes, axes, True, every=True)
    outside = scope.aligned(no, axes, True, every=True)
    if not no.lead or set(no.axes) != set(axes):
        outside = Code(scope.expanded(no, axes, scope.like, "*lead, "))
    text = f"at_reset(reset, {inside.text}, {outside.text})"
    return Value(Code(text), axes, True, node.dtype)
