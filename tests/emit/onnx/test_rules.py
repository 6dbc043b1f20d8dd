"""Rules in ONNX Runtime against the definition: lengths, batches, splits, steps, resets, extreme gates."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import seqc
from seqc.diagnostics import SpecError
from seqc.spec import Spec

from .running import Array, Draw, Exported, error, export
from .texts import RULES, SIZES

TOLERANCE = 1e-5
LENGTHS = (1, 2, 63, 64, 65, 257)

SPEC = seqc.loads(RULES)
Make = Callable[..., Exported]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Each rule is exported once."""
    known: dict[tuple[str, str | None], Exported] = {}

    def make(name: str, mode: str | None = None) -> Exported:
        key = (name, mode)
        if key not in known:
            known[key] = export(rule(SPEC, name), tmp_path_factory.mktemp(name), mode)
        return known[key]

    return make


def rule(spec: Spec, name: str) -> seqc.ir.recurrence.Recurrence:
    axes = {axis for leaf in spec.rule(name, **sizes_of(spec, name)).recurrence.inputs for axis in leaf.axes}
    assert axes <= set(SIZES)
    return spec.rule(name, **sizes_of(spec, name)).recurrence


def sizes_of(spec: Spec, name: str) -> dict[str, float]:
    return {axis: SIZES[axis] for axis in spec.checked.default_sizes(name) if axis in SIZES}


def check(found: list[Array], wanted: list[Array], tolerance: float = TOLERANCE) -> None:
    for x, y in zip(found, wanted, strict=True):
        assert error(x, y) < tolerance


@pytest.mark.parametrize("name", SPEC.rules)
def test_every_length_and_batch(made: Make, name: str) -> None:
    exported = made(name)
    for batch, time in [(1, t) for t in LENGTHS] + [(3, 2), (3, 65)]:
        inputs = exported.inputs(batch, time)
        check(exported.whole(inputs)[0], exported.expected(inputs))


@pytest.mark.parametrize("name", SPEC.rules)
def test_splits_steps_and_resets_change_nothing(made: Make, name: str) -> None:
    exported, batch, time = made(name), 3, 70
    inputs = exported.inputs(batch, time)
    for chance in (0.0, 0.04):
        reset = np.random.default_rng(5).random((batch, time)) < chance
        wanted = exported.expected(inputs, reset)
        check(exported.whole(inputs, reset)[0], wanted)
        check(exported.split(inputs, [1, 3, 40], reset), wanted)
        check(exported.steps(inputs, 62, reset), [x[:, 62:] for x in wanted])


@pytest.mark.parametrize("name", ["ema", "retnet", "gated_delta", "lru"])
def test_modes_agree(made: Make, name: str) -> None:
    for mode in ("loop", "scan" if name in ("ema", "lru") else "chunk"):
        exported = made(name, mode)
        inputs = exported.inputs(2, 67)
        check(exported.whole(inputs)[0], exported.expected(inputs))


