"""Blocks and models: calls, axes that flow down, names of parameters, repetition."""

from __future__ import annotations

import time

import pytest

from seqc.ir.expr import Invoke, Reduce
from seqc.ir.program import Function, Repeat
from seqc.ir.traverse import walk
from tests.check.programs import checked, codes, faults, parameters

DECAYING = "rule ema(x[d], a[d]) { state h[d] = 0  h' = a * h + x  return h' }\n"


def block(text: str, **sizes: float) -> Function:
    program = checked(text)
    return program.elaborate_block(program.blocks[-1], sizes)


def test_a_linear_map_takes_its_output_axes_from_where_its_result_goes() -> None:
    found = block(
        DECAYING
        + """
        block b(x[d]; w = 5) {
            let u[w] = silu(causal_conv(linear(x), width = 3))
            let y[w] = ema(u, sigmoid(linear(u)))
            return linear(rms_norm(y)) -> [d] as out
        }
        """,
        d=3,
    )
    assert parameters(found) == {
        "u.linear.weight": (5, 3),
        "u.causal_conv.weight": (5, 3),
        "y.linear.weight": (5, 5),
        "rms_norm.weight": (5,),
        "out.weight": (3, 5),
    }


def test_expected_axes_flow_through_norms_and_renames() -> None:
    found = block(
        """
        block b(x[d]; h = 2, n = 4, e = 4) {
            let q[h, n] = rms_norm[n](linear(x))
            let k[e] = linear(x)[n -> e]
            return sum[n](q) * sum[e](k)
        }
        """,
        d=3,
    )
    assert parameters(found)["q.linear.weight"] == (2, 4, 3)
    assert parameters(found)["k.linear.weight"] == (4, 3)
    assert parameters(found)["q.rms_norm.weight"] == (4,)


def test_a_linear_map_to_its_own_axes_is_dense() -> None:
    found = block("block b(x[d]) { return linear(x) -> [d] }", d=3)
    (weight,) = found.parameters
    assert weight.axes == ("d", "d.in")
    (output,) = found.outputs
    assert isinstance(output, Reduce)
    assert output.over == ("d.in",)


def test_a_bracket_keeps_a_linear_map_block_diagonal() -> None:
    found = block("block b(x[h, n]; m = 5) { let y[h, m] = linear[h](x)  return y }", h=2, n=3)
    assert parameters(found) == {"y.linear.weight": (2, 5, 3)}


def test_the_same_name_twice_is_numbered() -> None:
    found = block("block b(x[d]) { x = x + swiglu(x, 4)  x = x + swiglu(x, 4)  return x }", d=3)
    assert [name for name in parameters(found) if "gate" in name] == [
        "swiglu.gate.weight",
        "swiglu_1.gate.weight",
    ]


def test_no_two_parameters_share_a_name() -> None:
    found = block(
        """
        block inner(x[d]) { return linear(x) -> [d] }
        block b(x[d]) {
            let u = linear(x) -> [d]
            let v = inner(u) as u
            return linear(v) -> [d] as v
        }
        """,
        d=2,
    )
    assert list(parameters(found)) == ["u.linear.weight", "v.weight", "u_1.linear.weight"]


def test_a_declared_parameter_used_twice_is_tied() -> None:
    model = checked(
        """
        model m(tokens; vocab = 7, d = 4) {
            param table[vocab, d] = normal(0, 0.02)
            x[d] = embed(tokens, table)
            return tied_head(x, table)
        }
        """
    ).elaborate_model("m")
    assert parameters(model) == {"table": (7, 4)}


def test_repetitions_that_are_alike_share_one_function() -> None:
    model = checked(
        """
        model m(x[d]; d = 4, layers = 6) {
            repeat layers as l {
                if l % 3 == 2 { x = x + swiglu(x) } else { x = x + geglu(x) }
            }
            return x
        }
        """
    ).elaborate_model("m")
    (call,) = {node for node in walk(model.body.outputs) if isinstance(node, Invoke)}
    assert isinstance(call.callee, Repeat)
    first, second, third = call.callee.bodies[:3]
    assert first is second
    assert first is not third
    assert call.callee.bodies == (first, first, third, first, first, third)


def test_a_shared_repetition_has_one_set_of_parameters() -> None:
    model = checked(
        "model m(x[d]; d = 4) { repeat 3 shared { x = linear(x) -> [d] as w }  return x }"
    ).elaborate_model("m")
    assert parameters(model) == {"repeat.w.weight": (4, 4)}


def test_a_name_first_bound_in_a_repetition_stays_there() -> None:
    assert codes("block b(x[d]) { repeat 2 { let y = 2 * x  x = y }  return y }") == ["E0201"]


def test_heads_are_mapped_and_groups_share_keys() -> None:
    text = """
    block b(x[d]; kv = 2, g = 3, n = 4, m = 5) {
        let q[kv, g, n] = linear(x)
        let k[kv, n] = linear(x)
        let v[kv, m] = linear(x)
        let y[kv, g, m] = attend(q, k, v)
        return linear(y) -> [d]
    }
    """
    found = block(text, d=8)
    (call,) = {n for n in walk(found.outputs) if isinstance(n, Invoke)}
    assert [store.axes for store in call.callee.stores] == [("kv", "n"), ("kv", "m")]
    assert call.callee.returns == (("kv", "g", "m"),)


