"""Rules: the four choices and what they turn into."""

from __future__ import annotations

import pytest

from seqc.ir.expr import LeafKind
from seqc.ir.recurrence import Recurrence
from seqc.oracle import initial_parameters
from tests.check.programs import checked, codes


def rule(body: str, header: str = "q[n], k[n], v[m], alpha, beta", **sizes: float) -> Recurrence:
    text = f"rule r({header}) {{\n{body}\n}}"
    return checked(text).elaborate_rule("r", {"n": 4, "m": 3, **sizes})


def updates(rec: Recurrence) -> dict[str, str]:
    return {name: str(update) for name, update in rec.updates_by_name.items()}


LEARNERS = {
    "gd(rate = beta)": "alpha * S - beta * (sum[n](S * k) - v) * k",
    "gd(rate = beta, at = previous)": "alpha * S - beta * (sum[n](S * k) - v) * k",
    "gd(rate = beta, at = retained)": "alpha * S - beta * (sum[n](alpha * S * k) - v) * k",
    "gd(rate = 1)": "alpha * S - (sum[n](S * k) - v) * k",
    "implicit(rate = beta)": (
        "alpha * S - beta / (1 + beta * sum[n](k * k)) * (sum[n](alpha * S * k) - v) * k"
    ),
    "momentum(rate = beta, decay = 0.9)": "alpha * S + S.momentum'",
}


@pytest.mark.parametrize("learner", LEARNERS)
def test_the_four_choices_give_the_update_of_the_table(learner: str) -> None:
    rec = rule(
        f"memory S: n -> m  objective 0.5 * sumsq(S(k) - v)  retention alpha * S\nlearner {learner}\nreturn S'(q)"
    )
    assert updates(rec)["S"] == LEARNERS[learner]
    assert rec.state("S").axes == ("m", "n")


def test_momentum_is_a_state_of_its_own() -> None:
    rec = rule(
        "memory S: n -> m  objective 0.5 * sumsq(S(k) - v)\nlearner momentum(rate = beta, decay = alpha)\nreturn S(q)"
    )
    assert updates(rec) == {
        "S": "S + S.momentum'",
        "S.momentum": "alpha * S.momentum - beta * (sum[n](S * k) - v) * k",
    }


def test_a_held_gradient_is_a_held_memory_and_a_count() -> None:
    rec = rule(
        "memory S: n -> m  objective 0.5 * sumsq(S(k) - v)\nlearner gd(rate = beta, every = 8)\nreturn S'(q)"
    )
    assert updates(rec) == {
        "S": "S - beta * (sum[n](S.held' * k) - v) * k",
        "S.held": "where(S.count == 0, S, S.held)",
        "S.count": "(S.count + 1) % 8",
    }


def test_held_for_one_token_is_not_held() -> None:
    rec = rule(
        "memory S: n -> m  objective 0.5 * sumsq(S(k) - v)\nlearner gd(rate = beta, every = 1)\nreturn S'(q)"
    )
    assert [state.name for state in rec.states] == ["S"]


def test_an_implicit_step_of_a_vector_needs_no_key() -> None:
    text = (
        "rule r(x[d], z) { memory h: d  objective 0.5 * sumsq(h - x)  learner implicit(rate = z)  return h' }"
    )
    rec = checked(text).elaborate_rule("r", {"d": 4})
    assert updates(rec) == {"h": "h - z / (1 + z) * (h - x)"}


@pytest.mark.parametrize(
    "objective",
    [
        "sum(abs(S(k) - v))",
        "sumsq(S(k) - v) ^ 2",
        "0.5 * sumsq(S(k) - S(q))",
        "sum(S(k)) ^ 2",
        "sumsq(tanh(S))",
    ],
)
def test_an_implicit_step_without_a_closed_form_is_refused(objective: str) -> None:
    body = f"memory S: n -> m  objective {objective}  learner implicit(rate = 1)  return S'(q)"
    text = f"rule r(q[n], k[n], v[m]) {{ {body} }}"
    assert codes(text) == ["E0513"]


