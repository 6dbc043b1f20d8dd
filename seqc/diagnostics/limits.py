"""E08xx: the text is larger than the compiler is willing to read.

The limits are far above what anybody writes by hand. They are there so that no text, however it was made,
can hang the compiler or use up the memory of the machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqc.diagnostics.base import Diagnostic


@dataclass(frozen=True)
class FileTooLong(Diagnostic):
    """A file that is longer than the limit, in characters or in words.

    Share what several files need through `use "file.seq"`, and write what repeats with `repeat`.
    """

    code = "E0801"
    title = "file too long"

    size: int
    limit: int
    unit: str

    @property
    def message(self) -> str:
        return f"this file has more than {self.limit:,} {self.unit}"

    @property
    def help(self) -> str:
        return 'divide it into several files with `use "other.seq"`'


@dataclass(frozen=True)
class NestingTooDeep(Diagnostic):
    """Brackets, blocks or operations inside one another, more levels deep than the limit.

    A chain such as `a + b + c` counts one level for each operator.
    """

    code = "E0802"
    title = "nesting too deep"

    limit: int

    @property
    def message(self) -> str:
        return f"this is nested more than {self.limit} levels deep"

    @property
    def help(self) -> str:
        return "give a name to a part of it with `let`"


@dataclass(frozen=True)
class NumberTooLarge(Diagnostic):
    """A number that is too long to be meant, or beyond what a 64-bit float can hold.

    Wrong:

        rule huge(x[d]) {
            return 1e999 * x
        }

    Right:

        rule huge(x[d]) {
            return 1e30 * x
        }
    """

    code = "E0803"
    title = "number too large"

    limit: str

    @property
    def message(self) -> str:
        return f"a number must have {self.limit}"


@dataclass(frozen=True)
class NameTooLong(Diagnostic):
    """A name with more characters than the limit. Names end up in generated code and in the names of
    files.
    """

    code = "E0804"
    title = "name too long"

    length: int
    limit: int

    @property
    def message(self) -> str:
        return f"this name has {self.length} characters; the limit is {self.limit}"


@dataclass(frozen=True)
class RuleTooLarge(Diagnostic):
    """Rules whose parallel forms take more work to find than the limit: very many states, or objectives and updates
    that are long products of sums. The step form has no such limit.
    """

    code = "E0805"
    title = "rule too large to schedule"

    name: str
    limit: int

    @property
    def message(self) -> str:
        return f"the parallel forms up to that of the rule `{self.name}` need more than {self.limit:,} expressions"

    @property
    def help(self) -> str:
        return "divide it into several rules, or give it fewer states or a memory of less depth"
