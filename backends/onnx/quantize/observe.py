"""What goes into the products of a model while it reads a text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx_ir as ir

from ..builder import Array
from ..manifest import Manifest, TensorInfo
from ..session import Session, State

CHUNK = 256  # tokens a call
ROOM = 1 << 30  # bytes of moments that are gathered at a time


class Observer:
    """Runs a prefill over tokens and shows values of it; `folder` has the initial states of the model."""

    def __init__(self, model: ir.Model, manifest: Manifest, folder: Path, tokens: Array) -> None:
        self.model, self.manifest, self.folder, self.tokens = model, manifest, folder, tokens

    def samples(self, values: Sequence[ir.Value], count: int) -> dict[ir.Value, Array]:
        """About `count` rows `[rows, width]` of every value, evenly spread over the tokens."""
        stride = max(1, len(self.tokens) // count)
        found: dict[ir.Value, list[Array]] = {value: [] for value in values}
        for seen in self._chunks(values):
            for value, rows in seen.items():
                found[value].append(rows[::stride].copy())
        return {value: np.concatenate(rows) for value, rows in found.items()}

    def moments(self, widths: Mapping[ir.Value, int]) -> Iterator[tuple[ir.Value, Array]]:
        """The mean products `[width, width]` of the numbers of each value; few of them are there at a time."""
        for batch in _batches(widths):
            sums: dict[ir.Value, Array] = {}
            for seen in self._chunks(batch):
                for value, rows in seen.items():
                    product = rows.T @ rows
                    sums[value] = sums[value] + product if value in sums else product
            for value in batch:
                yield value, sums.pop(value).astype(np.float64) / len(self.tokens)

    def _chunks(self, values: Sequence[ir.Value]) -> Iterator[dict[ir.Value, Array]]:
        """Every value `[tokens, width]`, chunk by chunk of the tokens; the state goes on from one to the next."""
        with TemporaryDirectory(prefix="seqc-observe-") as place:
            session = self._session(Path(place), values)
            state: State | None = None
            for start in range(0, len(self.tokens), CHUNK):
                outputs, state = session.prefill(self.tokens[None, start : start + CHUNK], state)
                yield {value: _rows(outputs[str(value.name)]) for value in values}

    def _session(self, place: Path, values: Sequence[ir.Value]) -> Session:
        graph, outputs = self.model.graph, list(self.model.graph.outputs)
        shown = [value for value in values if value not in outputs]
        graph.outputs.extend(shown)
        try:
            ir.save(self.model, place / self.manifest.prefill, external_data="weights.data")
        finally:
            del graph.outputs[len(outputs) :]
        infos = [TensorInfo(name=str(value.name), dtype="float32", shape=()) for value in values]
        manifest = self.manifest.model_copy(update={"outputs": tuple(infos)})
        (place / "manifest.json").write_text(manifest.model_dump_json(), encoding="utf-8")
        if (self.folder / "init.safetensors").exists():
            shutil.copy(self.folder / "init.safetensors", place)
        return Session(place)


def _rows(array: Array) -> Array:
    return array.reshape(-1, array.shape[-1])


def _batches(widths: Mapping[ir.Value, int]) -> Iterator[list[ir.Value]]:
    """Values whose moments fit into the room together; at least one at a time."""
    batch: list[ir.Value] = []
    room = 0
    for value, width in widths.items():
        size = 4 * width**2
        if batch and room + size > ROOM:
            yield batch
            batch, room = [], 0
        batch.append(value)
        room += size
    if batch:
        yield batch