def extreme(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.choice([0.0, 1.0, 1e-38, 1e-4, 0.999, 1e-45], size=shape)


def strong_then_weak(_: np.random.Generator, shape: tuple[int, ...]) -> Array:
    gates = np.full(shape, 0.9999)
    gates[:, : shape[1] // 2] = 1e-6
    return gates


def negative(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.uniform(-1, 1, shape)


def mild(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.uniform(0.7, 1, shape)


def mild_of_either_sign(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.choice([-1, 1], shape) * rng.uniform(0.7, 1.2, shape)


GATES = [extreme, strong_then_weak, negative, mild, mild_of_either_sign]


@pytest.mark.parametrize("draw", GATES)
@pytest.mark.parametrize("name", ["ema", "retnet", "gla", "gated_delta", "kda", "low_rank", "momentum"])
def test_extreme_gates(made: Make, name: str, draw: Draw) -> None:
    exported = made(name)
    inputs = exported.inputs(2, 150, {"g": draw, "a": draw})
    check(exported.whole(inputs)[0], exported.expected(inputs))


def spoil_scores(graph: onnx.GraphProto, branch: str) -> None:
    """Negate what one branch of every choice between two ways to scores gives."""
    for node in graph.node:
        inner = {x.name: x.g for x in node.attribute if x.type == onnx.AttributeProto.GRAPH}
        for body in inner.values():
            spoil_scores(body, branch)
        if node.op_type == "If" and any(x.op_type == "MatMul" for x in inner["then_branch"].node):
            for last in inner[branch].node:
                if last.op_type == "Identity":
                    last.op_type = "Neg"


@pytest.mark.parametrize("gates", [mild, extreme])
@pytest.mark.parametrize("name", ["gla", "kda", "low_rank"])
def test_mild_gates_need_no_product_for_every_pair_of_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, gates: Draw
) -> None:
    """The graph chooses when it runs: a fault shows in the branch that is taken, and not in the other."""
    exported = export(rule(SPEC, name), tmp_path)
    inputs = exported.inputs(2, 70, {"g": gates})
    (wanted,) = exported.expected(inputs)
    model = onnx.load(tmp_path / "prefill.onnx")
    for branch, taken in (("then_branch", gates is mild), ("else_branch", gates is extreme)):
        spoiled = copy.deepcopy(model)
        spoil_scores(spoiled.graph, branch)
        onnx.save(spoiled, tmp_path / "prefill.onnx")
        outputs, _ = type(exported.session)(tmp_path).prefill(inputs)
        assert (error(next(iter(outputs.values())), wanted) > 0.01) == taken


@pytest.mark.parametrize("key", [0.0, 8**-0.5])
@pytest.mark.parametrize("name", ["gated_delta", "kda", "phased_delta"])
def test_equal_keys_do_not_blow_up_the_triangular_solve(made: Make, name: str, key: float) -> None:
    def same(_: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return np.full(shape, key)

    def ones(_: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return np.ones(shape)

    exported = made(name)
    inputs = exported.inputs(1, 130, {"k": same, "angle": same, "beta": ones, "g": ones})
    check(exported.whole(inputs)[0], exported.expected(inputs))


def test_a_long_sequence_stays_finite(made: Make) -> None:
    exported = made("gated_delta")
    inputs = exported.inputs(1, 20_000)
    outputs, state = exported.whole(inputs)
    assert np.isfinite(outputs[0]).all()
    assert all(np.isfinite(x).all() for x in state.values())


@pytest.mark.parametrize(("name", "sizes"), [("selective", {"d": 40, "e": 16}), ("lru", {"d": 600})])
def test_wide_states_are_written_out_token_by_token(
    tmp_path: Path, name: str, sizes: dict[str, float]
) -> None:
    exported = export(SPEC.rule(name, **sizes).recurrence, tmp_path)
    inputs = exported.inputs(2, 70)
    reset = np.random.default_rng(2).random((2, 70)) < 0.05
    check(exported.whole(inputs, reset)[0], exported.expected(inputs, reset))
    check(exported.split(inputs, [3, 40], reset), exported.expected(inputs, reset))


def test_what_is_wide_does_not_leave_the_loop(tmp_path: Path) -> None:
    export(SPEC.rule("selective", d=40, e=16).recurrence, tmp_path)
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "prefill.onnx"), data_prop=True)
    widths = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.value_info]
    assert widths
    assert not any(40 in width and 16 in width and len(width) > 2 for width in widths)


def test_mapped_axes_share_the_memory(tmp_path: Path) -> None:
    axes = {"q": "kv h n", "k": "kv n", "v": "kv m", "g": "kv", "beta": "kv"}
    handle = SPEC.rule("gated_delta", **SIZES_OF_HEADS)
    exported = export(handle.mapped(axes), tmp_path)
    (state,) = exported.session.manifest.states
    assert state.shape == ("batch", 2, 6, 8)
    inputs = exported.inputs(2, 66)
    check(exported.whole(inputs)[0], exported.expected(inputs))
    check(exported.steps(inputs, 60), [x[:, 60:] for x in exported.expected(inputs)])


SIZES_OF_HEADS = {"n": 8, "m": 6, "kv": 2, "h": 3}


def test_a_rule_without_inputs_is_refused(tmp_path: Path) -> None:
    text = "# A counter.\nrule count() {\n    state t = 0\n    t' = t + 1\n    return t'\n}\n"
    with pytest.raises(SpecError) as caught:
        seqc.loads(text).rule().write("onnx", tmp_path / "built")
    assert caught.value.codes == ("E0901",)
    assert caught.value.diagnostics[0].span.line == 2
    assert not (tmp_path / "built").exists()
