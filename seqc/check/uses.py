"""How items are used: made-up numbers for checking them alone, and small questions about them."""

from __future__ import annotations

from seqc.check import builtins
from seqc.check.context import Number
from seqc.check.limits import MADE_UP
from seqc.check.session import Definition, Given, Signature, fix_settings
from seqc.diagnostics import Bag
from seqc.ir.expr import Conv, Dropout, DType, Flip, Gather, Invoke, Item, Leaf, LeafKind, Pool
from seqc.ir.program import Function
from seqc.ir.traverse import walk
from seqc.syntax import tree


def made_up(definition: Definition, bag: Bag) -> Signature:
    """A use of an item for checking it alone: every number that nothing gives is made up."""
    node = definition.node
    defaults = {s.name.text: s.default for s in node.settings}
    declared = [axis for axes in definition.declared.values() for axis in axes]
    lengths = {axis: MADE_UP for axis in declared if axis not in defaults}
    missing = {name: MADE_UP for name, default in defaults.items() if default is None}
    given = Given(missing, lengths, frozenset((*lengths, *missing)))
    known, unsure = fix_settings(bag, definition, given, node.name.span)
    sizes = {axis: _made_up_size(known[axis]) for axis in declared}
    tokens = {name for name in definition.declared if is_tokens(node, name)}
    inputs = tuple(
        (axes, DType.INT if name in tokens else DType.REAL) for name, axes in definition.declared.items()
    )
    return Signature(tuple(known.items()), tuple(sizes.items()), inputs, made_up=unsure)


def _made_up_size(value: Number) -> int:
    return int(value) if float(value).is_integer() and 1 <= value <= 2**24 else MADE_UP


def is_tokens(node: tree.Rule | tree.Block | tree.Model, name: str) -> bool:
    """Whether a value of a header is a sequence of tokens: one without axes that a model takes, or that is embedded."""
    if isinstance(node, tree.Rule):
        return False
    value = next(v for v in node.values if v.name.text == name)
    if value.axes:
        return False
    if isinstance(node, tree.Model):
        return True
    return any(
        isinstance(call, tree.Call)
        and call.callee.name == "embed"
        and bool(call.args)
        and isinstance(call.args[0], tree.Name)
        and call.args[0].name == name
        for call in tree.walk(node)
    )


def needs_axes(node: tree.Expr) -> bool:
    """Whether an expression waits to be told which axes it has to produce."""
    match node:
        case tree.Bracket(value=value):
            return needs_axes(value)
        case tree.Unary(op="-", operand=operand):
            return needs_axes(operand)
        case tree.Call(result=None):
            if node.callee.name in {"linear", "embed"}:
                return True
            several = len(node.args) + len(node.keywords) > 1 and node.callee.name not in builtins.SEQUENCE
            return bool(node.args) and not several and needs_axes(node.args[0])
        case _:
            return False


def is_pure(function: Function) -> bool:
    """Whether a block only computes: no parameters, no calls, nothing that looks at other tokens."""
    if function.parameters:
        return False
    looks_around = (Invoke, Item, Conv, Dropout, Flip, Gather, Pool)
    return not any(
        isinstance(node, looks_around) or (isinstance(node, Leaf) and node.kind is not LeafKind.INPUT)
        for node in walk(function.outputs)
    )
