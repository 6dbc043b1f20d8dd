"""What the benchmarks share: how they measure, and what they write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.measure import Sample, in_turn
from benchmarks.report import Bar, Line, Report, Row, draw_lines, machine, number


def report() -> Report:
    made = Report("made", "Made up", "Nothing was measured.", "theirs over ours", threads=2)
    made.add(
        Row("sum", "ours", 2.0, 0.1, "ms", 3.0, Bar(2.5)),
        Row("sum", "theirs", 6.0, 0.2, "ms"),
        Row("product", "ours", 5.0, 0.1, "ms", 1.2, Bar(1.1, most=True)),
    )
    return made


def test_a_bar_is_reached_from_its_side() -> None:
    assert [row.met for row in report().rows] == [True, None, False]


def test_a_report_writes_what_it_holds(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report().write(tmp_path)
    told = json.loads((tmp_path / "made.json").read_text())
    assert [row["met"] for row in told["rows"]] == [True, None, False]
    assert told["threads"] == 2
    page = (tmp_path / "made.md").read_text()
    assert "| product | ours | 5 | 0.1 | ms | 1.20 | at most 1.1 | **no** |" in page
    assert "(made.png)" in page
    assert (tmp_path / "made.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_rows_draw_the_same_chart(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("first", "second"):
        report().write(tmp_path / name)
        assert draw_lines(
            "Title", "tokens", {"ms": [Line("a", [1, 10], [2, 3])]}, tmp_path / name / "lines.png"
        )
    for file in ("made.png", "lines.png"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_without_ratios_there_is_no_chart(tmp_path: Path) -> None:
    Report("bare", "Bare", "Nothing.", "nothing", rows=[Row("sum", "ours", 2.0, 0.1, "ms")]).write(tmp_path)
    assert not (tmp_path / "bare.png").exists()
    assert "png" not in (tmp_path / "bare.md").read_text()


def test_a_sample_is_a_median_and_half_the_quartiles_distance() -> None:
    assert Sample.of([1.0, 2.0, 3.0, 4.0, 100.0]) == Sample(3.0, 1.0)
    assert Sample.of([4.0]) == Sample(4.0, 0.0)
    assert Sample(2.0, 0.5).per(100) == Sample(50.0, 12.5)


def test_sides_take_turns_and_short_ones_are_repeated() -> None:
    called: list[str] = []
    clock = {"now": 0.0}

    def side(name: str, seconds: float) -> None:
        called.append(name)
        clock["now"] += seconds

    sides = {"long": lambda: side("long", 1.0), "short": lambda: side("short", 0.25)}
    found = in_turn(sides, rounds=2, clock=lambda: clock["now"], least=0.5)
    assert found == {"long": Sample(1000.0, 0.0), "short": Sample(250.0, 0.0)}
    warm, measured = ["long"] * 2 + ["short"] * 2, ["long", "short", "short"] * 2
    assert called == warm + measured


def test_the_machine_is_told_in_words() -> None:
    words = machine()
    assert "core" in words
    assert "torch " in words
    assert "/" not in words


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1234.5, "1,234"), (12.345, "12.3"), (0.01234, "0.0123"), (1e-5, "1.0e-05")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text
