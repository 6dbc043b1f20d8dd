"""Text of other languages in every place of a program: refused, or emitted as a mangled name, a number or a path.

The same program with plain names is the measure: the emitted module has no import, no call of a builtin and no string
of prose that the plain one lacks, every further identifier is made of the tried word, and both compute the same.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import seqc
from seqc.backend import backend
from seqc.diagnostics import SpecError
from seqc.errors import UserError
from seqc.spec import ModelHandle
from tests.emit.torch.parts import HINTS, KINDS, SPELLINGS, identifier
from tests.fuzz.pipeline import write_alone

load_module = import_module("seqc.backends.torch.load").load_module

PROGRAM = """\
rule {rule}({value}[{axis}], {gate}; {axis} = 4, {setting} = 2) {{
    param {param}[{axis}] = {number}
    let {let} = {value} * {setting}
    state {state}[{axis}] = 0
    {state}' = 0.5 * {state} + {param} * {let} + {gate}
    return {state}'
}}

block {block}({value}[{axis}]; {setting} = 1) {{
    let {let}[{axis}] = linear({value}) as {label}
    return {rule}({let}, {gate} = sum[{axis}]({let}))
}}

model {model}(tokens; vocab = 8, {axis} = 4, {count} = 2) {{
    {param}[{axis}] = embed(tokens, vocab)
    repeat {count} as {index} {{
        {param} = {param} + {block}({param})
    }}
    return lm_head({param}, vocab)
}}
"""
PLAIN = {
    "rule": "slowly", "value": "given", "gate": "gated", "axis": "wide", "setting": "factor", "param": "kept",
    "let": "half", "state": "memo", "block": "mixer", "label": "mapped", "model": "whole", "count": "layers",
    "index": "layer",
}  # fmt: skip

# Names that Python, torch, ONNX or the emitted module already gives a meaning.
WORDS = [
    "class", "def", "lambda", "None", "True", "import", "match", "type", "exec", "eval", "print", "open", "super",
    "__import__", "__class__", "__init__", "__dict__", "_", "__", "self", "cls", "torch", "nn", "F", "Tensor", "math",
    "Stage", "Rule", "Block", "Run", "States", "Slot", "scan", "step", "forward", "initial", "init_state", "state",
    "states", "batch", "time", "reset", "token", "run", "draw", "place", "like", "training", "parameters", "buffers",
    "register_buffer", "state_dict", "_modules", "_parameters", "children", "weight", "d_x", "linear", "normal",
    "If", "Loop", "Constant", "prefill", "manifest", "past", "float", "T_destination", "n_new", "a" * 64,
]  # fmt: skip

# Neither a name nor a number, wherever it stands.
TEXTS = [
    "__import__('os').system('touch owned')",
    'x"""\nimport os\n"""',
    "x\n    import os\n",
    "x; import os",
    "x) or exec('1'",
    "../../x",
    "/etc/passwd",
    "{x!r}",
    "ai.onnx::If",
    "\u0445",  # a Cyrillic letter that looks like x
    "\uff58",  # x at full width, which Python would read as x
    "x\u202e",
    "x\u00a0y",
    "x\0y",
    "b" * 65,
]
NUMBERS = {
    "1e999": None, "0x10": None, "1e99999999": None, "nan": None, "1_000": None, "1j": None, "9" * 60: None,
    "0b1": None, "1 if 1 else 2": None, "1e-999": 0.0, "007": 7.0, "1e-300": 1e-300, "1e300": 1e300, "2.50": 2.5,
}  # fmt: skip


def program(number: str = "1", **names: str) -> str:
    return PROGRAM.format_map({**PLAIN, **names, "number": number})


def read(text: str, name: str = "spec.seq") -> ModelHandle | None:
    """The model of a program; None if the program is refused."""
    try:
        return seqc.loads(text, name).model()
    except SpecError as error:
        _ = str(error)
        return None


def emitted(handle: ModelHandle) -> str:
    made: str = getattr(backend("torch"), "text")(handle.program())  # noqa: B009  # no part of the protocol
    return made


def computed(text: str) -> torch.Tensor:
    tree = ast.parse(text)
    name = [node.name for node in tree.body if isinstance(node, ast.ClassDef)][-1]
    with torch.no_grad():
        module = getattr(load_module(text, name), name)(0)
        found, _ = module(torch.tensor([[1, 5, 2, 7]]))
    assert isinstance(found, torch.Tensor)
    return found


class Facts:
    """What an emitted module says, without its names."""

    def __init__(self, text: str) -> None:
        assert all(char.isprintable() or char == "\n" for char in text)
        self.tree = ast.parse(text)
        self.docs = [
            ast.get_docstring(n, clean=False) for n in self.nodes(ast.Module, ast.ClassDef, ast.FunctionDef)
        ]
        self.imports = [ast.unparse(node) for node in self.nodes(ast.Import, ast.ImportFrom)]
        self.identifiers: set[str] = set()
        for node in ast.walk(self.tree):
            for name in ("id", "arg", "name", "attr"):
                value = getattr(node, name, None)
                self.identifiers |= {value} if isinstance(value, str) else set()
        self.strings = {
            node.value
            for node in self.nodes(ast.Constant)
            if isinstance(node.value, str) and node.value not in self.docs
        }
        self.called = {
            node.func.id
            for node in self.nodes(ast.Call)
            if isinstance(node.func, ast.Name) and node.func.id in dir(builtins)
        }
        self.size = len(self.nodes(ast.stmt))

    def nodes(self, *kinds: type[Any]) -> list[Any]:
        return [node for node in ast.walk(self.tree) if isinstance(node, kinds)]


PLAIN_TEXT = emitted(found) if (found := read(program())) else ""
PLAIN_FACTS = Facts(PLAIN_TEXT)


def bare(name: str) -> str:
    return re.sub(r"[_\d]", "", name).lower()


def audit(text: str, words: list[str]) -> None:
    facts = Facts(text)
    assert facts.imports == PLAIN_FACTS.imports
    assert facts.called <= PLAIN_FACTS.called
    assert (
        abs(facts.size - PLAIN_FACTS.size) < 0.05 * PLAIN_FACTS.size
    )  # the order of names changes what is shared
    assert not any(mark in doc for doc in facts.docs if doc for mark in ('"""', "import ", "\\"))
    # Besides the plain program's: what values are called by their operation, their place in a stage, or their axes;
    # a cotangent has a d in front.
    hints = {*HINTS.values(), *KINDS.values(), *SPELLINGS, "total", "top", "end", "in"}
    ours = set(map(bare, {*PLAIN_FACTS.identifiers, *hints, *(f"d_{hint}" for hint in hints)}))
    for name in facts.identifiers:
        if name in PLAIN_FACTS.identifiers or bare(name) in ours:
            continue
        assert not keyword.iskeyword(name)
        assert name not in dir(builtins) or name in words  # as an attribute: a part of that name
        assert any(bare(identifier(word)) in bare(name) for word in words), name
    for string in facts.strings - PLAIN_FACTS.strings:
        assert re.fullmatch(r"[A-Za-z0-9_.]+", string), string


