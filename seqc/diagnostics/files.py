"""E07xx: files, and the files that they use."""

from __future__ import annotations

from dataclasses import dataclass

from seqc.diagnostics.base import Diagnostic
from seqc.diagnostics.words import by_nearness, did_you_mean, listing


@dataclass(frozen=True)
class FileNotFound(Diagnostic):
    """A file that `use` names and that is not there. The path counts from the folder of the file that
    says `use`.

    Wrong:

        use "nowhere.seq"

        rule keep(x[d]) {
            return x
        }

    Right:

        rule keep(x[d]) {
            return x
        }
    """

    code = "E0701"
    title = "no such file"

    path: str
    nearby: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        return f"there is no file `{self.path}`"

    @property
    def help(self) -> str | None:
        return did_you_mean(self.path, self.nearby)


@dataclass(frozen=True)
class PathOutside(Diagnostic):
    """A path that leads out of the folder of the spec, or is absolute. A spec reads only what lies beside it.

    Wrong:

        use "../secret.seq"

        rule keep(x[d]) {
            return x
        }

    Right:

        rule keep(x[d]) {
            return x
        }
    """

    code = "E0702"
    title = "path outside the folder of the spec"

    path: str

    @property
    def message(self) -> str:
        return f"the path `{self.path}` leads out of the folder of the spec"


@dataclass(frozen=True)
class NotText(Diagnostic):
    """A file that cannot be read, or that is not text in UTF-8."""

    code = "E0704"
    title = "not a readable text"

    path: str
    reason: str

    @property
    def message(self) -> str:
        return f"`{self.path}` cannot be read: {self.reason}"


@dataclass(frozen=True)
class UseTooDeep(Diagnostic):
    """Files that use files that use files, more levels deep or more in number than the limit."""

    code = "E0705"
    title = "too many files"

    limit: int
    what: str

    @property
    def message(self) -> str:
        return f"more than {self.limit} {self.what}"


@dataclass(frozen=True)
class UnknownLibrary(Diagnostic):
    """A `use` of a library that does not exist. There is one, `std`, and it is there without being asked for.

    Wrong:

        use standard

        rule keep(x[d]) {
            return x
        }

    Right:

        use std

        rule keep(x[d]) {
            return x
        }
    """

    code = "E0706"
    title = "no such library"

    name: str

    @property
    def message(self) -> str:
        return f"there is no library `{self.name}`"

    @property
    def help(self) -> str:
        return 'write `use std`, or `use "file.seq"` for a file'


@dataclass(frozen=True)
class NoSuchItem(Diagnostic):
    """A rule, a block or a model that this spec does not have; or none was named, and there is not just one."""

    code = "E0707"
    title = "no such item"

    kind: str
    name: str  # "" where none was named
    known: tuple[str, ...]

    @property
    def message(self) -> str:
        if self.name:
            return f"there is no {self.kind} `{self.name}`"
        return f"this spec has several {self.kind}s" if self.known else f"this spec has no {self.kind}"

    @property
    def notes(self) -> tuple[str, ...]:
        if self.known:
            return (f"there is {listing(by_nearness(self.name, self.known))}",)
        return (f"this spec has no {self.kind}",) if self.name else ()

    @property
    def help(self) -> str | None:
        if self.name:
            return did_you_mean(self.name, self.known)
        return f"name one, as in `--name {self.known[0]}`" if self.known else None
