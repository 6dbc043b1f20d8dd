"""The language reference says what is so: every example on its pages has the outcome that the page claims."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from seqc.bundled import folder
from seqc.check import builtins
from seqc.diagnostics import render_all
from seqc.diagnostics.syntax import KEYWORDS
from seqc.source import Source
from seqc.syntax import format_text
from tests.errors.compiled import diagnose

GRAMMAR = folder("grammar")
FENCE = re.compile(r"^```seq([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    page: Path
    line: int
    claim: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.stem}:{self.line}"


def examples() -> Iterator[Example]:
    for page in sorted(GRAMMAR.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            yield Example(page, text.count("\n", 0, match.start()) + 1, match[1].strip(), match[2])


EXAMPLES = list(examples())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_examples_have_the_claimed_outcome(example: Example) -> None:
    kind, _, code = example.claim.partition("=")
    assert kind in ("", "error", "warning")
    found = diagnose(example.text, example.name)
    assert {diagnostic.code for diagnostic in found} == ({code} if code else set[str]()), render_all(found)


@pytest.mark.parametrize("example", [e for e in EXAMPLES if not e.claim], ids=lambda example: example.name)
def test_examples_are_formatted(example: Example) -> None:
    assert format_text(example.text) == example.text


def test_accept() -> None:
    """`make accept` lays the examples out; otherwise there is nothing to do."""
    if not os.environ.get("SEQC_ACCEPT"):
        return
    for page in GRAMMAR.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        page.write_text(FENCE.sub(_laid_out, text), encoding="utf-8")


def _laid_out(match: re.Match[str]) -> str:
    return match[0] if match[1].strip() else f"```seq\n{format_text(match[2])}```"


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 40


def test_the_page_lists_the_reserved_words() -> None:
    page = (GRAMMAR / "reference" / "1-text.md").read_text(encoding="utf-8")
    listed = page.partition("as the name of anything:")[2].partition("```")[0]
    assert set(listed.split()) == KEYWORDS


def test_the_pages_name_all_that_is_built_in() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (GRAMMAR / "reference").glob("*.md"))
    missing = [name for name in builtins.NAMES if not re.search(rf"`{name}\b", pages)]
    assert missing == [], "`grammar/reference/3-expressions.md` says what they are"


def test_links_lead_somewhere() -> None:
    for page in GRAMMAR.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:\s]+\.\w+)\)", text):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_a_source_knows_its_lines() -> None:
    source = Source("a\nbc\n", "x.seq")
    assert [source.line(number) for number in (1, 2, 3)] == ["a", "bc", ""]
    assert str(source.span(3, 4)) == "x.seq:2:2"