def alone(place: str, word: str) -> bool:
    """Whether a word may be the name of one thing."""
    return read(program(**{place: word})) is not None


def rows(first: int, last: int) -> list[dict[str, str]]:
    """Programs with words in all their places; 0 to the number of words have every word in every place."""
    found: list[dict[str, str]] = []
    for i in range(first, last):
        row = {place: WORDS[(i + 5 * j) % len(WORDS)] for j, place in enumerate(PLAIN)}
        found.append({place: word for place, word in row.items() if alone(place, word)})
    return found


def try_rows(first: int, last: int) -> None:
    wanted = computed(PLAIN_TEXT)
    found = rows(first, last)
    for names in found:
        handle = read(program(**names))
        assert handle is not None, names
        text = emitted(handle)
        audit(text, list(names.values()))
        torch.testing.assert_close(computed(text), wanted, msg=f"{names}\n{text}")
    assert sum(map(len, found)) > (last - first) * len(PLAIN) * 0.7


def test_a_module_with_the_names_of_others_computes_the_same() -> None:
    try_rows(0, 6)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(6, len(WORDS), 6))
def test_every_word_in_every_place_computes_the_same(first: int) -> None:
    try_rows(first, min(first + 6, len(WORDS)))


@pytest.mark.parametrize("start", range(0, len(WORDS), 16))
def test_words_name_files_and_graphs(start: int, tmp_path: Path) -> None:
    import onnx

    word = WORDS[start]
    names = {place: word for place in ("model", "state", "label") if alone(place, word)}
    for count, chosen in enumerate([{}, names]):
        folder = tmp_path / str(count)
        folder.mkdir()
        handle = read(program(**chosen))
        assert handle is not None
        for target in ("torch", "onnx"):
            handle.write(target, folder / target)
        assert sorted(path.name for path in folder.iterdir()) == ["onnx", "torch"]
    kinds = [
        {(n.domain, n.op_type) for n in onnx.load(tmp_path / c / "onnx/prefill.onnx").graph.node}
        for c in "01"
    ]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("place", [*PLAIN, "number"])
