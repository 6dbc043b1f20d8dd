"""What `seqc explain SPEC` says: what a model or rule was understood to mean, how it will be computed, what it costs.

`report` gathers the facts as plain data (this is the JSON), `text` lays them out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from math import prod
from typing import Any

from seqc.backend import Calls, Predicts, Scheduled, Surrounds, backends
from seqc.ir.expr import Expr
from seqc.ir.paths import NamedState, instances, parameter_table, state_table
from seqc.ir.plan import Plan
from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence, Store
from seqc.ir.text import format_expr
from seqc.ir.traverse import children
from seqc.passes import cost
from seqc.passes.schedule import NEWTON, schedule
from seqc.source import Span

VERSION = 1

Whole = Recurrence | Model
PlanOf = Callable[[Recurrence], Plan]
Data = dict[str, Any]


def report(whole: Whole, plan_of: PlanOf, place: Span | None = None) -> Data:
    """Everything that is known before anything runs."""
    plan_of = cache(plan_of)
    rules = _rules(whole)
    parameters: list[Data] = [
        {"name": named.name, "shape": list(named.shape), "weight_decay": named.parameter.decays}
        for named in parameter_table(whole).values()
    ]
    return {
        "version": VERSION,
        "kind": "model" if isinstance(whole, Model) else "rule",
        "name": whole.name,
        "place": _place(place),
        "settings": dict(whole.settings) if isinstance(whole, Model) else dict(_lengths(whole)),
        "rules": [_rule(owner, uses, plan_of(owner)) for owner, uses in rules.items()],
        "parameters": {"count": sum(prod(p["shape"]) for p in parameters), "tensors": parameters},
        "around": _around(whole, plan_of, place),
        "states": _states(whole),
        "cost": _costs(whole, plan_of),
    }


def _rules(whole: Whole) -> dict[Recurrence, list[str]]:
    """Every recurrence with the paths at which it is used."""
    found: dict[Recurrence, list[str]] = {}
    for instance in instances(whole):
        if isinstance(instance.owner, Recurrence):
            found.setdefault(instance.owner, []).append(instance.path)
    return found


def _rule(rule: Recurrence, uses: list[str], plan: Plan) -> Data:
    return {
        "name": rule.name,
        "uses": [path for path in uses if path],
        "inputs": [_named(leaf.name, leaf.axes) for leaf in rule.inputs],
        "sizes": dict(_lengths(rule)),
        "recurrence": list(_equations(rule)),
        "classes": [
            {
                "code": found.code,
                "name": found.name,
                "states": list(found.states),
                "because": found.reason,
                "place": _place(found.span),
            }
            for found in plan.classes
        ],
        "schedule": {
            "mode": plan.mode,
            "modes": list(plan.modes),
            "block": max((stage.block for stage in plan.stages), default=1),
            "newton": _newton(rule, plan),
            "operators": _operators(plan),
            "targets": _predicted(plan),
        },
    }


def _newton(rule: Recurrence, plan: Plan) -> list[Data]:
    """What the mode of that name iterates, where the rule has it."""
    if NEWTON not in plan.modes:
        return []
    asked = plan if plan.mode == NEWTON else schedule(rule, NEWTON)
    return [
        {
            "states": [state.name for state in stage.carried],
            "jacobian": "whole" if stage.newton.exact else "part",
            "iterations": stage.newton.limit,
            "roundings": stage.newton.tolerance,
        }
        for stage in asked.stages
        if stage.newton is not None
    ]


def _operators(plan: Plan) -> dict[str, list[str]]:
    """What targets have for a rule as a whole, by the target's name."""
    found = {name: target.operators(plan) for name, target in _calling().items()}
    return {name: list(operators) for name, operators in found.items() if operators}


def _predicted(plan: Plan) -> dict[str, Data]:
    """How targets that have a choice compute a rule, by the target's name."""
    return {name: dict(target.predicted(plan)) for name, target in _predicting().items()}


@cache
def _calling() -> dict[str, Calls]:
    return {name: target for name, target in backends().items() if isinstance(target, Calls)}


@cache
def _predicting() -> dict[str, Predicts]:
    return {name: target for name, target in backends().items() if isinstance(target, Predicts)}


def _around(whole: Whole, plan_of: PlanOf, place: Span | None) -> dict[str, Data]:
    """What targets compute in one pass around the rules, by the target's name and the block's."""
    if not isinstance(whole, Model):
        return {}
    found = {
        name: target.around(Scheduled(whole, plan_of, place))
        for name, target in backends().items()
        if isinstance(target, Surrounds)
    }
    return {
        name: {block: list(parts) for block, parts in blocks.items()}
        for name, blocks in found.items()
        if blocks
    }


