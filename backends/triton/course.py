"""What PyTorch does around the kernels of a rule in blocks: a method in place of the emitted class's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from seqc.ir.plan import Plan

from ..torch.module import assemble, glossary
from ..torch.rules import print_course, signature
from .gates import Sources

NAME = "Course"  # as `runtime/course.py` knows it


def around(plan: Plan, sources: Sequence[Sources]) -> Plan:
    """The plan whose stages are handed what their kernels read."""
    stages = zip(plan.stages, sources, strict=True)
    return replace(plan, stages=tuple(replace(stage, inputs=found.items) for stage, found in stages))


def course_text(plan: Plan, given: Sequence[str], origin: str) -> str:
    """The text of a module with one class, `Course`; `given` are the parameters that callers pass in."""
    rule = plan.recurrence
    body = print_course(
        rule, plan, given, NAME, f"{signature(rule)}: a sequence, by the kernels of its stages."
    )
    about = f"The rule `{rule.name}` around its kernels in blocks."
    return assemble("\n".join(body), origin, about, glossary(rule))
