"""The files themselves: checked, standard, independent of the length, safely named, whole or not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import seqc
from seqc.bundled import folder
from seqc.errors import UserError

from .parts import Manifest, Names, safe_name, writing
from .running import error, export
from .texts import HYBRID, RULES, SIZES

SPEC = seqc.loads(RULES)
GATED_DELTA = folder("specs") / "delta" / "gated_delta.seq"
MAMBA2 = folder("specs") / "linear" / "mamba2.seq"


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes(attribute.g)


@pytest.mark.parametrize("name", SPEC.rules)
def test_graphs_are_checked_and_use_standard_operators_only(tmp_path: Path, name: str) -> None:
    sizes = {axis: SIZES[axis] for axis in SPEC.checked.default_sizes(name) if axis in SIZES}
    SPEC.rule(name, **sizes).onnx(tmp_path / "out")
    for file in ("prefill.onnx", "step.onnx"):
        model = onnx.load(tmp_path / "out" / file)
        onnx.checker.check_model(model, full_check=True)
        assert {opset.domain: opset.version for opset in model.opset_import} == {"": 21}
        assert {node.domain for node in nodes(model.graph)} == {""}
        known = [x.name for x in (*model.graph.input, *model.graph.output, *model.graph.initializer)]
        assert all(name == safe_name(name) for name in known)


def test_a_state_of_a_decode_step_costs_few_nodes(tmp_path: Path) -> None:
    SPEC.rule("gated_delta", n=8, m=6).onnx(tmp_path / "out")
    assert len(onnx.load(tmp_path / "out" / "step.onnx").graph.node) <= 20


def test_a_mixer_of_a_decode_step_costs_few_nodes(tmp_path: Path) -> None:
    """Gated DeltaNet's projections, three convolutions, gates and norms around the state."""
    counts: list[int] = []
    for layers in (1, 2):
        seqc.load(GATED_DELTA).model(d=32, layers=layers).onnx(tmp_path / str(layers))
        counts.append(len(onnx.load(tmp_path / str(layers) / "step.onnx").graph.node))
    assert counts[1] - counts[0] <= 95  # with the SwiGLU block and two norms


def test_nothing_is_reshaped_twice(tmp_path: Path) -> None:
    seqc.load(GATED_DELTA).model(d=32, layers=1).onnx(tmp_path / "out")
    for file in ("prefill.onnx", "step.onnx"):
        graph = onnx.load(tmp_path / "out" / file).graph
        made = {node.output[0]: node for node in graph.node if node.op_type == "Reshape"}
        uses = [name for node in nodes(graph) for name in node.input]
        again = [node for node in graph.node if node.op_type == "Reshape" and node.input[0] in made]
        assert not [node for node in again if uses.count(node.input[0]) == 1]


def test_dimensions_of_one_come_at_once(tmp_path: Path) -> None:
    seqc.load(MAMBA2).model(d=32, layers=1).onnx(tmp_path / "out", profile="ort")
    for file in ("prefill.onnx", "step.onnx"):
        graph = onnx.load(tmp_path / "out" / file).graph
        made = {node.output[0] for node in graph.node if node.op_type == "Unsqueeze"}
        assert not [node for node in graph.node if node.op_type == "Unsqueeze" and node.input[0] in made]


def test_names_are_given_once_and_mangled() -> None:
    names = Names()
    assert names.claim("a/b c") == "a_b_c"
    assert names.claim("a.b") == "a.b"
    assert names.claim("a b c") == "a_b_c_1"


def test_large_weights_go_into_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "EXTERNAL_BYTES", 1000)
    exported = export(seqc.loads(HYBRID).model(d=32).whole, tmp_path)
    manifest = exported.session.manifest
    assert manifest.external_data is not None
    for file in ("prefill.onnx", "step.onnx"):
        stored = onnx.load(tmp_path / file, load_external_data=False).graph.initializer
        inside = [x for x in stored if x.data_location != onnx.TensorProto.EXTERNAL]
        assert len(inside) < len(stored)
        assert all(len(x.raw_data) < 1024 for x in inside)
    once = sum(x.numel() * 4 for x in exported.parameters.values())
    assert (tmp_path / manifest.external_data).stat().st_size < 1.5 * once + 40 * 4096
    inputs = exported.inputs(1, 5)
    assert error(exported.steps(inputs, 3)[0], exported.expected(inputs)[0][:, 3:]) < 1e-5


def test_parameters_keep_their_names(tmp_path: Path) -> None:
    exported = export(seqc.loads(HYBRID).model(layers=1).whole, tmp_path)
    manifest = exported.session.manifest
    stored = {
        x.name: onnx.numpy_helper.to_array(x) for x in onnx.load(tmp_path / "prefill.onnx").graph.initializer
    }
    assert set(manifest.weights) | set(manifest.folded) == set(exported.parameters)
    assert len(manifest.weights) > len(manifest.folded)
    for name, info in manifest.weights.items():
        wanted = exported.parameters[name].numpy().transpose(info.permutation)
        np.testing.assert_array_equal(stored[info.name].ravel(), wanted.ravel())


def test_nothing_is_written_on_error(tmp_path: Path) -> None:
    handle = SPEC.rule("lru", d=5)
    with pytest.raises(UserError, match="radius"):
        handle.onnx(tmp_path / "out", weights={"radius": np.zeros(4), "angle": np.zeros(5)})
    with pytest.raises(UserError, match="no profile `other`"):
        handle.onnx(tmp_path / "out", profile="other")
    with pytest.raises(UserError, match="no option `opset`"):
        handle.onnx(tmp_path / "out", opset="21")
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_is_a_closed_form(tmp_path: Path) -> None:
    SPEC.rule("lru", d=5).onnx(tmp_path / "out")
    text = (tmp_path / "out" / "manifest.json").read_text()
    manifest = Manifest.model_validate_json(text)
    assert manifest.model_dump_json(indent=2) + "\n" == text
    (state,) = manifest.states
    assert (state.layout, state.shape) == ("complex", ("batch", 5, 2))


def test_the_same_program_gives_the_same_bytes(tmp_path: Path) -> None:
    for out in ("one", "two"):
        SPEC.rule("momentum", n=8, m=6).onnx(tmp_path / out)
    for file in ("prefill.onnx", "step.onnx", "manifest.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