def test_what_is_no_name_is_refused_everywhere(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for text in TEXTS:
        handle = read(program(**{place: text}))
        assert handle is None or "#" in text, text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_are_bounded_and_written_as_numbers(number: str) -> None:
    handle = read(program(number))
    value = NUMBERS[number]
    if value is None:
        assert handle is None
        return
    assert handle is not None
    text = emitted(handle)
    audit(text, [])
    found = {float(node.value) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)
             and isinstance(node.value, int | float)}  # fmt: skip
    assert value in found or value == 0.0


FILES = [
    "a\nimport os\n.seq",
    'x"""\n.seq',
    "a\rimport os.seq",
    "{}\u2028import os.seq",
    "\udcff.seq",
    "../../x.seq",
]


@pytest.mark.parametrize("name", FILES)
def test_a_file_name_cannot_leave_its_comment(name: str) -> None:
    handle = read(program(), name)
    assert handle is not None
    text = emitted(handle)
    audit(text, [])
    text.encode()


USES = [
    "../secret.seq", "../../secret.seq", "/etc/passwd", "//etc/passwd", "C:\\x.seq", "\\\\host\\x.seq",
    "a/../../secret.seq", "link.seq", "folder/secret.seq", "http://x/y.seq", "std/../../seqc/spec.py",
    "std/../../../etc/passwd", "x\0.seq",
    "x\\n.seq", "~/.bashrc", "$HOME/x.seq", ".", "", "loop.seq", "{x}.seq", "\u202e.seq", "a" * 300,
]  # fmt: skip


@pytest.mark.parametrize("path", USES)
def test_use_stays_inside_its_folder(path: str, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.seq").write_text("rule secret(x[d]) {\n    return x\n}\n", encoding="utf-8")
    (inside / "link.seq").symlink_to(tmp_path / "secret.seq")
    (inside / "folder").symlink_to(tmp_path)
    (inside / "loop.seq").symlink_to(inside / "loop.seq")
    main = inside / "main.seq"
    main.write_text(f'use "{path}"\nrule r(x[d]) {{\n    return secret(x)\n}}\n', encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SpecError) as caught:
        seqc.load(main)
    assert str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_quotation_marks_end_a_path(tmp_path: Path) -> None:
    for text in ('x" import os', "x'", 'x\\"; import os', "x\n"):
        assert read(f'use "{text}"\n{program()}') is None


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_an_output_folder_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.txt").write_text("mine", encoding="utf-8")
    work = tmp_path / "work"
    work.mkdir()
    (work / "out").symlink_to(tmp_path / "elsewhere")
    handle = read(program())
    assert handle is not None
    with pytest.raises(UserError):
        handle.write("torch", work / "out")
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["mine.txt"]
    (work / "out").unlink()
    assert write_alone(work, lambda out: handle.write("torch", out))
