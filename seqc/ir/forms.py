"""The JSON form of the intermediate representation, as pydantic models: what `seqc.ir.serial` writes and
reads.

An expression is a list of nodes in which each refers to earlier ones by position.  A recurrence and a
function carry a list of their own; callables are listed callees first and a call refers to them by position.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from seqc.ir import expr
from seqc.ir.expr import DType, LeafKind

VERSION: Literal[1] = 1

Ref = Annotated[int, Field(ge=0)]
Axes = tuple[str, ...]


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class NodeForm(Form):
    """A node; `refs` are the fields that hold positions of other nodes."""

    refs: ClassVar[tuple[str, ...]] = ()
    type: ClassVar[type[expr.Expr]]


class ConstForm(NodeForm):
    type = expr.Const
    node: Literal["const"] = "const"
    value: float


class LeafForm(NodeForm):
    type = expr.Leaf
    node: Literal["leaf"] = "leaf"
    kind: LeafKind
    name: str
    over: Axes = ()
    number: DType = DType.REAL


class SizeForm(NodeForm):
    type = expr.Size
    node: Literal["size"] = "size"
    axis: str


class IndexForm(NodeForm):
    type = expr.Index
    node: Literal["index"] = "index"
    axis: str


class ApplyForm(NodeForm):
    type = expr.Apply
    refs = ("args",)
    node: Literal["apply"] = "apply"
    op: str
    args: tuple[Ref, ...]


class ReduceForm(NodeForm):
    type = expr.Reduce
    refs = ("arg",)
    node: Literal["reduce"] = "reduce"
    op: str
    over: Axes
    arg: Ref


class SoftmaxForm(NodeForm):
    type = expr.Softmax
    refs = ("arg",)
    node: Literal["softmax"] = "softmax"
    over: Axes
    arg: Ref


class RenameForm(NodeForm):
    type = expr.Rename
    refs = ("arg",)
    node: Literal["rename"] = "rename"
    pairs: tuple[tuple[str, str], ...]
    arg: Ref


class SliceForm(NodeForm):
    type = expr.Slice
    refs = ("arg",)
    node: Literal["slice"] = "slice"
    axis: str
    new: str
    start: int
    arg: Ref


class ConcatForm(NodeForm):
    type = expr.Concat
    refs = ("args",)
    node: Literal["concat"] = "concat"
    axis: str
    parts: Axes
    starts: tuple[int, ...]
    args: tuple[Ref, ...]


class AtForm(NodeForm):
    type = expr.At
    refs = ("arg",)
    node: Literal["at"] = "at"
    axis: str
    index: int
    arg: Ref


class TakeForm(NodeForm):
    type = expr.Take
    refs = ("arg", "index")
    node: Literal["take"] = "take"
    arg: Ref
    index: Ref
    axis: str


class PutForm(NodeForm):
    type = expr.Put
    refs = ("arg", "index")
    node: Literal["put"] = "put"
    arg: Ref
    index: Ref
    axis: str
    over: Axes


class RankForm(NodeForm):
    type = expr.Rank
    refs = ("arg",)
    node: Literal["rank"] = "rank"
    axis: str
    arg: Ref


class ShiftForm(NodeForm):
    type = expr.Shift
    refs = ("arg",)
    node: Literal["shift"] = "shift"
    axis: str
    by: int
    arg: Ref


class ScanForm(NodeForm):
    type = expr.Scan
    refs = ("decay", "source")
    node: Literal["scan"] = "scan"
    decay: Ref
    source: Ref
    axis: str
    reverse: bool = False
    columns: tuple[str, str] | None = None


class SolveForm(NodeForm):
    type = expr.Solve
    refs = ("matrix", "rhs")
    node: Literal["solve"] = "solve"
    matrix: Ref
    rhs: Ref
    rows: str
    columns: str
    upper: bool = False


class ConvForm(NodeForm):
    type = expr.Conv
    refs = ("arg", "weight", "bias")
    node: Literal["conv"] = "conv"
    name: str
    arg: Ref
    weight: Ref
    bias: Ref | None = None
    taps: str


class GatherForm(NodeForm):
    type = expr.Gather
    refs = ("table", "index")
    node: Literal["gather"] = "gather"
    table: Ref
    index: Ref
    axis: str


class FlipForm(NodeForm):
    type = expr.Flip
    refs = ("arg",)
    node: Literal["flip"] = "flip"
    arg: Ref


class DropoutForm(NodeForm):
    type = expr.Dropout
    refs = ("arg",)
    node: Literal["dropout"] = "dropout"
    name: str
    rate: float
    arg: Ref


class PoolForm(NodeForm):
    type = expr.Pool
    refs = ("arg",)
    node: Literal["pool"] = "pool"
    op: str
    arg: Ref


class InvokeForm(NodeForm):
    """`callee` is a position among the callables."""

    type = expr.Invoke
    refs = ("args", "given")
    node: Literal["invoke"] = "invoke"
    name: str
    callee: Ref
    args: tuple[Ref, ...]
    given: tuple[tuple[str, Ref], ...] = ()


class ItemForm(NodeForm):
    type = expr.Item
    refs = ("call",)
    node: Literal["item"] = "item"
    call: Ref
    index: int


AnyNode = Annotated[
    ConstForm
    | LeafForm
    | SizeForm
    | IndexForm
    | ApplyForm
    | ReduceForm
    | SoftmaxForm
    | RenameForm
    | SliceForm
    | ConcatForm
    | AtForm
    | TakeForm
    | PutForm
    | RankForm
    | ShiftForm
    | ScanForm
    | SolveForm
    | ConvForm
    | GatherForm
    | FlipForm
    | DropoutForm
    | PoolForm
    | InvokeForm
    | ItemForm,
    Field(discriminator="node"),
]


class ParameterForm(Form):
    name: str
    axes: Axes
    initial: Ref
    decays: bool = True


class StateForm(Form):
    name: str
    axes: Axes
    initial: Ref
    dtype: DType = DType.REAL


class StoreForm(Form):
    name: str
    axis: str
    axes: Axes
    value: Ref
    window: int | None = None
    sinks: int = 0


class OriginForm(Form):
    """Where in the text a node comes from: characters `start` to `end` of a source."""

    node: Ref
    source: Ref
    start: int
    end: int


class OwnerForm(Form):
    """What a recurrence and a function have in common; `names` are the lets, in order."""

    name: str
    nodes: tuple[AnyNode, ...]
    inputs: tuple[Ref, ...]
    parameters: tuple[ParameterForm, ...]
    names: tuple[tuple[str, Ref], ...]
    outputs: tuple[Ref, ...]
    returns: tuple[Axes, ...]
    sizes: dict[str, int]
    origins: tuple[OriginForm, ...] = ()


class RecurrenceForm(OwnerForm):
    callable: Literal["recurrence"] = "recurrence"
    states: tuple[StateForm, ...]
    stores: tuple[StoreForm, ...]
    updates: tuple[Ref, ...]
    mapped: Axes = ()


class FunctionForm(OwnerForm):
    callable: Literal["function"] = "function"


class RepeatForm(Form):
    """`bodies` are positions among the callables."""

    callable: Literal["repeat"] = "repeat"
    bodies: tuple[Ref, ...]
    shared: bool = False


AnyCallable = Annotated[RecurrenceForm | FunctionForm | RepeatForm, Field(discriminator="callable")]


class SourceForm(Form):
    name: str
    text: str
    library: bool = False


class ModelForm(Form):
    name: str
    kind: Literal["tokens", "series"]
    settings: dict[str, float]
    reads_future: bool = False


class ProgramForm(Form):
    """A recurrence, a function or, with `model`, a model: the last of the callables, after those that it
    calls.
    """

    format: Literal["seqc.program"] = "seqc.program"
    version: Literal[1] = VERSION
    model: ModelForm | None = None
    sources: tuple[SourceForm, ...]
    callables: tuple[AnyCallable, ...]


class ExpressionsForm(Form):
    format: Literal["seqc.expressions"] = "seqc.expressions"
    version: Literal[1] = VERSION
    nodes: tuple[AnyNode, ...]
    roots: tuple[Ref, ...]


FORMS: dict[type[expr.Expr], type[NodeForm]] = {form.type: form for form in NodeForm.__subclasses__()}