def test_an_mlp_memory_starts_from_learned_weights() -> None:
    rec = rule(
        "memory M: n -> m = mlp(hidden = 2 * n, depth = 3, activation = tanh, bias = true)\n"
        "objective 0.5 * sumsq(M(k) - v)\nretention alpha * M\nlearner gd(rate = beta)\nreturn M'(q)"
    )
    assert {p.name: tuple(rec.sizes[a] for a in p.axes) for p in rec.parameters} == {
        "M.0.weight": (8, 4),
        "M.1.weight": (8, 8),
        "M.2.weight": (3, 8),
        "M.0.bias": (8,),
        "M.1.bias": (8,),
        "M.2.bias": (3,),
    }
    for state in rec.states:
        assert state.initial is next(p.leaf for p in rec.parameters if p.name == state.name)
    assert str(rec.parameters[0].initial) == "normal(0, 0.5)"


def test_several_steps_follow_one_another() -> None:
    once = "learner gd(rate = beta, at = retained)"
    twice = "learner gd(rate = beta, at = retained, steps = 2)"
    body = "memory S: n -> m  objective 0.5 * sumsq(S(k) - v)  retention alpha * S\n"
    one = rule(f"{body}{once}\nreturn S'(q)").updates[0]
    two = rule(f"{body}{twice}\nreturn S'(q)").updates[0]
    assert str(two) == f"{one} - beta * (sum[n](({one}) * k) - v) * k"


def test_a_bare_state_is_before_the_token_and_a_prime_after() -> None:
    rec = checked(
        "rule r(x[d]) { state h[d] = 0  let y = h  h' = 0.5 * h + x  return h', y }"
    ).elaborate_rule("r", {"d": 2})
    assert [str(output) for output in rec.outputs] == ["h'", "h"]
    assert rec.names == (("y", rec.state("h").leaf),)


def test_a_store_holds_the_present_token_when_primed() -> None:
    rec = checked(
        """
        rule r(q[n], k[n], v[m]) {
            store K[s, n] = k, window = 4, sinks = 1
            store V[s, m] = v, window = 4, sinks = 1
            return sum[s](softmax[s](sum[n](q * K') - age[s]) * V')
        }
        """
    ).elaborate_rule("r", {"n": 2, "m": 2})
    assert [(s.name, s.axis, s.axes, s.window, s.sinks) for s in rec.stores] == [
        ("K", "s", ("n",), 4, 1),
        ("V", "s", ("m",), 4, 1),
    ]
    assert str(rec.outputs[0]) == "sum[s](softmax[s](sum[n](q * K') - age[s]) * V')"


def test_mapped_axes_reach_only_the_states_that_depend_on_them() -> None:
    text = """
    rule attend(q[n], k[n], v[m], g) {
        store K[s, n] = k
        store V[s, m] = v
        state c = 0
        c' = c + g
        return sum[s](softmax[s](c' * sum[n](q * K')) * V')
    }
    """
    axes = {"q": ("kv", "g", "n"), "k": ("kv", "n"), "v": ("kv", "m")}
    rec = checked(text).elaborate_rule("attend", {"n": 2, "m": 2}, axes)
    assert [store.axes for store in rec.stores] == [("kv", "n"), ("kv", "m")]
    assert rec.state("c").axes == ()
    assert rec.returns == (("kv", "g", "m"),)
    leaves = [leaf for leaf in rec.inputs if leaf.kind is LeafKind.INPUT]
    assert [leaf.axes for leaf in leaves] == [("kv", "g", "n"), ("kv", "n"), ("kv", "m"), ()]


def test_origins_say_where_an_update_was_written() -> None:
    rec = checked("rule r(x[d]) {\n state h[d] = 0\n h' = 0.5 * h + x\n return h' }").elaborate_rule(
        "r", {"d": 2}
    )
    assert rec.origins[rec.updates[0]].line == 3
    mapped = checked("rule r(x[d]) {\n state h[d] = 0\n h' = 0.5 * h + x\n return h' }").elaborate_rule(
        "r", {"d": 2}, {"x": ("h", "d")}
    )
    assert mapped.origins[mapped.updates[0]].line == 3


def test_a_memory_may_have_an_equation_beside_one_that_learns() -> None:
    rec = rule(
        """
        memory S: n -> m
        memory H: n -> m
        objective 0.5 * sumsq(S(k) - v)
        learner gd(rate = beta)
        H' = alpha * H + v * k
        return S'(q) + H'(q)
        """
    )
    assert updates(rec) == {"S": "S - beta * (sum[n](S * k) - v) * k", "H": "alpha * H + v * k"}


