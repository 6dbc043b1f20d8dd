"""Random affine rules: every mode equals the oracle, and respelling a rule changes neither class nor
schedule.
"""

from __future__ import annotations

from math import prod

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqc.ir.recurrence import Recurrence
from seqc.oracle import run_recurrence
from seqc.passes.classify import classify
from seqc.passes.schedule import schedule
from tests.passes.interpreter import Run
from tests.properties.affine import affine_rules, rewrites

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def _draw(rec: Recurrence, time: int) -> dict[str, torch.Tensor]:
    """Tensors of a token have a norm of about one, so that no state grows tenfold every few tokens: the triangular
    systems of rank-one terms lose what their solutions grow.
    """
    gen = torch.Generator().manual_seed(5)
    return {
        leaf.name: torch.randn(
            2, time, *(rec.sizes[a] for a in leaf.axes), generator=gen, dtype=torch.float64
        )
        / prod(rec.sizes[a] for a in leaf.axes) ** 0.5
        for leaf in rec.inputs
    }


def check_modes(rec: Recurrence, time: int) -> None:
    inputs = _draw(rec, time)
    expected, final = run_recurrence(rec, inputs, {}, shape=(2, time))
    for mode in schedule(rec).modes:
        run = Run(schedule(rec, mode), inputs)
        for x, y in zip(
            [*run.outputs, *run.final.values()], [*expected, *(final[n] for n in run.final)], strict=True
        ):
            assert (x - y).norm() <= 1e-9 * (1 + y.norm()), mode


def check_spelling(rec: Recurrence, other: Recurrence) -> None:
    assert sorted(c.code for c in classify(rec)) == sorted(c.code for c in classify(other))
    one, two = schedule(rec), schedule(other)
    assert (one.mode, one.modes) == (two.mode, two.modes)
    assert sorted((s.block, len(s.carried)) for s in one.stages) == sorted(
        (s.block, len(s.carried)) for s in two.stages
    )


@settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
@given(affine_rules())
def test_every_mode_equals_the_oracle(rec: Recurrence) -> None:
    check_modes(rec, 21)


@settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
@given(st.data())
def test_spelling_changes_nothing(data: st.DataObject) -> None:
    rec = data.draw(affine_rules())
    check_spelling(rec, data.draw(rewrites(rec)))


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=SLOW)
@given(st.data())
def test_many(data: st.DataObject) -> None:
    rec = data.draw(affine_rules())
    check_modes(rec, data.draw(st.sampled_from([1, 15, 33, 65])))
    check_spelling(rec, data.draw(rewrites(rec)))
