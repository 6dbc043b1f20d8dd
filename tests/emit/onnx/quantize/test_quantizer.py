"""Quantised folders: how far from the definition each format is, what is left alone, what calibration gains."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest

import seqc
from seqc.backend import Recipe
from seqc.bundled import folder
from seqc.errors import UserError
from tests.emit.onnx.parts import Manifest, Session
from tests.emit.onnx.running import Exported, error, export
from tests.emit.onnx.texts import HYBRID

from .parts import find_matrices, quantize, save, smooth

Array = npt.NDArray[Any]

# How far the logits of a random model may be from the definition's, and how far they surely are.
FORMATS = {
    "int8": (2e-3, 4e-2),
    "8bit": (1e-3, 2e-2),
    "4bit": (2e-2, 2.5e-1),
    "float16": (1e-5, 2e-3),
    "bfloat16": (1e-4, 1e-2),
}
RECURRENT = """
rule elman(x[d]; e = d) {
    param U[d, e] = uniform(-0.1, 0.1)
    state h[d] = 0
    h'    = tanh(x + sum[e](U * h[d -> e]))
    return h'
}

model recurrent(tokens; vocab = 80, d = 72) {
    x[d] = embed(tokens, vocab)
    x = x + elman(linear(x))
    return lm_head(rms_norm(x), vocab)
}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """A hybrid model with learned initial states, a tied table and odd widths, in a profile."""
    known: dict[str, Exported] = {}

    def make(profile: str) -> Exported:
        if profile not in known:
            whole = seqc.loads(HYBRID).model(d=72, vocab=80, h=2, layers=1).whole
            known[profile] = export(whole, tmp_path_factory.mktemp(profile), profile=profile)
        return known[profile]

    return make


def quantized(source: Path, out: Path, recipe: Recipe) -> tuple[Session, dict[str, str]]:
    out.mkdir()
    done = quantize(source, out, recipe)
    return Session(out), dict(done.held)


@pytest.mark.parametrize("profile", ["portable", "ort"])
@pytest.mark.parametrize("format", FORMATS)
def test_logits_are_as_far_off_as_the_format_says(
    made: Callable[[str], Exported], tmp_path: Path, format: str, profile: str
) -> None:
    exported = made(profile)
    session, held = quantized(exported.session.folder, tmp_path / "out", Recipe(format))
    inputs = {"tokens": np.random.default_rng(0).integers(0, 80, (3, 29))}
    (wanted,) = exported.expected(inputs)
    again = Exported(exported.owner, exported.parameters, session)
    least, most = FORMATS[format]
    (whole,) = again.whole(inputs)[0]
    assert least < error(whole, wanted) < most
    assert error(again.steps(inputs, 11)[0], whole[:, 11:]) < 0.3 * most
    assert set(held.values()) <= {format, "8bit", "float16"}
    assert len(held) >= 10


@pytest.mark.parametrize("format", ["int8", "8bit", "4bit"])
def test_no_token_changes_the_answer_to_an_earlier_one_or_to_another_row(
    made: Callable[[str], Exported], tmp_path: Path, format: str
) -> None:
    session, _ = quantized(made("portable").session.folder, tmp_path / "out", Recipe(format))
    tokens = np.random.default_rng(1).integers(0, 80, (2, 23))
    logits = session.prefill(tokens)[0]["logits"]
    for row in range(2):
        alone = session.prefill(tokens[row : row + 1, :9])[0]["logits"]
        assert error(alone[0], logits[row, :9]) < 1e-5


def test_products_of_bytes_do_not_overflow(tmp_path: Path) -> None:
    """Two largest bytes times two largest weights: 16 bits hold their sum."""
    whole = seqc.loads("model m(x[d]; d = 128) {\n    return linear(x) -> [d] as y\n}\n").model().whole
    weight = np.ones((128, 128), np.float32)
    (tmp_path / "in").mkdir()
    exported = export(whole, tmp_path / "in")
    for name in ("prefill", "step"):
        model = onnx.load(tmp_path / "in" / f"{name}.onnx")
        (stored,) = [x for x in model.graph.initializer if list(x.dims) == [128, 128]]
        stored.CopyFrom(onnx.numpy_helper.from_array(weight, stored.name))
        onnx.save(model, tmp_path / "in" / f"{name}.onnx")
    session, _ = quantized(exported.session.folder, tmp_path / "out", Recipe("int8"))
    (found,) = session.prefill(np.ones((1, 3, 128), np.float32))[0].values()
    np.testing.assert_allclose(found, 128, rtol=1e-5)


def test_what_a_recurrence_multiplies_its_state_by_is_left_alone(tmp_path: Path) -> None:
    whole = seqc.loads(RECURRENT).model().whole
    (tmp_path / "in").mkdir()
    exported = export(whole, tmp_path / "in")
    session, held = quantized(exported.session.folder, tmp_path / "out", Recipe("4bit"))
    assert not [name for name in held if "elman" in name]
    assert {"4bit", "float16"} == set(held.values())
    for file in ("prefill.onnx", "step.onnx"):
        graph = onnx.load(tmp_path / "out" / file).graph
        assert [
            x.name for x in graph.initializer if "elman" in x.name and x.data_type == onnx.TensorProto.FLOAT
        ]
    assert session.manifest.states == exported.session.manifest.states


