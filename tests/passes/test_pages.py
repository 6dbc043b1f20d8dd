"""The pages beside this file: rules, and the class, the reason and the stages that the passes give them.

A page's `seq` block is followed by a `plan` block.  `make accept` rewrites the plans; read the diff.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import seqc
from seqc.ir.plan import Plan
from seqc.passes.schedule import schedule

PAGES = sorted(Path(__file__).parent.glob("*.md"))
EXAMPLE = re.compile(r"```seq\n(?P<rule>.*?)```\n\n```plan\n(?P<plan>.*?)```", re.DOTALL)


def describe(plan: Plan) -> str:
    """Each class with its reason, then each stage with its pace and what is read of it."""
    lines = [f"{c.code} {c.name} ({', '.join(c.states)}): {c.reason}" for c in plan.classes]
    for stage in plan.stages:
        pace = {0: "the whole sequence at once", 1: "one token at a time"}
        reads = ", ".join(read.leaf.name for read in stage.reads) or "nothing"
        lines.append(
            f"- {stage.name}: {pace.get(stage.block, f'{stage.block} tokens at a time')}; read: {reads}"
        )
    lines.append(f"mode {plan.mode} of {', '.join(plan.modes)}")
    return "\n".join(lines) + "\n"


def planned(text: str) -> str:
    spec = seqc.loads(text)
    (name,) = spec.rules
    return describe(schedule(spec.rule(name, **spec.checked.default_sizes(name)).recurrence))


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_page(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("```seq\n") == len(EXAMPLE.findall(text)) > 0, (
        "every `seq` block is followed by a `plan`"
    )
    fresh = EXAMPLE.sub(lambda m: f"```seq\n{m['rule']}```\n\n```plan\n{planned(m['rule'])}```", text)
    if os.environ.get("SEQC_ACCEPT"):
        page.write_text(fresh, encoding="utf-8")
    assert fresh == text