def _equations(rule: Recurrence) -> Iterator[Data]:
    """The recurrence as derived, one line a name."""
    for state in rule.states:
        yield _equation("state", _named(state.name, state.axes), state.initial, rule)
    for store in rule.stores:
        yield _equation("store", _named(store.name, (store.axis, *store.axes)), store.value, rule)
    for name, value in rule.names:
        yield _equation("let", name, value, rule)
    for state, update in zip(rule.states, rule.updates, strict=True):
        yield _equation("update", f"{state.name}'", update, rule)
    for output in rule.outputs:
        yield _equation("return", "", output, rule)


def _equation(kind: str, name: str, value: Expr, rule: Recurrence) -> Data:
    names = {known: own for own, known in rule.names}
    # A name or a number alone is the same node wherever it stands: its place would be that of its first use.
    place = rule.origins.get(value) if children(value) else None
    return {
        "kind": kind,
        "name": name,
        "value": format_expr(value, names),
        "place": _place(place),
    }


def _states(whole: Whole) -> Data:
    tensors: list[Data] = []
    total = cost.Cost()
    for state in state_table(whole).values():
        size = cost.state_bytes(state)
        total += size
        tensors.append(
            {"name": state.name, "shape": list(state.shape), "growth": _growth(state), "bytes": size.fixed}
        )
    return {
        "bytes": int(total.fixed),
        "bytes_per_token": int(total.context),
        "growth": "linear" if total.context else "constant",
        "tensors": tensors,
    }


def _growth(state: NamedState) -> str:
    """`constant`, `window`, or `linear` in the number of tokens."""
    if not isinstance(state.source, Store):
        return "constant"
    return "linear" if cost.visible(state.source) is None else "window"


def _costs(whole: Whole, plan_of: PlanOf) -> Data:
    """Operations and fp32 bytes a token, at a context of `cost.SEQUENCE` tokens."""
    half = cost.SEQUENCE / 2
    flops, traffic = cost.prefill(whole, plan_of), cost.prefill_bytes(whole, plan_of)
    alone, alone_traffic = cost.decode(whole), cost.decode_bytes(whole)
    return {
        "context": cost.SEQUENCE,
        "prefill": {
            "flops_per_token": round(flops.at(half) + flops.once / cost.SEQUENCE),
            "bytes_per_token": round(traffic.at(half) + traffic.once / cost.SEQUENCE),
        },
        "decode": {
            "flops_per_token": round(alone.at(cost.SEQUENCE) + alone.once),
            "bytes_per_token": round(alone_traffic.at(cost.SEQUENCE) + alone_traffic.once),
        },
        "decode_growth_per_token_of_context": {"flops": alone.context, "bytes": alone_traffic.context},
    }


def _lengths(rule: Recurrence) -> Mapping[str, int]:
    """The lengths of the axes that the reader knows (those that passes made have names he cannot write)."""
    return {axis: length for axis, length in rule.sizes.items() if axis.isidentifier()}


def _named(name: str, axes: tuple[str, ...]) -> str:
    return f"{name}[{', '.join(axes)}]" if axes else name


def _place(span: Span | None) -> str | None:
    return None if span is None else str(span)


# --- as text -------------------------------------------------------------------------------------------------------


def text(facts: Data) -> str:
    """The report as a person reads it; places are what editors make into links."""
    blocks = [_head(facts)] if facts["kind"] == "model" else []
    blocks += [_rule_text(rule, facts) for rule in facts["rules"]]
    blocks += [_around_text(name, found) for name, found in facts["around"].items()]
    blocks.append(_tail(facts))
    return "\n\n".join(blocks)


def _head(facts: Data) -> str:
    return f"model {facts['name']}{_at(facts['place'])}\n  with {_sizes(facts['settings'])}"


def _sizes(sizes: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value:g}" for name, value in sizes.items()) or "no settings"


def _rule_text(rule: Data, facts: Data) -> str:
    uses = rule["uses"]
    lines = [f"rule {rule['name']}({', '.join(rule['inputs'])})"]
    if uses:
        more = f" and {len(uses) - 1} more" if len(uses) > 1 else ""
        lines[0] += f"  used as {uses[0]}{more}"
    else:
        lines[0] += _at(facts["place"])
    lines.append(f"  with {_sizes(rule['sizes'])}")
    lines += _aligned(rule["recurrence"])
    for found in rule["classes"]:
        states = ", ".join(found["states"])
        lines.append(f"  class     {found['code']}, {found['name']} ({states})")
        lines.append(f"            because {found['because']}{_at(found['place'])}")
    planned = rule["schedule"]
    block = f", {planned['block']} tokens at a time" if planned["block"] > 1 else ""
    others = [mode for mode in planned["modes"] if mode != planned["mode"]]
    also = f" (possible too: {', '.join(others)})" if others else ""
    lines.append(f"  schedule  {planned['mode']}{block}{also}")
    if called := [f"{' and '.join(names)} ({target})" for target, names in planned["operators"].items()]:
        lines.append(f"  operator  {', '.join(called)}, for sequences without resets")
    lines += [line for found in planned["newton"] for line in _newton_text(found)]
    lines += [line for name, found in planned["targets"].items() for line in _target_text(name, found)]
    return "\n".join(lines)


