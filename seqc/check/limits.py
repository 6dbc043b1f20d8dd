"""How large a program may be. Every limit has a diagnostic that names it; see `seqc/diagnostics/settings.py`."""

from __future__ import annotations

MAX_AXIS = 2**24  # entries of an axis
MAX_ELEMENTS = 2**36  # entries of one parameter or state
MAX_REPEAT = 4096  # applications of one `repeat`
MAX_UNROLLED = 64  # repetitions that are written out: in a rule, and in blocks that a rule may call
MAX_DEPTH = 16  # layers of an MLP memory
MAX_STEPS = 16  # steps of a learner at one token
MAX_WINDOW = 16  # tokens whose objectives a learner sums
MAX_USES = 16  # files that use one another, one inside the other
MAX_FILES = 64
MAX_CALLS = 32  # blocks that call one another, one inside the other
MAX_WORK = 30_000  # expressions looked at in one run
CHARACTERS = 64  # of text that count as one expression where it is only looked through

# Frames of Python: blocks call blocks from inside expressions, each as deep as its limit allows.
MAX_FRAMES = 16_000

# The length of an axis that has none, where a rule or a block is only checked.
MADE_UP = 8
