"""The implicit attention matrix: its product with the values is the output, and it is what the papers say it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import seqc
from seqc.bundled import folder
from seqc.diagnostics import SpecError
from seqc.errors import UserError
from seqc.oracle import run_recurrence
from seqc.spec import load
from seqc.views.attention import Attention, attention, data, lines, pictures
from seqc.views.linearity import Degree, linear_inputs
from seqc.views.uses import Use, uses

TIME = 9

# (file, rule, value, axes of the matrix besides token and past)
RULES = [
    ("linear/linear_attention.seq", "linear_attention", "v", ()),
    ("linear/linear_attention.seq", "normalised_linear_attention", "v", ()),
    ("linear/retnet.seq", "retain", "v", ()),
    ("linear/gla.seq", "gla", "v", ()),
    ("delta/gated_delta.seq", "gated_delta", "v", ()),
    ("gated/mamba.seq", "selective_scan", "x", ("d",)),
    ("gated/rg_lru.seq", "rg_lru", "x", ("w",)),
    ("gated/lru.seq", "lru", "x", ("d", "x.d")),
    ("attention/softmax.seq", "softmax_attention", "v", ()),
    ("attention/window.seq", "window_attention", "v", ()),
    ("xlstm/mlstm.seq", "mlstm", "v", ()),
]


def use_of(file: str, name: str, **sizes: float) -> Use:
    spec = load(folder("specs") / file)
    lengths = {axis: 3 + i for i, axis in enumerate(spec.checked.default_sizes(name))}
    (use,) = uses(spec.rule(name, **{**lengths, **sizes}).whole, TIME)
    return use


def matrix_of(file: str, name: str) -> tuple[Use, Tensor]:
    use = use_of(file, name)
    return use, attention(use).matrix


@pytest.mark.parametrize(("file", "name", "value", "axes"), RULES, ids=[row[1] for row in RULES])
def test_matrix_times_value_is_the_output(file: str, name: str, value: str, axes: tuple[str, ...]) -> None:
    use = use_of(file, name)
    found = attention(use)
    assert (found.value.name, found.axes) == (value, axes)
    # With other values than those that it was made with: the matrix must not know them.
    inputs = {**use.inputs, value: torch.randn(use.inputs[value].shape, dtype=torch.float64)}
    want = run_recurrence(use.rule, inputs, use.parameters)[0][0][0]
    torch.testing.assert_close(product(found, inputs[value][0]), want, rtol=1e-6, atol=1e-6)


def product(found: Attention, value: Tensor) -> Tensor:
    """By hand, for the shapes that the rules above have."""
    equations: dict[tuple[str, ...], str] = {
        (): "ts,sm->tm",
        ("d",): "tsd,sd->td",
        ("w",): "tsd,sd->td",
        ("d", "x.d"): "tsde,se->td",
    }
    assert found.offset is None
    return torch.einsum(equations[found.axes], found.matrix, value)


@pytest.mark.parametrize(("file", "name"), [row[:2] for row in RULES], ids=[row[1] for row in RULES])
def test_nothing_comes_from_the_future(file: str, name: str) -> None:
    _, matrix = matrix_of(file, name)
    assert matrix.movedim((0, 1), (-2, -1)).triu(1).abs().max() == 0


def test_linear_attention_is_query_times_key() -> None:
    use, matrix = matrix_of("linear/linear_attention.seq", "linear_attention")
    q, k = use.inputs["q"][0], use.inputs["k"][0]
    torch.testing.assert_close(matrix, (q @ k.T).tril())


def test_retention_is_query_times_key_times_decay() -> None:
    use, matrix = matrix_of("linear/retnet.seq", "retain")
    q, k, gamma = (use.inputs[name][0] for name in ("q", "k", "gamma"))
    decays = gamma.log().cumsum(0)
    torch.testing.assert_close(matrix, (q @ k.T * (decays[:, None] - decays[None]).exp()).tril())


def test_softmax_attention_is_its_weights() -> None:
    use, matrix = matrix_of("attention/softmax.seq", "softmax_attention")
    q, k = use.inputs["q"][0], use.inputs["k"][0]
    scores = (q @ k.T / k.shape[1] ** 0.5).masked_fill(torch.ones(TIME, TIME).triu(1).bool(), -torch.inf)
    torch.testing.assert_close(matrix, scores.softmax(-1))


def test_the_delta_rule_is_a_product_of_householders() -> None:
    use, matrix = matrix_of("delta/deltanet.seq", "delta")
    q, k, beta = (use.inputs[name][0] for name in ("q", "k", "beta"))
    for t in range(TIME):
        left = q[t]
        for s in range(t, -1, -1):
            torch.testing.assert_close(matrix[t, s], beta[s] * left @ k[s])
            left = left - beta[s] * (left @ k[s]) * k[s]


@pytest.mark.parametrize("file", ["nonlinear/gru.seq", "deep/titans.seq"])
def test_what_is_curved_is_refused(file: str) -> None:
    name = load(folder("specs") / file).rules[0]
    with pytest.raises(SpecError) as caught:
        attention(use_of(file, name))
    assert caught.value.codes == ("E1001",)


def test_any_input_that_is_linear_may_be_the_value() -> None:
    use = use_of("linear/retnet.seq", "retain")
    found = attention(use, "k")
    assert found.also == ("v",)
    assert found.axes == ("m", "k.n")
    want = run_recurrence(use.rule, use.inputs, use.parameters)[0][0][0]
    torch.testing.assert_close(torch.einsum("tsmn,sn->tm", found.matrix, use.inputs["k"][0]), want)


def test_names_do_not_matter() -> None:
    body = "state S[m, n] = 0\n S' = beta * S + q * v\n return sum[n](S' * alpha)"
    text = f"rule r(alpha[n], v[n], beta, q[m]) {{ {body} }}"
    (use,) = uses(seqc.loads(text).rule(n=3, m=2).whole, TIME)
    assert attention(use).value.name == "q"


def test_a_memory_that_begins_with_something_adds_an_offset() -> None:
    text = "rule r(x[d]; d = 2) { state h[d] = 1\n h' = 0.5 * h + x\n return h' }"
    (use,) = uses(seqc.loads(text).rule().whole, 3)
    found = attention(use)
    assert found.offset is not None
    torch.testing.assert_close(found.offset[:, 0], torch.tensor([0.5, 0.25, 0.125], dtype=torch.float64))
    assert "+ b[t]" in lines(found)[1]


@pytest.mark.parametrize(
    ("update", "degree"),
    [
        ("h + x", Degree.LINEAR),
        ("h + x + 1", Degree.LINEAR | Degree.CONSTANT),
        ("g * h + where(g > 0, x, 2 * x)", Degree.LINEAR),
        ("max(h, x)", Degree.CURVED),
        ("h * x", None),
        ("h + x / (1 + g^2)", Degree.LINEAR),
        ("h + g / x", Degree.CURVED),
        ("h + tanh(h) + x", Degree.CURVED),
        ("h + g * (x - g * h)", Degree.LINEAR),
    ],
)
def test_degrees(update: str, degree: Degree | None) -> None:
    """`h * x` stays 0 for ever."""
    rule = seqc.loads(f"rule r(x[d], g[d]; d = 2) {{ state h[d] = 0\n h' = {update}\n return h' }}").rule()
    found = {linear.leaf.name: linear.outputs[0].degree for linear in linear_inputs(rule.recurrence)}
    assert found.get("x") == (None if degree in (None, Degree.CURVED) else degree)


def test_every_layer_of_a_model_has_one_for_every_head() -> None:
    model = load(folder("specs") / "linear/retnet.seq").model(d=16, h=2, layers=2, vocab=256)
    found = [attention(use) for use in uses(model.whole, 0, prompt="a prompt")]
    assert [each.axes for each in found] == [("h",), ("h",)]
    assert found[0].matrix.shape == (8, 8, 2)
    assert data(found[1])["use"] == "layers.1.multi_scale_retention.retain"
    assert [str(picture).split(",")[0] for picture in pictures(found[0])] == ["h = 0", "h = 1"]


def test_a_block_of_several_inputs_has_them_too() -> None:
    rule = "rule keep(x[d], g[d]) { state h[d] = 0\n h' = g * h + x\n return h' }"
    block = "block two(x[d], y[d]) { return keep(x, sigmoid(y)) }"
    (use,) = uses(seqc.loads(f"{rule}\n{block}").block(d=3).whole, 5)
    assert attention(use).axes == ("d",)


def test_a_matrix_that_is_too_large_is_refused() -> None:
    with pytest.raises(UserError, match="numbers"):
        attention(use_of("linear/retnet.seq", "retain", n=512, m=512), "k")
