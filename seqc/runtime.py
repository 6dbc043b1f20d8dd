"""Running what `seqc compile` wrote: `seqc run`, and the demo's last act.

A runner hides whether PyTorch or ONNX Runtime computes; both are fed bytes and give logits.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from seqc.errors import UserError
from seqc.output import read_manifest

Array = npt.NDArray[Any]
State = Any  # whatever the runner keeps between tokens


class Runner(Protocol):
    """A language model with its weights: `[batch, time]` tokens in, `[batch, vocabulary]` logits of the last out."""

    def prefill(self, tokens: Array) -> tuple[Array, State]: ...

    def step(self, tokens: Array, state: State) -> tuple[Array, State]: ...


def continued(runner: Runner, prompt: bytes, length: int) -> Iterator[int]:
    """The bytes that follow a prompt, greedily; of equal logits the lowest byte wins."""
    _check_bytes(runner, prompt)
    logits, state = runner.prefill(np.frombuffer(prompt, np.uint8).astype(np.int64)[None])
    for produced in range(length):
        token = int(logits[0].argmax())
        yield token
        if produced + 1 < length:
            logits, state = runner.step(np.array([token]), state)


def _check_bytes(runner: Runner, prompt: bytes) -> None:
    """Refuse a model whose tokens are not bytes, and a prompt with bytes that the model does not know."""
    vocabulary = runner.prefill(np.zeros((1, 1), np.int64))[0].shape[-1]
    if vocabulary > 256:
        raise UserError(f"this is no model of bytes: it has {vocabulary:,} tokens")
    if max(prompt) >= vocabulary:
        raise UserError(f"the model has {vocabulary} tokens, and the prompt has the byte {max(prompt)}")


def throughput(runner: Runner, prompt: int = 512, steps: int = 64, repeats: int = 3) -> tuple[float, float]:
    """Tokens a second of a prefill of `prompt` tokens and of `steps` single ones; the median of `repeats`."""
    vocabulary = runner.prefill(np.zeros((1, 1), np.int64))[0].shape[-1]
    tokens = np.arange(max(prompt, steps), dtype=np.int64)[None] % vocabulary
    prefills: list[float] = []
    decodes: list[float] = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        _, state = runner.prefill(tokens[:, :prompt])
        middle = time.perf_counter()
        for step in range(steps):
            _, state = runner.step(tokens[:, step], state)
        prefills.append(prompt / (middle - start))
        decodes.append(steps / (time.perf_counter() - middle))
    # The first round warms up.
    return sorted(prefills[1:])[repeats // 2], sorted(decodes[1:])[repeats // 2]


def load_runner(folder: Path, threads: int | None = None) -> Runner:
    """The runner for a folder that `seqc compile` wrote."""
    manifest = read_manifest(folder)
    if manifest.get("kind") != "tokens":
        raise UserError(f"`{folder}` does not hold a model of tokens")
    makers: dict[str, type[OnnxRunner] | type[TorchRunner]] = {"prefill": OnnxRunner, "module": TorchRunner}
    for key, make in makers.items():
        if key in manifest:
            return _made(make, folder, manifest, threads)
    raise UserError(f"seqc cannot run what is in `{folder}`", "compile it for torch or onnx")


def _made(
    make: type[OnnxRunner] | type[TorchRunner], folder: Path, manifest: Mapping[str, Any], threads: int | None
) -> Runner:
    from safetensors import SafetensorError

    try:
        return make(folder, manifest, threads)
    except (OSError, SafetensorError, LookupError, TypeError, RuntimeError) as error:
        # RuntimeError: PyTorch, of weights that do not fit the module.
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"`{folder}` is damaged ({words})", "compile the spec again") from error


class OnnxRunner:
    """`prefill.onnx` and `step.onnx` in ONNX Runtime, on the CPU."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any], threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UserError("ONNX Runtime is not installed", "pip install 'seqc[onnx]'") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self._states: list[dict[str, Any]] = list(manifest["states"])
        self._initials = _initials(folder, self._states)
        self._tokens = str(manifest["inputs"][0]["name"])
        self._logits = str(manifest["outputs"][0]["name"])
        if manifest["step"] is None:
            raise UserError(f"`{manifest['name']}` reads the future: it has no step")
        files = (folder / str(manifest["prefill"]), folder / str(manifest["step"]))
        self._prefill, self._step = (_open(onnxruntime, path, options) for path in files)

    def prefill(self, tokens: Array) -> tuple[Array, State]:
        logits, state = self._run(self._prefill, tokens, self._initials)
        return logits[:, -1], state

    def step(self, tokens: Array, state: State) -> tuple[Array, State]:
        return self._run(self._step, tokens, state)

    def _run(self, session: Any, tokens: Array, state: Mapping[str, Array]) -> tuple[Array, State]:
        feeds = {self._tokens: tokens, **{own["input"]: state[own["name"]] for own in self._states}}
        logits, *after = session.run([self._logits, *(own["output"] for own in self._states)], feeds)
        return logits, {own["name"]: value for own, value in zip(self._states, after, strict=True)}


def _open(onnxruntime: Any, path: Path, options: Any) -> Any:
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UserError(f"ONNX Runtime cannot load `{path}`: {error}") from error


def _initials(folder: Path, states: list[dict[str, Any]]) -> dict[str, Array]:
    """The states before the first token, for a batch of one; an axis that grows has no entry yet."""
    learned: dict[str, Array] = {}
    if any(isinstance(state["initial"], str) for state in states):
        from safetensors.numpy import load_file

        learned = load_file(folder / "init.safetensors")
    made: dict[str, Array] = {}
    for state in states:
        shape = tuple(
            1 if length == "batch" else length if isinstance(length, int) else 0 for length in state["shape"]
        )
        initial = state["initial"]
        value = learned[initial] if isinstance(initial, str) else initial
        made[state["name"]] = np.array(np.broadcast_to(np.asarray(value, state["dtype"]), shape))
    return made


class TorchRunner:
    """The emitted module in PyTorch, with the weights that lie beside it."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any], threads: int | None = None) -> None:
        import torch
        from safetensors.torch import load_file

        if threads is not None:
            torch.set_num_threads(threads)
        module = _import_file(folder / str(manifest["module"]))
        self.model = getattr(module, str(manifest["class"]))()
        self.model.load_state_dict(load_file(folder / "weights.safetensors"))
        self.model.eval()

    def prefill(self, tokens: Array) -> tuple[Array, State]:
        import torch

        with torch.inference_mode():
            logits, state = self.model(torch.from_numpy(tokens.copy()))
        return logits[:, -1].float().numpy(), state

    def step(self, tokens: Array, state: State) -> tuple[Array, State]:
        import torch

        with torch.inference_mode():
            logits, state = self.model.step(torch.from_numpy(tokens.copy()), state)
        return logits.float().numpy(), state


def _import_file(path: Path) -> Any:
    """A Python file as a module, without a trace in `sys.path`."""
    name = f"seqc_compiled_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"`{path}` is not there", "compile the spec again")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
