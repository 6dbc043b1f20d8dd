"""Running a compiled folder with ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from .manifest import Manifest, StateInfo

Array = npt.NDArray[Any]
State = dict[str, Array]
YOUNG_OPSETS = "ALLOW_RELEASED_ONNX_OPSET_ONLY"


@contextmanager
def _young_opsets() -> Generator[None]:
    """ONNX Runtime loads a graph of an opset younger than its own release only if the environment says so."""
    if YOUNG_OPSETS in os.environ:
        yield
        return
    os.environ[YOUNG_OPSETS] = "0"
    try:
        yield
    finally:
        del os.environ[YOUNG_OPSETS]


class Session:
    """The two graphs of a folder; states are dictionaries by the manifest's names.

    session = Session("build/")
    outputs, state = session.prefill({"tokens": tokens})           # [batch, time, …]
    outputs, state = session.step({"tokens": tokens[:, 0]}, state)  # [batch, …]
    """

    def __init__(
        self,
        folder: str | Path,
        threads: int | None = 1,
        providers: tuple[str, ...] = ("CPUExecutionProvider",),
    ) -> None:
        self.folder = Path(folder)
        self.manifest = Manifest.model_validate_json(
            (self.folder / "manifest.json").read_text(encoding="utf-8")
        )
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = threads or 0  # 0: as many as ONNX Runtime likes
        self._options.log_severity_level = 3
        self._providers = list(providers)
        self._sessions: dict[str, Any] = {}
        self._learned: dict[str, Array] | None = None

    def init_state(self, batch: int) -> State:
        """The states before the first token."""
        return {state.name: self._initial(state, batch) for state in self.manifest.states}

    def prefill(
        self, inputs: Mapping[str, Array] | Array, state: State | None = None, reset: Array | None = None
    ) -> tuple[dict[str, Array], State]:
        """Whole sequences: outputs by name, and the state after the last token."""
        return self._run(self.manifest.prefill, inputs, state, reset)

    def step(
        self, inputs: Mapping[str, Array] | Array, state: State | None = None, reset: Array | None = None
    ) -> tuple[dict[str, Array], State]:
        """One token."""
        if self.manifest.step is None:
            raise ValueError(f"{self.manifest.name} reads the future, so it has no step")
        return self._run(self.manifest.step, inputs, state, reset)

    def graph(self, file: str) -> Any:
        """The ONNX Runtime session of one of the two files; a `ValueError` says why there is none."""
        if file not in self._sessions:
            path = str(self.folder / file)
            try:
                with _young_opsets():
                    self._sessions[file] = ort.InferenceSession(
                        path, self._options, providers=self._providers
                    )
            except Exception as error:  # its exceptions have no other base
                raise ValueError(f"ONNX Runtime cannot load `{path}`: {error}") from error
        return self._sessions[file]

    def _run(
        self, file: str, inputs: Mapping[str, Array] | Array, state: State | None, reset: Array | None
    ) -> tuple[dict[str, Array], State]:
        manifest = self.manifest
        given = dict(inputs) if isinstance(inputs, Mapping) else {manifest.inputs[0].name: inputs}
        feeds = {info.name: np.asarray(given[info.name], info.dtype) for info in manifest.inputs}
        batch = len(feeds[manifest.inputs[0].name])
        for info in manifest.states:
            known = state or {}
            before = known[info.name] if info.name in known else self._initial(info, batch)
            feeds[info.input] = np.asarray(before, info.dtype)
        if reset is not None:
            if manifest.reset is None:
                raise ValueError(f"{manifest.name} has no resets")
            feeds[manifest.reset.name] = np.asarray(reset, bool)
        names = [info.name for info in manifest.outputs] + [info.output for info in manifest.states]
        results = self.graph(file).run(names, feeds)
        count = len(manifest.outputs)
        outputs = dict(zip(names[:count], results[:count], strict=True))
        return outputs, {info.name: x for info, x in zip(manifest.states, results[count:], strict=True)}

    def _initial(self, state: StateInfo, batch: int) -> Array:
        shape = tuple(batch if n == "batch" else n if isinstance(n, int) else 0 for n in state.shape)
        if not isinstance(state.initial, str):
            return np.full(shape, state.initial, state.dtype)
        if self._learned is None:
            from safetensors.numpy import load_file

            self._learned = load_file(self.folder / "init.safetensors")
        return np.broadcast_to(self._learned[state.initial], shape).astype(state.dtype)
