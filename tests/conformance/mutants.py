"""Faults put into emitted Python: one at a time, of every kind that an emitted operation can have.

A mutant keeps the text runnable: a sign flipped, a factor dropped, a function left out, branches of a choice
exchanged, a shift by one token more, a scan the other way, axes exchanged, a constant 0 for 1.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

# Methods that hold what was emitted for one spec; the rest of the classes is the same in every file.
EMITTED = frozenset(
    [
        *("initial", "token", "sequence", "loop", "recurrent", "forward", "body", "attend"),
        *("pre", "update", "reads", "back_pre", "direct", "back", "cotangents"),
    ]
)
BASES = frozenset({"Rule", "CellRule", "Stage", "Block", "Network", "Attention", "SoftmaxAttention"})
# Functions of the runtime that compute, rather than carry things about.
COMPUTING = frozenset(
    ["shift", "scan", "running_sum", "running_max", "solve_unit", "at_reset", "restarted", "causal_conv"]
)
# Calls whose arguments are dimensions and lengths, not values.
SHAPING = frozenset(
    {"flatten", "unflatten", "narrow", "view", "reshape", "expand", "new_full", "new_zeros", "range"}
)


@dataclass(frozen=True)
class Mutant:
    """`kind` names the operation and the fault, `place` the function and the line it is in."""

    kind: str
    place: str
    text: str


def mutants(text: str) -> Iterator[Mutant]:
    """Every mutant of an emitted module."""
    tree = ast.parse(text)
    for function in _functions(tree):
        for parent in _computing(function):
            for field, index, node in _below(parent):
                for kind, replacement in _faults(node):
                    _put(parent, field, index, replacement)
                    place = f"{function.name}:{getattr(node, 'lineno', 0)}"
                    yield Mutant(kind, place, _renamed(ast.unparse(ast.fix_missing_locations(tree))))
                    _put(parent, field, index, node)


def _computing(function: ast.FunctionDef) -> list[ast.AST]:
    """The nodes of a function, less those that reckon with shapes."""
    found: list[ast.AST] = []
    pending: list[ast.AST] = [*function.body]
    while pending:
        node = pending.pop(0)
        found.append(node)
        pending.extend(item for _, _, item in _below(node))
    return found


def _name(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _below(parent: ast.AST) -> list[tuple[str, int | None, ast.AST]]:
    """The nodes directly below another, and where they hang; conditions, dimensions and lengths left out."""
    found: list[tuple[str, int | None, ast.AST]] = []
    for field, value in ast.iter_fields(parent):
        if field in _shapes(parent):
            continue
        if isinstance(value, ast.AST):
            found.append((field, None, value))
        elif isinstance(value, list):
            found.extend((field, i, item) for i, item in enumerate(value) if isinstance(item, ast.AST))
    return found


def _shapes(node: ast.AST) -> tuple[str, ...]:
    """The fields of a node that reckon with shapes."""
    match node:
        case ast.Slice():
            return ("lower", "upper", "step")
        case ast.If():
            return ("test", "orelse")
        case ast.Call() if _name(node) in SHAPING:
            return ("args", "keywords")
        case _:
            return ()


def _put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def _renamed(text: str) -> str:
    """Every operator under a name of its own: a name is registered once."""
    mark = hashlib.sha256(text.encode()).hexdigest()[:12]
    return re.sub(r"((?:operator|attention)\(\w+, ')(\w+)(')", rf"\1\2_{mark}\3", text)


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in COMPUTING:
            yield node
        if (
            isinstance(node, ast.ClassDef)
            and node.name not in BASES
            and any(isinstance(base, ast.Name) and base.id in BASES for base in node.bases)
        ):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.name in EMITTED:
                    yield inner


def _faults(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.BinOp():
            yield from _binary(node)
        case ast.UnaryOp(op=ast.USub()) if not isinstance(node.operand, ast.Constant):
            yield "neg: dropped", node.operand
        case ast.Attribute(attr="mT"):
            yield "mT: dropped", node.value
        case ast.Call():
            yield from _calls(node)
        case _:
            return


def _binary(node: ast.BinOp) -> Iterator[tuple[str, ast.AST]]:
    match node.op:
        case ast.Add():
            yield "add: sign", ast.BinOp(node.left, ast.Sub(), node.right)
        case ast.Sub():
            yield "sub: sign", ast.BinOp(node.left, ast.Add(), node.right)
        case ast.Mult():
            yield "mul: right factor dropped", node.left
            yield "mul: left factor dropped", node.right
        case ast.Div():
            yield "div: inverted", ast.BinOp(node.left, ast.Mult(), node.right)
        case ast.MatMult():
            turned = ast.Attribute(node.left, "mT")
            yield "matmul: axes exchanged", ast.BinOp(turned, ast.MatMult(), node.right)
        case _:
            return


ELEMENTWISE = frozenset(
    {
        "exp",
        "expm1",
        "log",
        "log1p",
        "sqrt",
        "tanh",
        "sigmoid",
        "softplus",
        "logsigmoid",
        "silu",
        "relu",
        "gelu",
    }
    | {"sin", "cos", "softmax", "erf", "conj"}
)


def _calls(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    name = _name(node)
    method = isinstance(node.func, ast.Attribute) and not (
        isinstance(node.func.value, ast.Name) and node.func.value.id in ("torch", "F")
    )
    if name in ("scan", "running_sum", "running_max"):
        yield from _scans(name, node)
    elif name == "mixed_matmul":
        x, y = node.args
        yield "matmul: axes exchanged", ast.Call(node.func, [ast.Attribute(x, "mT"), y], [])
    elif name == "softmax_read":
        yield "softmax_read: scale dropped", ast.Call(node.func, [*node.args[:-1], ast.Constant(1.0)], [])
    elif name in ("where", "choose", "at_reset", "einsum", "mixed_einsum", "causal_conv", "cat"):
        yield from _rearranged(name, node)
    elif name == "shift":
        x, by, *more = node.args
        farther = ast.BinOp(by, ast.Mult(), ast.Constant(2))
        yield "shift: farther", ast.Call(node.func, [x, farther, *more], node.keywords)
        yield "shift: dropped", x
    elif name == "solve_unit":
        yield "solve: dropped", node.args[1]
    elif name in ("sum", "amax") and method and node.args:
        yield f"{name}: halved", ast.BinOp(node, ast.Mult(), ast.Constant(0.5))
    elif name in ELEMENTWISE:
        values = [node.func.value] if method and isinstance(node.func, ast.Attribute) else node.args[:1]
        yield from ((f"{name}: dropped", value) for value in values)


def _rearranged(name: str, node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    match name, node.args:
        case "einsum" | "mixed_einsum", [equation, x, y]:
            yield "einsum: operands exchanged", ast.Call(node.func, [equation, y, x], node.keywords)
        case "causal_conv", [*before, weight]:
            turned = ast.Call(ast.Attribute(weight, "flip"), [ast.Constant(-1)], [])
            yield "causal_conv: taps reversed", ast.Call(node.func, [*before, turned], node.keywords)
        case "cat", [ast.List(elts=parts), *more]:
            yield "cat: reversed", ast.Call(node.func, [ast.List(parts[::-1]), *more], node.keywords)
        case _, [condition, yes, no, *more]:
            yield f"{name}: exchanged", ast.Call(node.func, [condition, no, yes, *more], node.keywords)
        case _:
            return


def _scans(name: str, node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    kept = [keyword for keyword in node.keywords if keyword.arg != "reverse"]
    turned = [] if len(kept) < len(node.keywords) else [ast.keyword("reverse", ast.Constant(True))]
    yield f"{name}: direction", ast.Call(node.func, node.args, [*kept, *turned])
    if name == "scan":
        ones = ast.Call(ast.Attribute(ast.Name("torch"), "ones_like"), node.args[:1], [])
        yield "scan: decay dropped", ast.Call(node.func, [ones, *node.args[1:]], node.keywords)
