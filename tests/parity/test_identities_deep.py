"""Rules that must agree with one another, and two that must not: identities of attention, xLSTM and Titans."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqc.ir.program import Model
from seqc.ir.recurrence import Recurrence
from seqc.oracle import initial_parameters
from seqc.passes.schedule import schedule
from tests.parity.specs import Values, apply, close, model, random, rule, step, written

BATCH, TIME, KEY, VALUE = 2, 12, 4, 3


def tokens(**axes: int) -> dict[str, Tensor]:
    """Random values, `[batch, time, size]`, or without an axis where the size is 0."""
    return {
        name: random(BATCH, TIME, *([size] if size else []), seed=seed)
        for seed, (name, size) in enumerate(axes.items())
    }


def between_0_and_1(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


# --- attention ---------------------------------------------------------------------------------------------


def test_aaren_is_softmax_attention_with_a_constant_query() -> None:
    x = tokens(k=KEY, v=VALUE)
    query = random(KEY, seed=9)
    attention = rule("attention/softmax.seq", n=KEY, m=VALUE, scale=0.5)
    want = apply(attention, {"q": query.expand(BATCH, TIME, KEY), **x})
    score = 0.5 * (x["k"] @ query)
    close(apply(rule("attention/aaren.seq", m=VALUE), {"score": score, "v": x["v"]}), want)


def test_lightnet_reads_a_softmax_over_time() -> None:
    """`S = column-softmax(K)^T V`, all prefixes at once."""
    x = tokens(q=KEY, k=KEY, v=VALUE)
    k, seen = x["k"], torch.ones(TIME, TIME).tril().bool()
    prefixes = k[:, None].expand(BATCH, TIME, TIME, KEY).masked_fill(~seen[None, :, :, None], -torch.inf)
    state = torch.einsum("btsn,bsm->btmn", prefixes.softmax(2), x["v"])
    want = torch.einsum("btmn,btn->btm", state, x["q"])
    close(apply(rule("gated/lightnet.seq", n=KEY, m=VALUE, scale=1), x), want)


def test_forgetting_nothing_is_softmax_attention() -> None:
    x = tokens(q=KEY, k=KEY, v=VALUE)
    kept = torch.zeros(BATCH, TIME, dtype=torch.float64)
    want = apply(rule("attention/softmax.seq", n=KEY, m=VALUE), x)
    close(apply(rule("attention/fox.seq", n=KEY, m=VALUE), {**x, "log_f": kept}), want)


def test_forgetting_attention_with_a_constant_query_is_a_decayed_aaren() -> None:
    """The recurrent form shifts the maximum by the gate; nothing of the past is stored."""
    decayed = written(
        """
        rule decayed_aaren(score, v[m], log_f) {
            state m = -1e30
            state u = 0
            state w[m] = 0
            m' = max(m + log_f, score)
            u' = exp(m + log_f - m') * u + exp(score - m')
            w' = exp(m + log_f - m') * w + exp(score - m') * v
            return w' / u'
        }
        """,
        m=VALUE,
    )
    x = tokens(k=KEY, v=VALUE, f=0)
    log_f, query = F.logsigmoid(x["f"]), random(KEY, seed=9)
    fox = rule("attention/fox.seq", n=KEY, m=VALUE, scale=1)
    want = apply(fox, {"q": query.expand(BATCH, TIME, KEY), "k": x["k"], "v": x["v"], "log_f": log_f})
    close(apply(decayed, {"score": x["k"] @ query, "v": x["v"], "log_f": log_f}), want)


def test_a_window_as_long_as_the_sequence_is_no_window() -> None:
    x = tokens(q=KEY, k=KEY, v=VALUE)
    want = apply(rule("attention/softmax.seq", n=KEY, m=VALUE), x)
    for window, sinks in ((TIME, 0), (TIME - 3, 3)):
        windowed = rule("attention/window.seq", n=KEY, m=VALUE, window=window, sinks=sinks)
        close(apply(windowed, x), want)


# --- the choices -------------------------------------------------------------------------------------------

DESCENT = """
rule descent(q[n], k[n], v[m], alpha, theta) {{
    memory    S: n -> m
    objective 0.5 * sumsq(S(k) - v)
    retention (1 - alpha) * S
    learner   gd(rate = theta, at = {point})
    return    S'(q)
}}
"""


def descent(point: str) -> Recurrence:
    return written(DESCENT.format(point=point), n=KEY, m=VALUE)


def learner_inputs() -> dict[str, Tensor]:
    x = tokens(q=KEY, k=KEY, v=VALUE, alpha=0, theta=0)
    return {**x, "alpha": between_0_and_1(x["alpha"]), "theta": 0.2 * between_0_and_1(x["theta"])}


def test_the_gradient_point_is_part_of_the_model() -> None:
    """At the previous memory or at the retained one: different, unless nothing is forgotten."""
    x = learner_inputs()
    previous, retained = apply(descent("previous"), x), apply(descent("retained"), x)
    assert float((previous - retained).abs().max()) > 1e-3
    everything = {**x, "alpha": torch.zeros_like(x["alpha"])}
    close(apply(descent("previous"), everything), apply(descent("retained"), everything))


def test_titans_without_momentum_is_gradient_descent() -> None:
    """With eta = 0 and fresh gradients: the delta rule at the previous memory, with a decay."""
    x = learner_inputs()
    titans = rule("deep/titans.seq", "titans_linear", n=KEY, m=VALUE, c=1)
    close(apply(titans, {**x, "eta": torch.zeros_like(x["alpha"])}), apply(descent("previous"), x))


def test_titans_without_momentum_by_its_equation() -> None:
    """(1 - alpha) S - theta (S k - v) k^T, whatever the compiler derives from the choices."""
    equation = written(
        """
        rule delta(q[n], k[n], v[m], alpha, theta) {
            state S[m, n] = 0
            S' = (1 - alpha) * S - theta * (sum[n](S * k) - v) * k
            return sum[n](S' * q)
        }
        """,
        n=KEY,
        m=VALUE,
    )
    x = learner_inputs()
    titans = rule("deep/titans.seq", "titans_linear", n=KEY, m=VALUE, c=1)
    close(apply(titans, {**x, "eta": torch.zeros_like(x["alpha"])}), apply(equation, x))


def test_held_gradients_are_another_model() -> None:
    """The same until the second token, which sees what the first has written or does not."""
    x = {**learner_inputs(), "eta": torch.full((BATCH, TIME), 0.5, dtype=torch.float64)}
    fresh, held = (apply(rule("deep/titans.seq", "titans_linear", n=KEY, m=VALUE, c=c), x) for c in (1, 4))
    close(held[:, 0], fresh[:, 0])
    assert float((held[:, 1] - fresh[:, 1]).abs().max()) > 1e-4


# --- xLSTM -------------------------------------------------------------------------------------------------


def test_the_stabiliser_of_mlstm_changes_nothing() -> None:
    x = tokens(q=KEY, k=KEY, v=VALUE, i=0, f=0)
    stabilised = rule("xlstm/mlstm.seq", "mlstm", n=KEY, m=VALUE, eps=0)
    close(apply(stabilised, x), apply(rule("xlstm/mlstm.seq", "mlstm_plain", n=KEY, m=VALUE), x))


def test_any_stabiliser_will_do() -> None:
    """The result does not depend on where the running maximum begins."""
    mlstm = rule("xlstm/mlstm.seq", "mlstm", n=KEY, m=VALUE, eps=0)
    x = tokens(q=KEY, k=KEY, v=VALUE, i=0, f=0)
    want = apply(mlstm, x)
    for m in (-3.0, 7.0):
        (got,), _ = step(mlstm, x, {}, {"m": torch.full((BATCH,), m, dtype=torch.float64)})
        close(got, want)


def test_the_running_maximum_in_closed_form() -> None:
    """`m' = max(log_f + m, log_i)` is `c + cummax(log_i - c)` with `c` the running sum of `log_f`."""
    stabiliser = written(
        """
        rule stabiliser(log_i, log_f) {
            state m = -1e30
            m' = max(log_f + m, log_i)
            return m'
        }
        """
    )
    x = tokens(log_i=0, log_f=0)
    c = x["log_f"].cumsum(1)
    close(apply(stabiliser, x), c + (x["log_i"] - c).cummax(1).values)


# --- carrying on -------------------------------------------------------------------------------------------

SMALL = {"n": KEY, "m": VALUE}
WIDE = {"vocab": 7, "d": 2 * KEY, "h": 2, "layers": 1}
RULES: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "lstm": ("nonlinear/lstm.seq", {"d": KEY}),
    "lstm_peephole": ("nonlinear/lstm.seq", {"d": KEY}),
    "gru": ("nonlinear/gru.seq", {"d": KEY}),
    "gru_reset_first": ("nonlinear/gru.seq", {"d": KEY}),
    "mlstm": ("xlstm/mlstm.seq", SMALL),
    "slstm": ("xlstm/slstm.seq", {"h": 2, "d": VALUE}),
    "softmax_attention": ("attention/softmax.seq", SMALL),
    "window_attention": ("attention/window.seq", {**SMALL, "window": 3, "sinks": 2}),
    "forgetting_attention": ("attention/fox.seq", SMALL),
    "aaren": ("attention/aaren.seq", {"m": VALUE}),
    "lightnet": ("gated/lightnet.seq", SMALL),
    "titans": ("deep/titans.seq", {**SMALL, "c": 5}),
    "titans_linear": ("deep/titans.seq", {**SMALL, "c": 5}),
    "ttt_linear": ("deep/ttt.seq", {"n": KEY, "m": KEY, "c": 5}),
    "ttt_mlp": ("deep/ttt.seq", {"n": KEY, "m": KEY, "c": 5}),
}
MODELS: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "lstm_lm": ("nonlinear/lstm.seq", {"vocab": 7, "d": KEY}),
    "gru_lm": ("nonlinear/gru.seq", {"vocab": 7, "d": KEY}),
    "xlstm": ("xlstm/mlstm.seq", WIDE),
    "slstm_lm": ("xlstm/slstm.seq", WIDE),
    "llama": ("attention/llama.seq", WIDE),
    "fox": ("attention/fox.seq", WIDE),
    "aaren_lm": ("attention/aaren.seq", WIDE),
    "lightnet_lm": ("gated/lightnet.seq", {**WIDE, "n": 4, "rank": 4}),
    "titans_lmm": ("deep/titans.seq", {**WIDE, "c": 5}),
}
GATES = {"alpha", "eta", "theta", "rate"}


def inputs_of(whole: Recurrence | Model) -> dict[str, Tensor]:
    if isinstance(whole, Model):
        return {"tokens": torch.randint(7, (BATCH, TIME), generator=torch.Generator().manual_seed(0))}
    drawn = {
        leaf.name: random(BATCH, TIME, *(whole.sizes[a] for a in leaf.axes), seed=i)
        for i, leaf in enumerate(whole.inputs)
    }
    return {name: 0.3 * between_0_and_1(x) if name in GATES else x for name, x in drawn.items()}


@pytest.mark.parametrize("name", [*RULES, *MODELS])
def test_a_sequence_in_two_parts_is_the_sequence(name: str) -> None:
    """Whatever the split: the state holds convolutions, stores, counts, normalisers and maxima."""
    path, sizes = {**RULES, **MODELS}[name]
    whole = rule(path, name, None, **sizes) if name in RULES else model(path, name, **sizes)
    x, parameters = inputs_of(whole), initial_parameters(whole)
    (want, *_), after = step(whole, x, parameters, None)
    for cut in (1, 7):
        (first, *_), state = step(whole, part(x, 0, cut), parameters, None)
        (second, *_), last = step(whole, part(x, cut, TIME), parameters, state)
        close(torch.cat([first, second], 1), want)
        for key, value in after.items():
            close(last[key].double(), value.double())


def part(x: Values, start: int, stop: int) -> dict[str, Tensor]:
    return {name: value[:, start:stop] for name, value in x.items()}


# --- what the compiler makes of them ------------------------------------------------------------------------

CLASSES: Mapping[str, tuple[str, str]] = {
    "lstm": ("K11", "loop"),
    "lstm_peephole": ("K11", "loop"),
    "gru": ("K11", "loop"),
    "gru_reset_first": ("K11", "loop"),
    "mlstm": ("K9 K2 K8", "chunk"),
    "slstm": ("K11", "loop"),
    "softmax_attention": ("K16 K16", "attention"),
    "window_attention": ("K16 K16", "attention"),
    "forgetting_attention": ("K1 K16 K16 K16", "attention"),
    "aaren": ("K9 K8 K8", "scan"),
    "lightnet": ("K9 K8 K3", "chunk"),
    "titans": ("K12", "chunk"),
    "titans_linear": ("K12", "chunk"),
    "ttt_linear": ("K12", "chunk"),
    "ttt_mlp": ("K12", "chunk"),
}


@pytest.mark.parametrize("name", RULES)
def test_each_has_its_class_and_its_parallel_form(name: str) -> None:
    path, sizes = RULES[name]
    plan = schedule(rule(path, name, None, **sizes))
    assert (" ".join(found.code for found in plan.classes), plan.mode) == CLASSES[name]


def test_momentum_without_held_gradients_is_two_coupled_states() -> None:
    plan = schedule(rule("deep/titans.seq", "titans_linear", n=KEY, m=VALUE, c=1))
    assert [found.code for found in plan.classes] == ["K14"]
    assert plan.mode == "chunk"
