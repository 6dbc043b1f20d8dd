"""What a declared parameter is to an optimiser, and what a setting leaves of a choice."""

from __future__ import annotations

from seqc.spec import loads


def test_weights_decay_and_gates_do_not() -> None:
    text = """block b(x[d]; h = 2) {
        param table[h, d] = normal(0, 0.02)
        param A_log[h, d] = log(uniform(1, 16))
        param scale[h, d] = 1
        param bias[d] = normal(0, 1)
        return sum[h](x * table * scale * exp(A_log)) + bias
    }"""
    function = loads(text).block("b", d=4).function
    assert {parameter.name: parameter.decays for parameter in function.parameters} == {
        "table": True,
        "A_log": False,
        "scale": False,
        "bias": False,
    }


def test_what_a_setting_chooses_has_the_axes_of_both() -> None:
    text = "rule r(x[d], g[n]; outer = true) { let y[d, n] = where(outer, x * g, x)\nreturn sum[n](y) }"
    for outer in (True, False):
        assert loads(text).rule("r", d=2, n=3, outer=outer).recurrence.returns == (("d",),)
