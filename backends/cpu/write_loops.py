"""Printing the nests of a task as the body of a C++ function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from seqc.ir.expr import (
    Apply,
    At,
    Axes,
    Concat,
    Const,
    DType,
    Expr,
    Index,
    Leaf,
    Rename,
    Scan,
    Shift,
    Size,
    Slice,
    Solve,
    Take,
)
from seqc.ir.traverse import children

from .added import apart
from .diagnose import Unsupported
from .layout import Layout, View, dense
from .matrices import is_plain, operand, product_of
from .names import Names
from .nests import PRODUCT, SCAN, Nest, Nests, Statement, needs, nests
from .primitives import ADD, COMPARE, MUL, SPELLINGS, Code, number
from .program import Task
from .rewrite import MOVES, NUMBERS
from .write_matrices import multiplied, renamed, solved

LINE = 16  # numbers that are loaded from memory together
AUTOMATIC = 2048  # numbers that a buffer on the stack has at most
WIDE = 100  # characters of an expression that gets a name
Env = Mapping[str, Code]  # the index along an axis, where it is not the axis itself


@dataclass(slots=True)
class Body:
    """The text of a function's body, and how many numbers of scratch it needs."""

    lines: list[str]
    scratch: int
    unsafe: bool  # whether a state is read after, or elsewhere than, where it is written
    descends: bool  # whether it goes through memory from the end to the beginning


@dataclass(slots=True)
class Printer:
    """One task: `views` say where leaves are read and targets written; `mutable` leaves may be written in place.

    A `late` task is done for the last token first.
    """

    task: Task
    layout: Layout
    sizes: Mapping[str, int]
    rows: Axes
    views: Mapping[Leaf, View]
    mutable: Mapping[Leaf, Leaf]  # what a token overwrites, by what it writes there
    names: Names
    hints: Mapping[Expr, str] = field(default_factory=dict[Expr, str])
    late: bool = False
    plan: Nests = field(init=False)
    buffers: dict[Expr, View] = field(default_factory=dict[Expr, View])
    locals: dict[Expr, str] = field(default_factory=dict[Expr, str])
    loops: dict[str, str] = field(default_factory=dict[str, str])
    scratch: int = 0

    def arranged(self, axes: Sequence[str]) -> Axes:
        return tuple(a for a in self.layout.arranged(axes) if a not in self.rows)

    def body(self) -> Body:
        self.task = apart(self.task, self.arranged, self.mutable)
        self.plan = nests(self.task, self.arranged)
        for axis in dict.fromkeys(a for nest in self.plan.nests for a in nest.axes):
            self.loops[axis] = self.names.fresh(axis)
        lines: list[str] = []
        for nest in self.plan.nests:
            lines += self._matrices(nest) or _NestPrinter(self, nest).lines()
        return Body(lines, self.scratch, self._unsafe(), self.descends)

    @property
    def descends(self) -> bool:
        """Whether a single loop reads and writes all: addresses then fall from token to token and within each."""
        axis = self.layout.vector
        length = self.sizes.get(axis, 0)
        alone = [nest.axes for nest in self.plan.nests] == [(axis,)]
        simple = not any(s.over or s.alone for nest in self.plan.nests for s in nest.statements)
        return self.late and alone and simple and length > LINE and length % LINE == 0

    def buffer(self, statement: Statement, name: str) -> list[str]:
        """Make room for a value that outlives its loop; what declares it."""
        assert statement.node is not None
        self.buffers[statement.node] = dense(name, statement.axes, self.sizes)
        entries = prod(self.sizes[axis] for axis in statement.axes)
        if not statement.axes:
            return []
        if entries <= AUTOMATIC:
            return [f"real {name}[{entries}];"]
        self.scratch += entries
        return [f"real* const {name} = scratch + {self.scratch - entries};"]

    def index(self, view: View, env: Env) -> str:
        """`n * 64 + m`"""
        terms: list[str] = []
        for axis, stride in view.strides:
            at = env.get(axis) or Code(self.loops.get(axis, "0"))
            if at.text != "0" and stride:
                terms.append(at.at(ADD) if stride == 1 else f"{at.at(MUL)} * {stride}")
        return " + ".join(terms) or "0"

    def _matrices(self, nest: Nest) -> list[str]:
        """The call that computes a product of matrices or solves a triangular system."""
        statement = nest.statements[0]
        node, target = statement.node, statement.target
        if isinstance(node, Solve):
            if not is_plain(node, self.arranged):
                raise Unsupported("a triangular system has further axes")
            declared = self.buffer(statement, self.names.fresh("solved"))
            sides = self.place(node.matrix), self.place(node.rhs)
            return [*declared, solved(node, *sides, self.buffers[node], self.sizes)]
        found = None if node is None or statement.op != PRODUCT else product_of(node, self.arranged)
        if found is None or node is None:
            return []
        if target is None:
            declared = self.buffer(statement, self.names.fresh("product"))
            result, adds = self.buffers[node], False
        else:
            declared, adds = list[str](), target.adds
            result = renamed(self.views[target.leaf], operand(target.value)[1])
        sides = self.place(found.left), self.place(found.right)
        return [*declared, multiplied(found, *sides, result, self.sizes, adds)]

    def place(self, node: Expr) -> View:
        """Where a value lies, by the axes that it has there."""
        base, names = operand(node)
        return renamed(
            self.views[base] if isinstance(base, Leaf) else self.buffers[base],
            {o: n for n, o in names.items()},
        )

    def _unsafe(self) -> bool:
        """Whether something reads a state after it may have been overwritten."""
        written: dict[Leaf, int] = {}
        for k, nest in enumerate(self.plan.nests):
            for statement in nest.statements:
                if statement.target is not None and statement.target.leaf in self.mutable:
                    written.setdefault(self.mutable[statement.target.leaf], k)
        return any(
            isinstance(node, Leaf) and node in written and k + moved > written[node]
            for k, nest in enumerate(self.plan.nests)
            for statement in nest.statements
            for node, moved in needs(statement, self.plan.defined)
        )


