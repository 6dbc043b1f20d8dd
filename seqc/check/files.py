"""The files of a program: what `use` brings in, and what names its items see."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

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
    """Reads a text and the files that it uses, each once."""

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
                self._define(item)

    def _define(self, item: tree.Rule | tree.Block | tree.Model) -> None:
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
        self.module.own.append(definition)

    def _use(self, use: tree.Use, source: Source, depth: int) -> None:
        if use.library:
            if use.path != "std":
                self.bag.add(UnknownLibrary(use.span, use.path))
            return
        path = self._inside(use, source)
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

    def _inside(self, use: tree.Use, source: Source) -> Path | None:
        """The file that a `use` means; it never lies outside the folder of the spec."""
        written = use.path
        absolute = written.startswith(("/", "\\")) or ":" in written or "\0" in written
        if absolute or self.root is None:
            missing = not absolute and ".." not in Path(written).parts
            fault: Diagnostic = FileNotFound(use.span, written) if missing else PathOutside(use.span, written)
            self.bag.add(fault)
            return None
        folder = self.root if source.path is None else source.path.resolve().parent
        path = (folder / written).resolve()
        if not path.is_relative_to(self.root):
            self.bag.add(PathOutside(use.span, written))
            return None
        if not path.is_file():
            nearby = (
                tuple(sorted(p.name for p in path.parent.glob("*.seq")))[:50] if path.parent.is_dir() else ()
            )
            self.bag.add(FileNotFound(use.span, written, nearby))
            return None
        return path


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