def _around_text(target: str, blocks: Mapping[str, list[str]]) -> str:
    """A line a block."""
    width = max(map(len, blocks))
    lines = [f"around      in one pass each where that pays ({target}), between the matrix products of"]
    return "\n".join(
        [*lines, *(f"    {name:<{width}}  {'; '.join(parts)}" for name, parts in blocks.items())]
    )


def _newton_text(found: Data) -> Iterator[str]:
    states, jacobian = ", ".join(found["states"]), found["jacobian"]
    how = "the whole Jacobian" if jacobian == "whole" else "a part of the Jacobian"
    yield f"  newton    {states}: at most {found['iterations']} iterations with {how}, until no state is more than"
    yield f"            {found['roundings']} roundings off what follows from the one before; the loop does the rest"


def _target_text(name: str, found: Data) -> Iterator[str]:
    yield f"  {name:<9} {found['way']}: {found['because']}"
    for what, words in found.get("how", {}).items():
        yield f"            {what:<24} {words}"
    if "seconds" in found:
        tokens = f"{found['tokens']:,} tokens"
        kinds = {"forward": f"predicted, {tokens}", "training": "with gradients", "token": "one token"}
        for kind, words in kinds.items():
            yield f"            {words:<24} {_times(found['seconds'][kind])}"


def _times(seconds: Mapping[str, float]) -> str:
    """The fastest way first."""
    ways = sorted(seconds, key=lambda way: seconds[way])
    return ", ".join(f"{way} {short_time(seconds[way])}" for way in ways)


def _at(place: str | None) -> str:
    return f"  ({short_place(place)})" if place else ""


def short_place(place: str) -> str:
    """`griffin.seq:18`: the file's name and the line."""
    return ":".join(place.rpartition("/")[2].split(":")[:-1])


def _aligned(equations: list[Data]) -> list[str]:
    left = max((len(_left(equation)) for equation in equations), default=0)
    lines: list[str] = []
    for equation in equations:
        sign = " " if equation["kind"] == "return" else "="
        at = f"    # {short_place(equation['place'])}" if equation["place"] else ""
        lines.append(f"    {_left(equation):<{left}} {sign} {equation['value']}{at}")
    return lines


def _left(equation: Data) -> str:
    kind = "" if equation["kind"] == "update" else f"{equation['kind']:<5} "
    return f"{kind}{equation['name']}"


def _tail(facts: Data) -> str:
    states, costs = facts["states"], facts["cost"]
    per_token = states["bytes_per_token"]
    grows = f", and {short_bytes(per_token)} more with every token" if per_token else ", whatever the length"
    lines = [f"parameters  {facts['parameters']['count']:,} in {_tensors(facts['parameters'])}"]
    lines += _listed(facts["parameters"]["tensors"])
    lines.append(f"state       {short_bytes(states['bytes'])} in {_tensors(states)}{grows}")
    lines += _listed(states["tensors"])
    for what in ("prefill", "decode"):
        each = costs[what]
        flops, traffic = short_count(each["flops_per_token"]), short_bytes(each["bytes_per_token"])
        lines.append(f"{what:<11} {flops} operations and {traffic} of memory traffic a token")
    lines.append(f"            (counted for fp32, one row, a context of {costs['context']:,} tokens)")
    return "\n".join(lines)


def _listed(tensors: list[Data]) -> list[str]:
    """The tensors by name and shape; those of repeated layers are one line, with `*` for the number."""
    alike: dict[tuple[str, str, str], int] = {}
    for tensor in tensors:
        name = re.sub(r"\.\d+\.", ".*.", tensor["name"])
        shape = ", ".join("tokens" if length < 0 else str(length) for length in tensor["shape"])
        note = {"window": "  (a window)", "linear": "  (grows)"}.get(tensor.get("growth", ""), "")
        alike[name, f"[{shape}]", note] = alike.get((name, f"[{shape}]", note), 0) + 1
    width = max((len(name) for name, _, _ in alike), default=0)
    return [
        f"    {name:<{width}}  {shape}" + (f" x {number}" if number > 1 else "") + note
        for (name, shape, note), number in alike.items()
    ]


def _tensors(group: Data) -> str:
    number = len(group["tensors"])
    return f"{number:,} tensor" + ("" if number == 1 else "s")


def short_count(number: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def short_time(seconds: float) -> str:
    """Two digits, as `0.27 ms` or `120 ms`."""
    digits = max(0, 1 - math.floor(math.log10(1e3 * seconds)))
    return f"{round(1e3 * seconds, 1 - math.floor(math.log10(1e3 * seconds))):,.{digits}f} ms"


def short_bytes(number: float) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f} bytes"
