"""docs/zoo.md and `specs/zoo.json`: every spec has a row that was measured, and the rows say what is so today."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seqc import bundled, zoo
from seqc.spec import load
from seqc.zoo import Findings, Verdict
from tools.zoo import digest
from tools.zoo.__main__ import PAGE, ROOT, examine, main, shown
from tools.zoo.references import references

PARITY = ROOT / "tests" / "parity"
EACH = pytest.mark.parametrize("path", bundled.specs(), ids=zoo.key)


@EACH
def test_every_spec_was_examined_as_it_is_written(path: Path) -> None:
    row = zoo.read().get(zoo.key(path))
    assert row is not None, "`make zoo` examines it"
    assert row["text"] == digest.of_text(path), "its text has changed: `make zoo` examines it again"
    assert row["findings"].keys() == row["facts"].keys()
    for name, findings in row["findings"].items():
        verdicts = findings["backends"].values()
        assert any(said["passed"] for said in verdicts), f"no backend runs {name}"
        assert not any(said["failed"] for said in verdicts), name


def test_where_things_are_imported_from_judges_nothing() -> None:
    said = digest.of_code("import math\n\n\nx = math.pi  # about 3\n")
    assert said == digest.of_code("from there import (\n    math,\n)\nx = math.pi\n")
    assert said != digest.of_code("import math\nx = math.e\n")


@EACH
def test_the_facts_are_those_of_today(path: Path) -> None:
    row = zoo.read().get(zoo.key(path))
    if row is not None:
        assert row["facts"] == zoo.facts(load(path)), "`make accept` brings them up to date"


def test_the_page_shows_the_record() -> None:
    if os.environ.get("SEQC_ACCEPT"):
        assert main(["--facts"]) == 0
    assert PAGE.read_text(encoding="utf-8") == shown(zoo.read())


def test_the_record_has_no_row_too_many() -> None:
    assert zoo.read().keys() <= {zoo.key(path) for path in bundled.specs()}


def test_references_name_specs_that_are_there() -> None:
    known = {zoo.key(path) for path in bundled.specs()}
    found = references(PARITY, known)
    assert found
    assert {reference.spec for reference in found} <= known


def test_references_are_read_off_the_tests(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(
        'pytestmark = pytest.mark.against("a book")\n'
        'CASES = ["linear/one.seq"]\n'
        "def helper(): return rule('linear/two.seq')\n"
        "@pytest.mark.parametrize('file', CASES)\n"
        "def test_general(file): helper()\n"
        "@pytest.mark.against('a loop')\n"
        "def test_own(): rule('gated/three.seq')\n"
        "@pytest.mark.parametrize('kind', [Cell('five', 'other')])\n"
        "@pytest.mark.against('a catalogue')\n"
        "def test_each(kind): block(f'nonlinear/{kind.file}.seq')\n"
        "def not_a_test(): rule('gated/four.seq')\n"
    )
    (tmp_path / "test_two.py").write_text("def test_of_ours(): rule('gated/five.seq')\n")
    assert [
        (each.test, each.spec, each.against) for each in references(tmp_path, {"nonlinear/five.seq"})
    ] == [
        ("test_general", "linear/one.seq", "a book"),
        ("test_general", "linear/two.seq", "a book"),
        ("test_own", "gated/three.seq", "a loop"),
        ("test_each", "nonlinear/five.seq", "a catalogue"),
    ]


def nothing(_: zoo.Record) -> None:
    """Instead of the files."""


def name_of(path: Path) -> str:
    return path.name


def written(_: Path) -> str:
    return "written"


def test_what_is_unchanged_is_not_examined_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = tmp_path / "specs" / "own"
    specs.mkdir(parents=True)
    one, two = specs / "one.seq", specs / "two.seq"
    one.write_text("rule one(x[d]) {\n    return x\n}\n")
    two.write_text("rule two(x[d]) {\n    return 2 * x\n}\n")
    monkeypatch.setattr("tools.zoo.__main__.write", nothing)
    monkeypatch.setattr("seqc.zoo.key", name_of)
    monkeypatch.setattr(digest, "of_emitted", written)
    asked: list[str] = []

    def measure(path: str) -> tuple[str, dict[str, Findings]]:
        asked.append(path)
        if path == "two.seq" and len(asked) < 3:
            raise ValueError("it crashed")
        findings = Findings(
            backends={"torch": Verdict(passed=1, failed=0)},
            worst_error=1e-7,
            ill_conditioned=0,
            worst_ill_conditioned=0.0,
        )
        return "written", {path[:3]: findings}

    record: zoo.Record = {}
    assert examine(record, [one, two], 1, measure) == ["two.seq: it crashed"]
    assert list(record) == ["one.seq"]
    assert examine(record, [one, two], 1, measure) == []
    assert asked == ["one.seq", "two.seq", "two.seq"]
    one.write_text("# A comment is no change.\nrule one(x[d]) { return x }\n")
    two.write_text("rule two(x[d]) {\n    return 3 * x\n}\n")
    assert examine(record, [one, two], 1, measure) == []
    assert asked == ["one.seq", "two.seq", "two.seq", "two.seq"]