def test_what_decides_how_much_a_state_keeps_has_eight_bits(tmp_path: Path) -> None:
    griffin = seqc.load(folder("specs") / "hybrid" / "griffin.seq").model(d=72, w=80, h=2, n=16, layers=1)
    griffin.onnx(tmp_path / "in")
    _, held = quantized(tmp_path / "in", tmp_path / "out", Recipe("4bit"))
    eight = {name for name, kind in held.items() if kind == "8bit"}
    assert eight == {"layers.0.recurrent.y.linear.weight", "layers.0.recurrent_1.y.linear.weight"}


def test_a_gate_may_stand_before_a_difference_of_the_state(tmp_path: Path) -> None:
    mingru = seqc.load(folder("specs") / "gated" / "mingru.seq").model(d=72, vocab=80, layers=1)
    mingru.onnx(tmp_path / "in")
    _, held = quantized(tmp_path / "in", tmp_path / "out", Recipe("4bit"))
    eight = {name for name, kind in held.items() if kind == "8bit"}
    assert eight == {"layers.0.mingru_mixer.z.weight"}


def test_the_manifest_says_what_was_done(made: Callable[[str], Exported], tmp_path: Path) -> None:
    source = made("portable").session
    session, held = quantized(source.folder, tmp_path / "out", Recipe("4bit", block=128))
    found = Manifest.model_validate_json((tmp_path / "out" / "manifest.json").read_text())
    assert found.quantization is not None
    assert (found.quantization.format, found.quantization.block) == ("4bit", 128)
    assert dict(found.quantization.held) == held
    assert set(found.weights) | set(found.folded) == set(source.manifest.weights) | set(
        source.manifest.folded
    )
    stored = {x.name for x in onnx.load(tmp_path / "out" / "prefill.onnx").graph.initializer}
    assert {info.name for info in found.weights.values()} <= stored
    assert not set(held) & set(found.weights)
    assert session.manifest.external_data is not None
    with pytest.raises(UserError, match="quantised already"):
        quantize(tmp_path / "out", tmp_path, Recipe("int8"))


def test_the_same_folder_gives_the_same_bytes(made: Callable[[str], Exported], tmp_path: Path) -> None:
    tokens = np.random.default_rng(2).integers(0, 80, 600).tolist()
    for out in ("one", "two"):
        quantized(made("portable").session.folder, tmp_path / out, Recipe("4bit", tokens=tokens))
    for file in ("prefill.onnx", "step.onnx", "manifest.json", "weights.data"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize(
    ("recipe", "said"),
    [(Recipe("int8", block=32), "has no blocks"), (Recipe("4bit", block=48), "no blocks of 48")],
)
def test_blocks_that_there_are_not(
    made: Callable[[str], Exported], tmp_path: Path, recipe: Recipe, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        quantize(made("portable").session.folder, tmp_path, recipe)


# --- calibration -----------------------------------------------------------------------------------------------------


@pytest.fixture
def outlying(made: Callable[[str], Exported], tmp_path: Path) -> Path:
    """The same model with a few channels that are far larger than the others."""
    source = made("portable").session
    manifest, out = source.manifest, tmp_path / "outlying"
    shutil.copytree(source.folder, out)
    models = {name: ir.load(source.folder / f"{name}.onnx") for name in ("prefill", "step")}
    for model in models.values():
        groups = smooth.find_groups(find_matrices(model.graph, manifest))
        factors: dict[frozenset[bytes], Array] = {}
        for group in groups:
            factors[group.key] = np.ones(len(group.matrices[0].array()), np.float32)
            factors[group.key][[3, 40]] = 1 / 100
        assert len(groups) >= 4
        assert len(smooth.apply_factors(groups, factors)) > len(groups)
    save(models, out, inside=1 << 30)
    return out


def test_factors_change_no_answer(made: Callable[[str], Exported], outlying: Path) -> None:
    exported = made("portable")
    again = Exported(exported.owner, exported.parameters, Session(outlying))
    inputs = {"tokens": np.random.default_rng(0).integers(0, 80, (2, 19))}
    (wanted,) = exported.expected(inputs)
    assert error(again.whole(inputs)[0][0], wanted) < 1e-5
    assert error(again.steps(inputs, 7)[0], wanted[:, 7:]) < 1e-5


@pytest.mark.parametrize(("format", "gain"), [("int8", 3.0), ("4bit", 1.3)])
def test_calibration_moves_outliers_away(
    made: Callable[[str], Exported], outlying: Path, tmp_path: Path, format: str, gain: float
) -> None:
    exported = made("portable")
    rng = np.random.default_rng(0)
    inputs = {"tokens": rng.integers(0, 80, (2, 40))}
    (wanted,) = exported.expected(inputs)
    errors: list[float] = []
    for name, tokens in (("plain", None), ("calibrated", rng.integers(0, 80, 700).tolist())):
        session, _ = quantized(outlying, tmp_path / name, Recipe(format, tokens=tokens))
        again = Exported(exported.owner, exported.parameters, session)
        errors.append(error(again.whole(inputs)[0][0], wanted))
        assert error(again.steps(inputs, 31)[0], again.whole(inputs)[0][0][:, 31:]) < 0.1 * errors[-1]
    assert gain * errors[1] < errors[0]
