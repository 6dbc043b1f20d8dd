"""Printing softmax attention: rules with growing stores."""

from __future__ import annotations

from typing import Any

from seqc.ir.plan import Plan
from seqc.ir.recurrence import Recurrence

from .expressions import Scope


def print_store_token(rec: Recurrence, scope: Scope) -> list[str]:
    raise NotImplementedError


def print_attention(rec: Recurrence, plan: Plan, scope: Scope, rule: Any) -> tuple[list[str], list[str]]:
    raise NotImplementedError
