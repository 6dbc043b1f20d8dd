"""The README that lies beside the graphs."""

from __future__ import annotations

from .manifest import Manifest, TensorInfo


def readme(manifest: Manifest) -> str:
    """What was written, and how to run it."""
    lines = [f"# {manifest.name}", "", f"ONNX graphs, written by {manifest.generator}.", ""]
    lines += ["| file | what |", "| --- | --- |"]
    lines += [f"| `{file}` | {what} |" for file, what in _files(manifest)]
    lines += [
        "",
        "Every call takes the inputs and the states, and gives the outputs and the states after it:",
        "",
    ]
    lines += ["| name | shape | type |", "| --- | --- | --- |"]
    lines += [_row(info) for info in (*manifest.inputs, *manifest.outputs)]
    lines += [_row(TensorInfo(name=s.input, dtype=s.dtype, shape=s.shape)) for s in manifest.states]
    if manifest.states:
        lines += [
            "",
            "A state's output has the name that `manifest.json` gives; the first call takes its initial value",
        ]
        lines += ["from there too. An axis called `past` has no entries yet."]
    if manifest.reset is not None:
        lines += [
            "",
            f"`{manifest.reset.name}` (boolean, batch and time) may be left out: where it is true, a row begins",
        ]
        lines += ["anew before that token."]
    return "\n".join(lines) + "\n"


def _files(manifest: Manifest) -> list[tuple[str, str]]:
    opset = f"opset {manifest.opset}, profile {manifest.profile}"
    files = [(manifest.prefill, f"whole sequences, any batch and length ({opset})")]
    if manifest.step is not None:
        files.append((manifest.step, "one token: as the above, without the axis of time"))
    if manifest.external_data is not None:
        files.append((manifest.external_data, "the weights, which both graphs refer to"))
    if any(isinstance(state.initial, str) for state in manifest.states):
        files.append(("init.safetensors", "the initial values of states that do not begin at one number"))
    if manifest.weights or manifest.folded:
        files.append(("weights.safetensors", "the parameters by name"))
    return [*files, ("manifest.json", "inputs, outputs, states, and how every rule was lowered")]


def _row(info: TensorInfo) -> str:
    return f"| `{info.name}` | {', '.join(str(n) for n in info.shape)} | {info.dtype} |"
