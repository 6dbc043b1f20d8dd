"""From a scheduled program to a folder: two graphs, a manifest, initial states."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from safetensors.numpy import save_file

import seqc
from seqc.ir.expr import Conv
from seqc.ir.paths import parameter_table
from seqc.ir.program import Function, Model
from seqc.ir.recurrence import Recurrence, Store
from seqc.ir.timing import reads_future

from .builder import Array
from .export import PROFILES, Emitted, Emitter, Subject
from .manifest import Manifest, ResetInfo, StateInfo
from .program import Planner, StateSlot

EXTERNAL_BYTES = 100_000_000
EXTERNAL_FILE = "weights.data"
INITIAL_FILE = "init.safetensors"
SMALL_BYTES = 1024
ALIGNMENT = 4096


def subject_of(whole: Recurrence | Function | Model) -> Subject:
    """What is exported, and how its results are called."""
    owner = whole.body if isinstance(whole, Model) else whole
    kind = whole.kind if isinstance(whole, Model) else "rule"
    count = len(owner.outputs)
    plain = "logits" if isinstance(whole, Model) and whole.kind == "tokens" else "y"
    names = (plain,) if count == 1 else tuple(f"y{i}" for i in range(count))
    stateless = whole.reads_future if isinstance(whole, Model) else reads_future(owner)
    return Subject(whole.name, kind, owner, names, stateless)


def write(
    whole: Recurrence | Function | Model,
    folder: Path,
    weights: Mapping[str, Any] | None,
    planner: Planner,
    seed: int = 0,
    profile: str = "portable",
) -> Manifest:
    """Write everything into an existing folder."""
    subject = subject_of(whole)
    arrays = _arrays(whole, weights, seed)
    graphs = {"prefill": Emitter(subject, arrays, True, planner, profile).run()}
    if not subject.stateless:
        graphs["step"] = Emitter(subject, arrays, False, planner, profile).run()
    external = save({name: graph.model for name, graph in graphs.items()}, folder, EXTERNAL_BYTES)
    initial = {} if subject.stateless else _initial_states(whole, arrays)
    manifest = _manifest(subject, graphs, initial, profile, external)
    learned = {s.initial: initial[s.name] for s in manifest.states if isinstance(s.initial, str)}
    if learned:
        save_file(
            {name: np.asarray(a, np.float32, order="C") for name, a in learned.items()},
            folder / INITIAL_FILE,
        )
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def _arrays(
    whole: Recurrence | Function | Model, weights: Mapping[str, Any] | None, seed: int
) -> dict[str, Array]:
    """Every parameter as a numpy array; initialised where none are given."""
    from seqc.oracle import initial_parameters

    given: Mapping[str, Any] = initial_parameters(whole, seed) if weights is None else weights
    arrays: dict[str, Array] = {}
    for name in parameter_table(whole):
        value = given[name]
        array = value.detach().cpu().float().numpy() if hasattr(value, "detach") else np.asarray(value)
        arrays[name] = np.asarray(array, dtype=np.float32)
    return arrays


def save(models: Mapping[str, ir.Model], folder: Path, inside: int) -> str | None:
    """Check and write graphs; weights of more than `inside` bytes go into one file that all refer to."""
    sizes = [tensor.nbytes for model in models.values() for tensor in _tensors(model)]
    external = EXTERNAL_FILE if sum(sizes) > inside else None
    if external is not None:
        _move_out(models, folder / external)
    for name, model in models.items():
        path = folder / f"{name}.onnx"
        path.write_bytes(ir.to_proto(model).SerializeToString())
        onnx.checker.check_model(str(path), full_check=True)
    return external


def _tensors(model: ir.Model) -> list[ir.TensorProtocol]:
    return [v.const_value for v in model.graph.initializers.values() if v.const_value is not None]


def _move_out(models: Mapping[str, ir.Model], path: Path) -> None:
    """Put what is not small into a file, equal tensors once."""
    places: dict[bytes, int] = {}
    with path.open("wb") as file:
        for model in models.values():
            for value in model.graph.initializers.values():
                tensor = value.const_value
                if tensor is None or tensor.nbytes < SMALL_BYTES:
                    continue
                data = tensor.tobytes()
                key = hashlib.blake2b(data).digest()
                if key not in places:
                    file.write(b"\0" * (-file.tell() % ALIGNMENT))
                    places[key] = file.tell()
                    file.write(data)
                value.const_value = ir.ExternalTensor(
                    path.name,
                    places[key],
                    len(data),
                    tensor.dtype,
                    shape=ir.Shape(tensor.numpy().shape),
                    name=str(value.name),
                    base_dir=path.parent,
                )


def _initial_states(whole: Recurrence | Function | Model, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Every state before the first token with a batch of 1, as the definition gives it."""
    import torch

    from seqc.oracle import initial_state

    found = initial_state(whole, {name: torch.from_numpy(a.copy()) for name, a in arrays.items()})
    result: dict[str, Array] = {}
    for name, value in found.items():
        result[name] = torch.view_as_real(value).numpy() if value.is_complex() else value.numpy()
    return result


def _manifest(
    subject: Subject,
    graphs: Mapping[str, Emitted],
    initial: Mapping[str, Array],
    profile: str,
    external: str | None,
) -> Manifest:
    main = graphs["prefill"]
    table = parameter_table(subject.owner)
    return Manifest(
        generator=f"seqc {seqc.__version__}",
        name=subject.name,
        kind=subject.kind,
        profile=profile,
        opset=PROFILES[profile][""],
        prefill="prefill.onnx",
        step="step.onnx" if "step" in graphs else None,
        inputs=tuple(main.inputs),
        outputs=tuple(main.outputs),
        states=tuple(_state(slot, i, o, initial) for slot, i, o in main.states.values()),
        reset=None if main.reset is None else ResetInfo(name=main.reset, optional=True),
        weights=main.weights,
        folded=tuple(name for name in table if name not in main.weights),
        lowerings=tuple(main.lowerings),
        external_data=external,
    )


def _state(slot: StateSlot, input_: str, output: str, initial: Mapping[str, Array]) -> StateInfo:
    array = initial.get(slot.name)  # a state that is kept in another order of axes begins at 0
    first: float | str = 0.0
    if array is not None and array.size and slot.shape and -1 not in slot.shape:
        low, high = float(array.min()), float(array.max())
        first = low if low == high else slot.name
    elif array is not None and array.size:
        first = float(array.flat[0])
    return StateInfo(
        name=slot.name,
        input=input_,
        output=output,
        dtype=slot.dtype,  # type: ignore[arg-type]
        shape=("batch", *(n if n >= 0 else "past" for n in slot.shape)),
        axes=tuple(axis.strip("%") for axis in slot.axes),
        initial=first,
        layout=_layout(slot),
    )


def _layout(slot: StateSlot) -> Any:
    if slot.source is None:
        return "count"
    if isinstance(slot.source, Conv):
        return "window"
    if isinstance(slot.source, Store):
        return "sinks" if slot.name.endswith(".sinks") else "cache"
    return "complex" if slot.shape[-1:] == (2,) and slot.axes[-1] == "%parts" else "tensor"