def test_an_axis_of_the_caller_with_the_name_of_one_of_the_rule_is_kept_apart() -> None:
    text = DECAYING + "block b(x[d, w]) { return ema(x[d -> e], x[d -> e]) }"
    assert codes(text) == ["E0308"]
    found = block(
        DECAYING
        + "block b(x[d, w]; e = 3) { let y[e, d] = linear[d](x)  return ema(y[d -> h][e -> d], y[d -> h][e -> d]) }",
        d=3,
        w=5,
    )
    assert set(found.returns[0]) == {"h", "d"}


def test_an_axis_that_only_a_result_has_has_a_length() -> None:
    model = checked("model m(x[d]; d = 4, classes = 3) { return classifier(x, classes) }").elaborate_model(
        "m"
    )
    assert model.body.sizes["classes"] == 3


def test_an_axis_inside_a_block_that_is_written_out_is_kept_apart() -> None:
    text = (
        "model m(x[d]; d = 8, half = 3) { let y = rotary(x, position())  let z[half] = linear(y)  return z }"
    )
    model = checked(text).elaborate_model("m")
    assert parameters(model) == {"z.linear.weight": (3, 8)}


def test_a_length_that_follows_from_made_up_ones_is_no_fault() -> None:
    text = """
    block heads(x[d]; h = 4, n = d / h) { let y[h, n] = linear(x)  return y }
    block b(x[d]; m = 16) { let y = heads(x)  let z[m] = linear(x)  return sum[h](y[n -> m]) * z }
    """
    assert codes(text) == []


def test_constants_fit_every_parameter() -> None:
    assert parameters(block(DECAYING + "block b(x[d]) { return ema(x, 0.5) }", d=2)) == {}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("block b(x[d]) { return x + linear(x) }", "E0601"),
        ("block b(x[d]) { let y = x  y = sum(x)  return y }", "E0609"),
        (DECAYING + "block b(x[h, n]) { return ema(x, x) }", "E0308"),
        (DECAYING + "block b(x[d]) { return ema(x) }", "E0605"),
        (DECAYING + "block b(x[d]) { return ema(x, x, x) }", "E0603"),
        (DECAYING + "block b(x[d]) { return ema(x, b = x) }", "E0401"),
        ("block b(x[h, n]) { return rms_norm(x) }", "E0305"),
        ("block b(x[d]; w) { let y[w] = linear(x)  return y + x[d -> w] * z }", "E0201"),
        ("model m(tokens; vocab = 4, d = 2) { return tokens + 1 }", "E0504"),
        ("model m(x[d]; d = 9, h = 2, n = d / h) { let y[h, n] = linear(x)  return y }", "E0402"),
    ],
)
def test_faults(text: str, code: str) -> None:
    assert codes(text) == [code]


def test_a_size_that_does_not_divide_says_which() -> None:
    (fault,) = faults("model m(x[d]; d = 9, h = 2, n = d / h) { let y[h, n] = linear(x)  return y }")
    assert fault.span.text == "d / h"
    assert fault.notes == ("`h` does not divide `d`",)


def test_sizes_that_nobody_has_given_are_no_faults() -> None:
    assert (
        codes("block b(x[d]; h, n = d / (3 * h)) { let y[h, n] = linear(x)  return linear(y) -> [d] }") == []
    )


def test_the_branch_that_is_not_taken_is_looked_at() -> None:
    assert codes("block b(x[d]; fast) { if fast > 1 { x = x } else { x = y }  return x }") == ["E0201"]


def test_a_model_that_looks_ahead_says_so() -> None:
    text = DECAYING + "model m(x[d]; d = 2) { return x + reverse(ema(reverse(x), 0.5)) }"
    assert checked(text).elaborate_model("m").reads_future
    text = DECAYING + "model m(x[d]; d = 2) { repeat 2 { x = ema(x, 0.5) }  return last_pool(x) }"
    assert not checked(text).elaborate_model("m").reads_future


def test_the_cost_is_linear_in_layers_that_are_alike() -> None:
    text = """
    model m(tokens; vocab = 256, d = 64, h = 4, layers = 48) {
        x[d] = embed(tokens, vocab)
        repeat layers {
            x = x + attention(rms_norm(x), h)
            x = x + swiglu(rms_norm(x))
        }
        return lm_head(rms_norm(x), vocab)
    }
    """
    checked(text)
    start = time.process_time()
    assert len(parameters(checked(text).elaborate_model("m"))) == 48 * 9 + 3
    assert time.process_time() - start < 0.3


@pytest.mark.parametrize(
    "inner", ["repeat 2 { return x }", "if 1 { return x }", "if 0 { y = x } else { return x }"]
)
def test_only_the_end_of_a_block_returns(inner: str) -> None:
    assert codes(f"block b(x[d]) {{ {inner}  return x }}") == ["E0112"]
