"""What Python sees of a spec."""

from __future__ import annotations

import pytest

import seqc
from seqc.errors import UserError

TEXT = """
rule ema(x[d], a) { state h[d] = 0  h' = a * h + x  return h' }
block twice(x[d]; w = 2 * d) { let y[w] = linear(x)  return linear(y) -> [d] }
model one(x[f]; f = 3, d = 4) { let y[d] = linear(x)  return twice(ema(y, 0.5)) }
"""


def test_names_and_handles() -> None:
    spec = seqc.loads(TEXT)
    assert (spec.rules, spec.blocks, spec.models) == (("ema",), ("twice",), ("one",))
    assert spec.rule(d=4).recurrence.sizes == {"d": 4}
    assert spec.block(d=4, w=6).function.sizes["w"] == 6
    assert spec.model(d=8).model.settings == {"f": 3, "d": 8}
    assert spec.model().whole is spec.model().whole


def test_a_rule_takes_further_axes_by_name() -> None:
    rec = seqc.loads(TEXT).rule(d=4).mapped({"x": "h d"})
    assert [leaf.axes for leaf in rec.inputs] == [("h", "d"), ()]
    assert rec.state("h").axes == ("h", "d")


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"depth": 2}, "E0401"),
        ({"d": 0}, "E0402"),
        ({"d": 2.5}, "E0402"),
        ({"d": 1e12}, "E0403"),
        ({"d": float("nan")}, "E0402"),
    ],
)
def test_settings_from_outside_are_checked(settings: dict[str, float], code: str) -> None:
    with pytest.raises(seqc.SpecError) as caught:
        seqc.loads(TEXT).model(**settings)
    assert caught.value.codes == (code,)


def test_an_axis_without_a_length_is_asked_for() -> None:
    with pytest.raises(seqc.SpecError) as caught:
        _ = seqc.loads(TEXT).rule("ema").recurrence
    assert caught.value.codes == ("E0410",)
    assert "`--set d=64`" in str(caught.value)


def test_all_numbers_that_are_missing_are_asked_for_at_once() -> None:
    with pytest.raises(seqc.SpecError) as caught:
        _ = seqc.loads("rule fade(x[d]; e, f = 2) {\n    return e * f * x\n}\n").rule("fade").recurrence
    (found,) = caught.value.diagnostics
    assert found.message == "the rule `fade` needs the settings `d` and `e`"
    assert found.help is not None
    assert "`--set d=64 --set e=64`" in found.help


def test_an_unknown_item_lists_the_known_ones() -> None:
    with pytest.raises(seqc.SpecError, match="E0707") as caught:
        seqc.loads(TEXT).model("two")
    assert "there is `one`" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        ("block keep(x[d]) { return x }", "this spec has no rule", None),
        (TEXT.replace("model one", "rule em2(x[d]) { return x } model one"), "several rules", "`--name ema`"),
    ],
)
def test_without_a_name_there_must_be_one(text: str, message: str, help: str | None) -> None:
    with pytest.raises(seqc.SpecError) as caught:
        _ = seqc.loads(text).rule(d=2).recurrence
    (found,) = caught.value.diagnostics
    assert found.code == "E0707"
    assert message in found.message
    assert found.help is None if help is None else help in (found.help or "")


def test_a_setting_is_a_number() -> None:
    with pytest.raises(UserError, match="must be a number"):
        seqc.loads(TEXT).model(d="big")  # type: ignore[arg-type]


def test_warnings_are_kept() -> None:
    spec = seqc.loads("rule r(x[d]) {\n let y = x\n - 1\n return y }")
    assert [warning.code for warning in spec.warnings] == ["W0101"]


def test_a_mode_that_no_rule_has_is_refused_with_those_there_are() -> None:
    spec = seqc.loads("rule rnn(x[d]) { state h[d] = 0  h' = tanh(h + x)  return h' }")
    with pytest.raises(seqc.SpecError, match="E0902") as caught:
        spec.rule(d=2).program("scan")
    assert "its modes are `newton` and `loop`" in str(caught.value)
    with pytest.raises(seqc.SpecError, match="`loop`, `step` and `reference`"):
        spec.rule(d=2).torch(mode="scan")
    assert spec.rule(d=2).program("loop").whole is not None


def test_a_mode_is_that_of_the_rules_that_have_it() -> None:
    text = """
    rule ema(x[d]) { state h[d] = 0  h' = 0.5 * h + x  return h' }
    model m(x[f]; f = 4, d = 4) { let y[d] = linear(x)  return linear(attention(ema(y), 2)) -> [f] }
    """
    assert type(seqc.compile(seqc.loads(text), mode="loop")).__name__ == "M"
    with pytest.raises(seqc.SpecError, match="its modes are `scan`, `loop` and `attention`"):
        seqc.compile(seqc.loads(text), mode="newton")
