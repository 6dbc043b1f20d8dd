"""Every diagnostic: its page, its two examples, and that something reports it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import seqc
from seqc.bundled import folder
from seqc.diagnostics import Bag, Diagnostic, Example, catalogue, explain_code
from seqc.diagnostics.catalogue import reference
from seqc.diagnostics.situations import SituationFault
from seqc.source import Source
from tests.errors.compiled import diagnose
from tests.errors.made import MADE

ROOT = Path(__file__).resolve().parents[2]
AREA = re.compile(r"([EW]\d\d)xx[:,] ")


def examples() -> Iterator[tuple[str, Example]]:
    for code, page in catalogue().items():
        for example in page.examples:
            yield code, example


def labels(cases: list[tuple[str, Example]]) -> list[str]:
    return [f"{code}-{example.kind}" for code, example in cases]


CASES = list(examples())


@pytest.mark.parametrize(("code", "example"), CASES, ids=labels(CASES))
def test_examples_do_what_their_page_says(code: str, example: Example) -> None:
    found = diagnose(example.text)
    wanted = {code} if example.kind == "wrong" else set[str]()
    assert {diagnostic.code for diagnostic in found} == wanted, "\n".join(map(str, found))


@pytest.mark.parametrize("code", sorted(MADE))
def test_made_cases_give_their_code(code: str, tmp_path: Path) -> None:
    assert {diagnostic.code for diagnostic in MADE[code](tmp_path)} == {code}


def test_every_code_is_shown_by_an_example_or_a_made_case() -> None:
    shown = {code for code, example in CASES if example.kind == "wrong"} | set(MADE)
    assert sorted(set(catalogue()) - shown) == []


def test_a_wrong_example_has_a_right_one() -> None:
    for code, page in catalogue().items():
        kinds = [example.kind for example in page.examples]
        assert kinds.count("wrong") == kinds.count("right"), code


def test_codes_belong_to_their_areas() -> None:
    for code, page in catalogue().items():
        area = AREA.match(sys.modules[page.diagnostic.__module__].__doc__ or "")
        assert area is not None, f"the docstring of {page.diagnostic.__module__} begins with its hundred"
        assert code.startswith(area[1]), code
        assert (page.diagnostic.severity == "warning") == code.startswith("W"), code


def test_every_diagnostic_is_reported_somewhere() -> None:
    package = Path(seqc.__file__).parent
    files = [*package.rglob("*.py"), *folder("backends").rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in files if path.parent.name != "diagnostics"]
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    silent = [
        page.diagnostic.__name__
        for page in catalogue().values()
        if page.diagnostic.__name__ not in words
        and not issubclass(page.diagnostic, SituationFault)
        # Backends say these, installed ones among them.
        and page.diagnostic.__module__ != "seqc.diagnostics.targets"
    ]
    assert silent == []


def test_the_voice() -> None:
    for code, page in catalogue().items():
        title = page.diagnostic.title
        assert title == title.strip(" .")
        assert title[0] in "`" or title[0].islower(), code
        assert page.prose.endswith("."), code
        assert "illegal" not in page.prose.lower(), code


def test_messages_are_one_lowercase_sentence() -> None:
    for code, example in CASES:
        for diagnostic in diagnose(example.text):
            message = diagnostic.message
            assert not message.endswith("."), code
            assert message[0] in "`" or not message[0].isupper(), code
            assert "\n" not in message, code


def test_facts_are_fields() -> None:
    for page in catalogue().values():
        assert fields(page.diagnostic)[0].name == "span"


def test_a_page_can_be_asked_for() -> None:
    page = explain_code("e0102")
    assert page is not None
    assert page.startswith("## E0102: unclosed bracket")
    assert explain_code("E9999") is None


def test_the_page_of_all_errors_is_up_to_date() -> None:
    path = ROOT / "docs" / "errors.md"
    if os.environ.get("SEQC_ACCEPT"):
        path.write_text(reference(), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == reference(), "run `make accept`"


def test_the_same_fault_is_said_once() -> None:
    source = Source("x")
    bag = Bag()
    page = next(iter(catalogue().values()))

    def fault() -> Diagnostic:
        return page.diagnostic(source.span(0, 1), "x")  # type: ignore[call-arg]  # the first page has one fact

    bag.add(fault())
    bag.add(fault())
    assert len(bag) == 1
