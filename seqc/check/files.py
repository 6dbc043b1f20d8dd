"""The files of a program: what `use` brings in, and what names its items see."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from seqc.bundled import folder
from seqc.check import builtins
from seqc.check.library import Library, standard
from seqc.check.limits import MAX_FILES, MAX_USES
from seqc.check.session import Definition, check_header
from seqc.diagnostics import Bag, Diagnostic
from seqc.diagnostics.files import FileNotFound, NotText, PathOutside, UnknownLibrary, UseTooDeep
from seqc.diagnostics.limits import FileTooLong
from seqc.diagnostics.names import BuiltinName, NameTaken
from seqc.source import Source
from seqc.syntax import tree
from seqc.syntax.lexer import MAX_CHARACTERS
from seqc.syntax.parser import parse


@dataclass(slots=True)
class Module:
    """All items of a program by name; one of the standard library is found where the program has none of that name."""

    items: dict[str, Definition] = field(default_factory=dict[str, Definition])
    own: list[Definition] = field(default_factory=list[Definition])
    library: Library = field(default_factory=standard)

    def lookup(self, name: str) -> Definition | None:
        return self.items.get(name) or self.library.lookup(name)

    def callables(self) -> tuple[str, ...]:
        return (*self.items, *self.library.callables())


@dataclass(slots=True)
class Reader:
    """Reads a text and the files that it uses, each once.

    What the text itself defines is the program's own; what used files define is there to be called.
    """

    bag: Bag
    root: Path | None
    module: Module = field(default_factory=Module)
    seen: set[Path] = field(default_factory=set[Path])

    def read(self, source: Source, depth: int = 0) -> None:
        file = parse(source, self.bag)
        if file is None:
            return
        for item in file.items:
            if isinstance(item, tree.Use):
                self._use(item, source, depth)
            else:
                self._define(item, own=depth == 0)

    def _define(self, item: tree.Rule | tree.Block | tree.Model, own: bool) -> None:
        name = item.name
        before = self.module.items.get(name.text)
        if before is not None:
            self.bag.add(NameTaken(name.span, name.text, before.node.name.span))
            return
        if name.text in builtins.NAMES and not isinstance(item, tree.Model):
            self.bag.add(BuiltinName(name.span, name.text))
        check_header(self.bag, item)
        definition = Definition(item, self.module)
        self.module.items[name.text] = definition
        if own:
            self.module.own.append(definition)

    def _use(self, use: tree.Use, source: Source, depth: int) -> None:
        if use.library:
            if use.path != "std":
                self.bag.add(UnknownLibrary(use.span, use.path))
            return
        try:
            path = self._find(use, source)
        except (OSError, RuntimeError, ValueError):  # a name that no file can have, links in a circle
            path = None
            self.bag.add(FileNotFound(use.span, use.path))
        if path is None or path in self.seen:
            return
        if depth >= MAX_USES or len(self.seen) >= MAX_FILES:
            limit, what = (MAX_USES, "levels of `use`") if depth >= MAX_USES else (MAX_FILES, "files")
            self.bag.add(UseTooDeep(use.span, limit, what))
            return
        self.seen.add(path)
        found = read_text(path, use.path)
        if isinstance(found, str):
            self.read(Source(found, use.path, path), depth + 1)
        else:
            self.bag.add(found(use))

    def _find(self, use: tree.Use, source: Source) -> Path | None:
        """The file that a `use` means: beside the file that says it, or, as `std/...`, one that comes with seqc."""
        written = use.path
        if written.startswith(("/", "\\")) or ":" in written or "\0" in written:
            self.bag.add(PathOutside(use.span, written))
            return None
        if source.path is not None:
            root = self._root(source.path)
            path = (source.path.resolve().parent / written).resolve()
            if not path.is_relative_to(root):
                self.bag.add(PathOutside(use.span, written))
                return None
            if path.is_file():
                return path
        shipped = _shipped(written)
        if shipped is None:
            outside = source.path is None and ".." in Path(written).parts
            nearby = () if source.path is None else _beside(source.path, written)
            fault = PathOutside(use.span, written) if outside else FileNotFound(use.span, written, nearby)
            self.bag.add(fault)
        return shipped

    def _root(self, path: Path) -> Path:
        """The folder that `use` in this file must not leave."""
        library = folder("specs").resolve()
        inside = path.resolve().is_relative_to(library)
        return library if inside or self.root is None else self.root


def _beside(path: Path, written: str) -> tuple[str, ...]:
    """The files that may have been meant, as they would be written."""
    names = sorted(other.relative_to(path.parent).as_posix() for other in path.parent.glob("*.seq"))
    names += sorted(other.relative_to(path.parent).as_posix() for other in path.parent.glob("*/*.seq"))
    return tuple(name for name in names[:100] if name != written)


def _shipped(written: str) -> Path | None:
    """`std/gated/mamba.seq` is the spec of that name that comes with seqc."""
    if not written.startswith("std/"):
        return None
    library = folder("specs").resolve()
    path = (library / written.removeprefix("std/")).resolve()
    return path if path.is_relative_to(library) and path.suffix == ".seq" and path.is_file() else None


class Unreadable:
    """Why a file cannot be used, as a diagnostic at the `use`."""

    def __init__(self, name: str, reason: str, too_long: int = 0) -> None:
        self.name, self.reason, self.too_long = name, reason, too_long

    def __call__(self, use: tree.Use) -> Diagnostic:
        if self.too_long:
            return FileTooLong(use.span, self.too_long, MAX_CHARACTERS, "characters")
        return NotText(use.span, self.name, self.reason)


def read_text(path: Path, name: str) -> str | Unreadable:
    """The text of a file, or why there is none; a file that is far too long is not read."""
    try:
        size = path.stat().st_size
        if size > 4 * MAX_CHARACTERS:
            return Unreadable(name, "", size)
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return Unreadable(name, "it is not UTF-8")
    except OSError as error:
        return Unreadable(name, (error.strerror or "it cannot be opened").lower())


def read_program(source: Source, bag: Bag) -> Module:
    """A text and everything that it uses."""
    root = None if source.path is None else source.path.resolve().parent
    reader = Reader(bag, root)
    if source.path is not None:
        reader.seen.add(source.path.resolve())
    reader.read(source)
    return reader.module