@pytest.mark.parametrize(
    "body",
    [
        "state z[s] = 0  z' = z  return z",
        "param p[s] = 1  return p",
        "return index[s]",
        "return linear(K') -> [n]",
        "let y[s] = linear(q)  return sum[s](y)",
        "let a[s], b[n] = split(K')  return b",
        "return mean[s](K')",
        "return sum[t](K'[s -> t])",
        "return K'",
        "memory S: s -> n  return S(k)",
    ],
)
def test_what_needs_a_length_does_not_take_the_axis_of_a_store(body: str) -> None:
    assert codes(f"rule r(q[n], k[n]) {{ store K[s, n] = k  {body} }}") == ["E0504"]


def test_several_faults_are_found_in_one_run() -> None:
    text = "rule r(x[d]) { state h[d] = 0  let y = z  h' = 0.5 * y + exp(x, x)  return w }"
    assert codes(text) == ["E0201", "E0603", "E0201"]


def test_what_follows_from_a_fault_is_not_a_fault() -> None:
    assert codes("rule r(x[d]) { let y = z  let u = y + 1  return u * y }") == ["E0201"]
    assert codes("rule r(x[d]) { state h[e] = 0  h' = h + x  return h' }") == ["E0303"]


def test_a_repeat_is_written_out() -> None:
    rec = rule("let y = q  repeat 3 as i { let z = y * k  y = z + i }  return y")
    assert str(rec.outputs[0]) == "(q * k * k + 1) * k + 2"
    assert [name for name, _ in rec.names] == ["y", "y.3"]


def test_what_a_repeat_binds_first_stays_inside() -> None:
    assert codes("rule r(x[d]) { let y = x  repeat 2 { z = y  y = z + y }  return z }") == ["E0201"]
    assert (
        codes("rule r(x[d]) { let y = x  repeat 2 { let z = y  repeat 2 { z = z * z }  y = z }  return y }")
        == []
    )
    assert codes("rule r(x[d]) { let y = x  repeat 2 { let y = x }  return y }") == ["E0611"]
    assert codes("rule r(x[d]) { let y = x  repeat 2 { y = sum(y) }  return y }") == ["E0609"]


def test_a_repetition_of_nothing_changes_nothing() -> None:
    rec = rule("let y = q  repeat 0 { y = y * k }  return y")
    assert str(rec.outputs[0]) == "q"


@pytest.mark.parametrize("name", ["S", "q", "w"])
def test_only_a_let_is_bound_again(name: str) -> None:
    body = f"state S[n] = 0  param w[n] = 1  repeat 2 {{ {name} = q }}  S' = S  return w"
    assert codes(f"rule r(q[n]) {{ {body} }}") == ["E0520"]


@pytest.mark.parametrize(
    "inner", ["return y", "param w[n] = 1", "if 1 { y = q }", "repeat 2 shared { y = q }"]
)
def test_what_has_no_place_in_a_repeat_of_a_rule(inner: str) -> None:
    assert codes(f"rule r(q[n]) {{ let y = q  repeat 2 {{ y = y + q  {inner} }}  return y }}") == ["E0112"]


def test_a_rule_may_call_a_block_that_repeats() -> None:
    text = """
    block power(x; times = 3) { let y = x  repeat times { y = y * x }  return y }
    rule r(q[n]) { return power(q, times = 2) }
    """
    assert str(checked(text).elaborate_rule("r", {"n": 2}).outputs[0]) == "q * q * q"
    assert codes(text.replace("2)", "80)")) == ["E0613"]


@pytest.mark.parametrize(
    ("words", "deviation"), [("", 0.5), (", spread = 3", 1.5), (", spread = n^0.5", 1.0)]
)
def test_a_network_starts_from_weights_as_far_from_0_as_it_says(words: str, deviation: float) -> None:
    recurrence = rule(
        f"memory M: n -> m = mlp(depth = 1{words})\nretention 0.5 * M\nreturn M(q) + v", "q[n], v[m]", m=5000
    )
    weight = initial_parameters(recurrence)["M.0.weight"]
    assert float(weight.std()) == pytest.approx(deviation, rel=0.05)
