"""docs/zoo.md: one row a rule or model, the rows of a spec side by side, a table for each family."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from seqc.explain import short_bytes, short_count
from seqc.zoo import Facts, Findings, Record, Row, conforms
from tools.zoo.references import Reference

HEAD = """\
# The zoo

Every spec that comes with seqc. This page is made by `make zoo` from the specs, from what `seqc conform --fast` said of
them, and from the tests that compare them with code that is not ours; `seqc list` prints it in short.

A class and a schedule are read off the recurrence's structure, and come with the reason. State and operations a token
are those of fp32, one row of a batch, at the sizes that `seqc explain` shows; the operations are those of a token that
is computed alone, after {context:,} others. A backend is named where every check that applies has passed. The worst
error is the largest of a value in single precision or wider, relative to the float64 oracle. A value is ill-conditioned
where the oracle's own answer moves further than the usual tolerance when the numbers that go in are rounded otherwise;
it is then held to that movement, and counted apart.
"""
COLUMNS = (
    "spec",
    "rule or model",
    "class, and why",
    "schedule",
    "state",
    "operations a token",
    "conform",
    "worst error",
    "checked against",
)


def page(record: Record, found: Iterable[Reference], context: int) -> str:
    """The whole page."""
    by_spec: dict[str, dict[str, str]] = {}
    for reference in found:
        by_spec.setdefault(reference.spec, {}).setdefault(reference.against, reference.file)
    parts = [HEAD.format(context=context)]
    for family, paths in groupby(sorted(record), lambda path: path.partition("/")[0]):
        parts.append(f"## {family}\n")
        lines = [_line(COLUMNS), _line("---" for _ in COLUMNS)]
        for path in paths:
            lines += _rows(path, record[path], by_spec.get(path, {}))
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _rows(path: str, row: Row, against: dict[str, str]) -> Iterator[str]:
    name = path.partition("/")[2].removesuffix(".seq")
    first = f"[{name}](../specs/{path})"
    last = "; ".join(f"[{words}](../tests/parity/{file})" for words, file in against.items()) or "–"
    for item, facts in row["facts"].items():
        yield _line((first, *_cells(item, facts, row["findings"].get(item)), last))
        first = last = ""


def _cells(name: str, facts: Facts, findings: Findings | None) -> tuple[str, ...]:
    grows = facts["state_bytes_per_token"]
    state = short_bytes(facts["state_bytes"]) + (f", and {short_bytes(grows)} a token" if grows else "")
    return (
        f"{facts['kind']} `{name}`",
        _classes(facts),
        facts["mode"],
        state,
        short_count(facts["flops_per_token"]),
        _conform(findings),
        _worst(findings),
    )


def _worst(findings: Findings | None) -> str:
    if findings is None or not findings["worst_error"]:
        return "–"
    loose = findings["ill_conditioned"]
    among = f"; {findings['worst_ill_conditioned']:.1e} among {loose} ill-conditioned" if loose else ""
    return f"{findings['worst_error']:.1e}{among}"


def _classes(facts: Facts) -> str:
    if facts["kind"] == "model":
        of = ", ".join(f"`{name}`" for name in facts["uses"])
        return f"uses {of}" if of else "no rule"
    because = "; ".join(f"**{each['code']}**: {each['because']}" for each in facts["classes"])
    # `sum[n](…)` is no link.
    return because.replace("](", "]\\(") or "no state"


def _conform(findings: Findings | None) -> str:
    if findings is None:
        return "not examined"
    said: list[str] = conforms(findings)
    for backend, verdict in findings["backends"].items():
        if verdict["failed"]:
            said.append(f"**{backend}: {verdict['failed']} checks failed**")
    return ", ".join(said) or "none"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
