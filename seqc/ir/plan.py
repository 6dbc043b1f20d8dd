"""Scheduled recurrences: what a backend is handed.

A `Plan` says how a whole sequence is computed.  Its expressions live on two levels:

- *token level*: one value a token, batch and time implied (`[batch, time, …axes]` when emitted);
- *block level*: inside a stage, time is cut into blocks of `block` tokens.  A block-level value has the axis
  `TOKEN` where it differs from token to token of the block, and none where it is one value a block; batch and the
  number of the block are implied (`[batch, blocks, (TOKEN,) …axes]`).  `OTHER` is a second axis over the tokens of
  the same block: an `[TOKEN, OTHER]` value relates a token to an earlier one.

A stage computes, in order: its inputs (token level, padded to whole blocks), `pre` (all blocks at once), the carried
states from block to block (the only sequential part: one step a block), and `reads` (all blocks at once, given the
carried state each block began with).  `block == 1` is a plain loop: there is no `TOKEN` axis.  `block == 0` is one
block as long as the sequence: there is no padding and the length of `TOKEN` is the sequence's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqc.ir.expr import DType, Expr, Leaf, LeafKind
from seqc.ir.recurrence import Recurrence, State

if TYPE_CHECKING:
    from seqc.source import Span

TOKEN = "%i"
OTHER = "%j"
BETWEEN = "%k"  # a third axis over the tokens of a block, for products of two kernels


@dataclass(frozen=True, eq=False, slots=True)
class StageInput:
    """A token-level value that a stage uses; `leaf` is how the stage's expressions name it (with `TOKEN`).

    `padding` fills the tokens that complete the last block; it is chosen so that they change nothing.  A `constant`
    input is the same for all tokens and rows (it depends on parameters only): its leaf has no `TOKEN`, its value no
    batch and no time, and its cotangent is summed over batch and blocks.  Where an input is `masked`, nothing follows
    from what it is without a token: it may be that of another one, so that nothing is singular there.
    """

    leaf: Leaf
    value: Expr
    padding: float = 0.0
    constant: bool = False
    masked: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class StageRead:
    """A result of a stage: block-level `value`, known afterwards at token level as `leaf`."""

    leaf: Leaf
    value: Expr


@dataclass(frozen=True, eq=False, slots=True)
class Newton:
    """How a stage with a block of one token may be solved at all tokens at once (DEER, arXiv 2309.12252).

    With `F` the updates and `J` the slopes at a guess `h` of the states after all tokens, an iteration adds the `d`
    with `d[t] = J[t] d[t - 1] + r[t]`, `r[t] = F(h[t - 1]) - h[t]`: a scan.  `slopes` are the derivatives of the first
    state after a token by the second before it, entry by entry, over the leaves of the stage; what is missing is 0.
    They are the whole Jacobian if `exact`.  The guess is a solution where no entry of `r` is more than `tolerance`
    roundings of the largest number that the state has had so far; if that is not so at all tokens after `limit`
    iterations, the rest is taken one token at a time, from the first that does not fit.

    The cotangents of the states are the same scan in reverse at the solution; once, if `exact`.
    """

    slopes: tuple[tuple[State, State, Expr], ...]
    exact: bool
    limit: int
    tolerance: int


@dataclass(frozen=True, eq=False, slots=True)
class Stage:
    """States that are advanced together, `block` tokens at a time.

    Leaves of the block-level expressions: `READ` leaves named by `inputs` and `pre`, and `STATE` leaves of `carried`
    (the state before the block).  `updates[i]` is `carried[i]` after the block.

    `sizes` gives the length of every axis that occurs, `TOKEN` and `OTHER` included.

    With `phase` (the name of a counter state, see `Plan.finals`), blocks begin where the counter is a multiple of
    `block`, separately for every row of the batch, and anew at each reset; tokens that a block lacks are padding.
    Its expressions may then use three more `READ` leaves: `VALID` (with `TOKEN`: 1 for a real token, 0 for padding),
    `FRESH` (no `TOKEN`: 1 for a block whose first slot holds a token, 0 for the rest of a block that an earlier call
    began) and `RESTART` (no `TOKEN`: 1 for a block that a reset begins).

    With `newton` it may be solved at all tokens at once; whoever does not, takes it as the loop that it is.
    """

    name: str
    carried: tuple[State, ...]
    block: int
    inputs: tuple[StageInput, ...]
    pre: tuple[tuple[Leaf, Expr], ...]
    updates: tuple[Expr, ...]
    reads: tuple[StageRead, ...]
    sizes: Mapping[str, int]
    phase: str | None = None
    newton: Newton | None = None


VALID = "%valid"
FRESH = "%fresh"
RESTART = "%restart"
RESET = Leaf(LeafKind.INPUT, "%reset", (), DType.BOOL)  # token level: this token begins a new sequence


@dataclass(frozen=True, eq=False, slots=True)
class Adjoint:
    """The reverse recurrence of a stage: what training needs, derived.

    `COTANGENT` leaves: one a read (named as the read's leaf, with `TOKEN`), and one a carried state (its name: the
    cotangent of the state *after* the block).  From the last block to the first, the cotangent of a state before a
    block is `steps[i] + direct[i]`; `direct` does not depend on the cotangent of the state after the block and is
    computed for all blocks at once.  `inputs[i]` is the cotangent of the stage's i-th input, for all blocks at once.
    All may use the stage's `pre`, the inputs and the state that each block began with (`STATE` leaves), and `pre`
    here: what the steps need and the cotangent of the state does not change, for all blocks at once.
    """

    pre: tuple[tuple[Leaf, Expr], ...]
    direct: tuple[Expr, ...]
    steps: tuple[Expr, ...]
    inputs: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Class:
    """A recurrence class of the states `states`: its code (`K1` …), name, and the reason, with a place in the text."""

    code: str
    name: str
    states: tuple[str, ...]
    reason: str
    span: Span | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """A recurrence with its classes and, for the whole sequence, its stages.

    `mode` is `scan`, `chunk`, `newton`, `loop` or `attention`.  `outputs` are token-level expressions over inputs,
    parameters and the reads of the stages, and (when the recurrence has stores) over the store leaves, whose growing
    axis then ranges over all tokens so far: a reduction or softmax over it sees the visible entries only.
    """

    recurrence: Recurrence
    mode: str
    modes: tuple[str, ...]
    classes: tuple[Class, ...]
    stages: tuple[Stage, ...]
    adjoints: tuple[Adjoint, ...]
    outputs: tuple[Expr, ...]