@dataclass(slots=True)
class _NestPrinter:
    owner: Printer
    nest: Nest
    before: list[str] = field(default_factory=list[str])  # ahead of all loops
    heads: dict[int, list[str]] = field(
        default_factory=dict[int, list[str]]
    )  # within so many loops, ahead of the next
    tails: dict[int, list[str]] = field(default_factory=dict[int, list[str]])  # and after it
    inside: list[str] = field(default_factory=list[str])
    stores: list[str] = field(default_factory=list[str])
    reductions: list[str] = field(default_factory=list[str])
    shared: set[Expr] = field(default_factory=set[Expr])
    local: dict[Expr, str] = field(default_factory=dict[Expr, str])
    reads: dict[str, str] = field(default_factory=dict[str, str])  # entries at other places

    def lines(self) -> list[str]:
        self.shared = self._shared()
        for statement in self.nest.statements:
            self._state_reads(statement)
        for statement in self.nest.statements:
            if statement.target is not None:
                self._write(statement)
            elif statement.op == SCAN:
                self._scan(statement)
            elif statement.over:
                self._accumulate(statement)
            else:
                self._define(statement)
        return self._assembled()

    # --- statements -------------------------------------------------------------------------------------------

    def _name(self, statement: Statement) -> str:
        assert statement.node is not None
        return self.owner.names.fresh(
            self.owner.hints.get(statement.node) or ("x" if not statement.over else "sum")
        )

    def _define(self, statement: Statement) -> None:
        node, owner = statement.node, self.owner
        assert node is not None
        name = self._name(statement)
        value = self._value(statement.value, node).number
        if not statement.axes:
            owner.buffers[node] = View(name, ())
            self.inside.append(f"const real {name} = {value.text};")
            self.local[node] = name
            return
        if owner.plan.outlives(statement):
            self.before += owner.buffer(statement, name)
            inner = owner.names.fresh(f"{name}_here")
            self.inside.append(f"const real {inner} = {value.text};")
            self.stores.append(f"{name}[{owner.index(owner.buffers[node], {})}] = {inner};")
            name = inner
        else:
            self.inside.append(f"const real {name} = {value.text};")
        self.local[node] = name

    def _accumulate(self, statement: Statement) -> None:
        """A sum or a maximum: in a variable where all loops inside are reduced, else in its buffer."""
        node, owner = statement.node, self.owner
        assert node is not None
        name, axes, loops = self._name(statement), statement.axes, self.nest.axes
        self.before += owner.buffer(statement, name)
        depth = max((loops.index(axis) + 1 for axis in axes), default=0)
        entry = f"{name}[{owner.index(owner.buffers[node], {})}]" if axes else name
        zero = "0" if statement.op == "sum" else "-INFINITE"
        partial = set(loops[:depth]) != set(axes)
        if partial:
            self.before += _filled(owner, statement, name, zero)
        value = self._value(statement.value, None).number
        if depth == len(loops):
            self.stores.append(_combined(statement.op, entry, value))
            return
        total = name if not axes else owner.names.fresh(f"{name}_here")
        head = self.before if depth == 0 else self.heads.setdefault(depth, [])
        head.append(f"real {total} = {zero};")
        self.inside.append(_combined(statement.op, total, value))
        self.reductions.append(f"reduction({'+' if statement.op == 'sum' else 'max'} : {total})")
        if axes:
            line = _combined(statement.op, entry, Code(total)) if partial else f"{entry} = {total};"
            self.tails.setdefault(depth, []).append(line)

    def _scan(self, statement: Statement) -> None:
        """An entry from the one before it along an axis, which lies in the buffer."""
        node, owner = statement.node, self.owner
        assert isinstance(node, Scan)
        name, at = self._name(statement), owner.loops[node.axis]
        self.before += owner.buffer(statement, name)
        view, past = owner.buffers[node], Code(f"{at} {'+' if node.reverse else '-'} 1", ADD)
        inner = f"{at} < {owner.sizes[node.axis] - 1}" if node.reverse else f"{at} > 0"
        decay, source = (self._code(x, {}).number for x in (node.decay, node.source))
        before = f"{name}[{owner.index(view, {node.axis: past})}]"
        carried = Code(f"{inner} ? {decay.at(MUL)} * {before} : 0", 0)
        self.stores.append(f"{name}[{owner.index(view, {})}] = {source.at(ADD)} + {carried.at(MUL)};")

    def _write(self, statement: Statement) -> None:
        target = statement.target
        assert target is not None
        view = self.owner.views[target.leaf]
        value = self._value(statement.value, None).number
        entry = f"{view.name}[{self.owner.index(view, {})}]"
        self.stores.append(f"{entry} {'+=' if target.adds else '='} {value.text};")

    # --- expressions ------------------------------------------------------------------------------------------

    def _value(self, value: Expr, own: Expr | None) -> Code:
        """The code of an expression at the nest's indices; `own` is the value that it defines."""
        if isinstance(value, Apply) and value is own:
            return SPELLINGS[value.op]([self._code(arg, {}) for arg in value.args])
        return self._code(value, {})

    def _code(self, node: Expr, env: Env) -> Code:
        if not env and node in self.local:
            return Code(self.local[node])
        code = self._plain(node, env)
        if env or isinstance(node, NUMBERS):
            return code
        if node in self.shared or len(code.text) > WIDE:
            name = self.owner.names.fresh("y")
            kind = "bool" if code.truth else "real"
            self.inside.append(f"const {kind} {name} = {code.text};")
            self.local[node] = name
            return Code(name, truth=code.truth)
        return code

    def _plain(self, node: Expr, env: Env) -> Code:
        owner = self.owner
        if node in owner.plan.defined:
            return self._read(owner.buffers[node], env)
        match node:
            case Leaf():
                code = self._read(owner.views[node], env)
                return Code(f"{code.text} != 0", COMPARE, True) if node.dtype is DType.BOOL else code
            case Const():
                return number(node.value)
            case Size():
                return number(float(owner.sizes[node.axis] if node.axis not in owner.rows else 1))
            case Index():
                return Code(f"real({(env.get(node.axis) or Code(owner.loops[node.axis])).text})")
            case Apply():
                return SPELLINGS[node.op]([self._code(arg, env) for arg in node.args])
            case _:
                return self._moved(node, env)

    def _read(self, view: View, env: Env) -> Code:
        if not view.strides and view.name not in self.owner.names.pointers:
            return Code(view.name)
        return Code(f"{view.name}[{self.owner.index(view, env)}]")

    def _at(self, axis: str, env: Env) -> Code:
        return env.get(axis) or Code(self.owner.loops.get(axis, "0"))

    def _moved(self, node: Expr, env: Env) -> Code:
        """An entry read at another place, or 0 where there is none."""
        match node:
            case Rename():
                back = {new: old for old, new in node.pairs}
                kept = {axis: at for axis, at in env.items() if axis not in back}
                return self._code(
                    node.arg, {**kept, **{old: self._at(new, env) for new, old in back.items()}}
                )
            case Slice():
                at = self._at(node.new, env)
                moved = Code(f"{at.at(ADD)} + {node.start}", ADD) if node.start else at
                return self._code(node.arg, {**env, node.axis: moved})
            case At():
                place = node.index if node.index >= 0 else self.owner.sizes[node.axis] + node.index
                return self._code(node.arg, {**env, node.axis: Code(str(place))})
            case Shift():
                at = self._at(node.axis, env)
                source = Code(
                    f"{at.at(ADD)} - {node.by}" if node.by >= 0 else f"{at.at(ADD)} + {-node.by}", ADD
                )
                edge = (
                    f"{at.at(ADD)} >= {node.by}"
                    if node.by >= 0
                    else _below(source, self.owner.sizes[node.axis])
                )
                return _if(edge, self._nearest(node.arg, node.axis, source, env))
            case Concat():
                return self._joined(node, env)
            case Take():
                return self._taken(node, env)
            case _:
                raise AssertionError(type(node))

    def _joined(self, node: Concat, env: Env) -> Code:
        at, total = self._at(node.axis, env), Code("0")
        for part, start, arg in reversed(list(zip(node.parts, node.starts, node.args, strict=True))):
            end = start + self.owner.sizes[part]
            source = Code(f"{at.at(ADD)} - {start}", ADD) if start else at
            rest = {axis: code for axis, code in env.items() if axis != node.axis}
            here = self._nearest(arg, part, source, rest)
            total = Code(f"{at.at(ADD)} >= {start} && {at.at(ADD)} < {end} ? {here.text} : {total.text}", 0)
        return total

    def _taken(self, node: Take, env: Env) -> Code:
        place = self._code(node.index, env).number
        inside = f"{place.at(ADD)} >= 0 && {_below(place, self.owner.sizes[node.axis])}"
        source = Code(f"static_cast<int>({place.text})")
        return _if(inside, self._nearest(node.arg, node.axis, source, env))

    def _nearest(self, node: Expr, axis: str, place: Code, env: Env) -> Code:
        """An entry at a place along an axis, or at the nearest one that there is.

        It is read whatever a condition says that chooses it: GCC 12 makes vector code of a condition on a place within
        another one that reads wrong entries of double precision.
        """
        nearest = Code(f"math::nearest({place.text}, {self.owner.sizes[axis]})")
        value = self._code(node, {**env, axis: nearest}).number
        if value.text not in self.reads:
            self.reads[value.text] = self.owner.names.fresh("y")
            self.inside.append(f"const real {self.reads[value.text]} = {value.text};")
        return Code(self.reads[value.text])

    # --- what is used twice -------------------------------------------------------------------------------------

    def _shared(self) -> set[Expr]:
        """The nodes with two users in this nest."""
        count: dict[Expr, int] = {}
        stack: list[Expr] = []
        defined = self.owner.plan.defined
        for statement in self.nest.statements:
            own = statement.value is statement.node
            stack += children(statement.value) if own else [statement.value]
        while stack:
            node = stack.pop()
            count[node] = count.get(node, 0) + 1
            if count[node] == 1 and not isinstance(node, (Leaf, *MOVES)) and node not in defined:
                stack.extend(children(node))
        return {node for node, uses in count.items() if uses > 1}

    def _state_reads(self, statement: Statement) -> None:
        """States that this nest reads where it may write them: read before anything is written."""
        owner = self.owner
        for node, moved in needs(statement, owner.plan.defined):
            if isinstance(node, Leaf) and not moved and node in owner.mutable.values():
                self.shared.add(node)

    def _assembled(self) -> list[str]:
        lines, loops, owner = list(self.before), self.nest.axes, self.owner
        inner = [*self.inside, *self.stores]
        if not loops:
            return [*lines, *inner]
        if owner.descends:
            return [*lines, *self._by_lines(inner)]
        for depth, axis in enumerate(loops):
            indent = "    " * depth
            lines += [f"{indent}{line}" for line in self.heads.get(depth, [])]
            scan = self.nest.statements[0].node
            along = isinstance(scan, Scan) and scan.axis == axis
            if depth == len(loops) - 1 and not along:
                lines.append(f"{indent}#pragma omp simd {' '.join(self.reductions)}".rstrip())
            name, size = owner.loops[axis], owner.sizes[axis]
            back = along and isinstance(scan, Scan) and scan.reverse
            turns = f"{name} = {size - 1}; {name} >= 0; --" if back else f"{name} = 0; {name} < {size}; ++"
            lines.append(f"{indent}for (int {turns}{name}) {{")
        lines += [f"{'    ' * len(loops)}{line}" for line in inner]
        for depth in reversed(range(len(loops))):
            lines.append(f"{'    ' * depth}}}")
            lines += [f"{'    ' * depth}{line}" for line in self.tails.get(depth, [])]
        return lines

    def _by_lines(self, inner: Sequence[str]) -> list[str]:
        """The one loop from its end on, though not within what is loaded together."""
        (axis,), owner = self.nest.axes, self.owner
        first, name, last = owner.names.fresh("line"), owner.loops[axis], owner.sizes[axis] - LINE
        return [
            f"for (int {first} = {last}; {first} >= 0; {first} -= {LINE}) {{",
            "    #pragma omp simd",
            f"    for (int {name} = {first}; {name} < {first} + {LINE}; ++{name}) {{",
            *(f"        {line}" for line in inner),
            "    }",
            "}",
        ]


def _filled(owner: Printer, statement: Statement, name: str, value: str) -> list[str]:
    entries = prod(owner.sizes[axis] for axis in statement.axes)
    return [f"std::fill_n({name}, {entries}, real({value}));"]


def _combined(op: str, total: str, value: Code) -> str:
    if op == "sum":
        return f"{total} += {value.text};"
    return f"{total} = math::larger({value.text}, {total});"


def _below(place: Code, length: int) -> str:
    return f"{place.at(ADD)} < {length}"


def _if(condition: str, value: Code) -> Code:
    return Code(f"{condition} ? {value.text} : 0", 0)
