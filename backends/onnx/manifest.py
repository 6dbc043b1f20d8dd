"""What `manifest.json` says about the graphs beside it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION = 1

Dimension = int | str  # a length; "batch", "time", or the name of a length that grows from call to call
DTypeName = Literal["float32", "int64", "bool"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorInfo(_Strict):
    """An input or an output; `shape` is the one in `prefill.onnx`, the step's lacks "time"."""

    name: str
    dtype: DTypeName
    shape: tuple[Dimension, ...]


class StateInfo(_Strict):
    """A tensor that a call hands to the next: the graph's `output` is the next call's `input`.

    `initial` is a number or a key of `init.safetensors`, whose tensor has a batch of 1; a dimension whose name begins
    with "past" is a number of entries, 0 before the first token.  `axes` names every dimension; one that joins
    several has their names with spaces between, the outermost first.
    """

    name: str
    input: str
    output: str
    dtype: DTypeName
    shape: tuple[Dimension, ...]
    axes: tuple[str, ...]
    initial: float | str
    layout: Literal["tensor", "complex", "cache", "sinks", "count", "window"] = "tensor"


class ResetInfo(_Strict):
    """The boolean input that begins rows anew: `[batch, time]`, in the step `[batch]`; it may be left out."""

    name: str
    optional: bool


class WeightInfo(_Strict):
    """Where a parameter is: the initializer `name` holds it with its axes in the order `permutation`.

    Neighbouring axes may be joined: the entries are those of the transposed parameter, in their order.
    """

    name: str
    permutation: tuple[int, ...]


class LoweringInfo(_Strict):
    """How a rule's instance became nodes: its classes, its schedule, and the native operator if there is one."""

    instance: str
    rule: str
    classes: tuple[str, ...]
    prefill: str
    step: str
    native: str | None = None


class QuantizationInfo(_Strict):
    """How `seqc quantize` changed the graphs: by weight, in which form each is held; all others are as they were.

    `smoothed` counts the values whose outliers were moved into the matrices that take them.
    """

    format: str
    block: int | None
    calibrated: bool
    smoothed: int
    held: dict[str, str]


class Manifest(_Strict):
    """The interface of a folder with `prefill.onnx` and, unless the model reads the future, `step.onnx`."""

    version: int = VERSION
    generator: str
    target: Literal["onnx"] = "onnx"
    name: str
    kind: Literal["tokens", "series", "rule"]
    profile: str
    opset: int
    prefill: str
    step: str | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    states: tuple[StateInfo, ...]
    reset: ResetInfo | None
    weights: dict[str, WeightInfo] = Field(
        description="the parameters that the graphs hold as they are, by full name"
    )
    folded: tuple[str, ...] = Field(
        description="the parameters of which the graphs hold only what follows from them"
    )
    lowerings: tuple[LoweringInfo, ...]
    external_data: str | None = None
    quantization: QuantizationInfo | None = None
