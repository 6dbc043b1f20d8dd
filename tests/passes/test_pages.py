"""The pages beside this file: rules, and the class, the reason and the stages that the passes give them.

A page's `seq` block is followed by a `plan` block, or by a `plan` of a mode that is asked for.  `make accept` rewrites
the plans; read the diff.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import seqc
from seqc.ir.plan import Plan, Stage
from seqc.passes.schedule import Unschedulable, schedule

PAGES = sorted(Path(__file__).parent.glob("*.md"))
EXAMPLE = re.compile(r"```seq\n(?P<rule>.*?)```\n\n```plan(?P<mode> \w+)?\n(?P<plan>.*?)```", re.DOTALL)


def describe(plan: Plan) -> str:
    """Each class with its reason, then each stage with its pace and what is read of it."""
    lines = [f"{c.code} {c.name} ({', '.join(c.states)}): {c.reason}" for c in plan.classes]
    for stage in plan.stages:
        reads = ", ".join(read.leaf.name for read in stage.reads) or "nothing"
        lines.append(f"- {stage.name}: {_pace(stage)}; read: {reads}")
    lines.append(f"mode {plan.mode} of {', '.join(plan.modes)}")
    return "\n".join(lines) + "\n"


def _pace(stage: Stage) -> str:
    if stage.newton is not None:
        how = "the whole Jacobian" if stage.newton.exact else "a part of the Jacobian"
        slopes = ", ".join(f"{state.name}' by {by.name}" for state, by, _ in stage.newton.slopes)
        return f"all tokens at once in at most {stage.newton.limit} iterations with {how}, {slopes}"
    pace = {0: "the whole sequence at once", 1: "one token at a time"}
    return pace.get(stage.block, f"{stage.block} tokens at a time")


def planned(text: str, mode: str | None) -> str:
    spec = seqc.loads(text)
    (name,) = spec.rules
    rule = spec.rule(name, **spec.checked.default_sizes(name)).recurrence
    try:
        return describe(schedule(rule, mode))
    except Unschedulable as error:
        return "".join(f"{found.message}: {found.notes[0]}\n" for found in error.diagnostics)


def _replanned(example: re.Match[str]) -> str:
    rule, mode = example["rule"], example["mode"] or ""
    return f"```seq\n{rule}```\n\n```plan{mode}\n{planned(rule, mode.strip() or None)}```"


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_page(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("```seq\n") == len(EXAMPLE.findall(text)) > 0, (
        "every `seq` block is followed by a `plan`"
    )
    fresh = EXAMPLE.sub(_replanned, text)
    if os.environ.get("SEQC_ACCEPT"):
        page.write_text(fresh, encoding="utf-8")
    assert fresh == text
