"""What conformance found: a table for people, JSON and JUnit for programs."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Status = Literal["passed", "failed", "not applicable"]

COMPILE = "compile"  # the outcome of a program that a backend makes nothing of


@dataclass(frozen=True, slots=True)
class Finding:
    """One measurement: what was looked at, how far it was off, and how far it might have been.

    A value is ill-conditioned where the oracle's own answer moves beyond the usual tolerance when the numbers that go
    in are rounded otherwise; the tolerance is then that movement.
    """

    what: str
    error: float
    tolerance: float
    ill_conditioned: bool = False

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance

    def __str__(self) -> str:
        return f"{self.what}: error {self.error:.2e}, at most {self.tolerance:.0e} allowed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One check of one form of a rule or a model; `reason` says why it did not apply, or how it broke off."""

    target: str
    backend: str
    mode: str
    check: str
    status: Status
    seconds: float = 0.0
    findings: tuple[Finding, ...] = ()
    reason: str = ""

    @property
    def worst(self) -> Finding | None:
        """The finding nearest to, or farthest beyond, its tolerance."""
        return max(
            self.findings, key=lambda finding: finding.error / (finding.tolerance or 1e-300), default=None
        )

    @property
    def name(self) -> str:
        return f"{self.target} {self.backend} {self.mode} {self.check}"


@dataclass(slots=True)
class Report:
    """All outcomes, in the order in which they were found.  A report without any did not pass."""

    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return bool(self._with("passed")) and not self.failures

    @property
    def ok(self) -> bool:
        return self.passed

    @property
    def failures(self) -> list[Outcome]:
        return self._with("failed")

    def _with(self, status: Status) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == status]

    @property
    def worst_error(self) -> float:
        """The largest error of a well-conditioned value in single precision or wider."""
        errors = [f.error for o in self._with("passed") for f in o.findings if f.tolerance <= 1e-5]
        return max(errors, default=0.0)

    @property
    def ill_conditioned(self) -> list[Finding]:
        """The findings that passed by the movement of the oracle's own answer only."""
        return [f for o in self._with("passed") for f in o.findings if f.ill_conditioned]

    def summary(self) -> str:
        """One line."""
        counts = f"{len(self._with('passed'))} checks passed"
        if self.failures:
            counts = f"{len(self.failures)} checks failed, {len(self._with('passed'))} passed"
        line = f"{counts} in {self.seconds:.1f} s; worst error {self.worst_error:.1e}"
        if loose := self.ill_conditioned:
            worst = max(finding.error for finding in loose)
            line += f", and {worst:.1e} among {len(loose)} ill-conditioned values"
        return line

    def table(self) -> Table:
        """One row a form, one column a check: the worst error relative to nothing, or what went wrong."""
        from rich.table import Table

        checks = list(dict.fromkeys(outcome.check for outcome in self.outcomes))
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("target", "backend", "mode", *checks):
            table.add_column(heading, justify="right" if heading in checks else "left")
        for row, cells in self._rows().items():
            table.add_row(*row, *(_cell(cells[check]) if check in cells else "" for check in checks))
        return table

    def _rows(self) -> dict[tuple[str, str, str], dict[str, Outcome]]:
        rows: dict[tuple[str, str, str], dict[str, Outcome]] = {}
        for outcome in self.outcomes:
            rows.setdefault((outcome.target, outcome.backend, outcome.mode), {})[outcome.check] = outcome
        return rows

    def print(self, console: Console | None = None) -> None:
        """The table, what failed, and one line in the end."""
        if console is None:
            from rich.console import Console

            console = Console(highlight=False)
        console.print(self.table())
        for outcome in self._with("not applicable"):
            if outcome.check == COMPILE:
                console.print(f"\n{outcome.target} {outcome.backend}: {outcome.reason}", markup=False)
        for outcome in self.failures:
            console.print(f"\n{outcome.name}", style="bold red", markup=False)
            for line in _explanation(outcome):
                console.print(f"  {line}", markup=False)
        console.print(f"\n{self.summary()}", style="green" if self.passed else "red", markup=False)

    def __str__(self) -> str:
        from io import StringIO

        from rich.console import Console

        text = StringIO()
        self.print(Console(file=text, width=240, highlight=False, no_color=True))
        return text.getvalue()

    def to_data(self) -> dict[str, object]:
        return {
            "version": 1,
            "passed": self.passed,
            "seconds": round(self.seconds, 3),
            "outcomes": [_finite(asdict(outcome)) for outcome in self.outcomes],
        }

    def to_json(self) -> str:
        return json.dumps(self.to_data(), indent=2)

    def to_junit(self) -> str:
        """One test suite a form, one test case a check."""
        root = ET.Element("testsuites", name="seqc conform", time=f"{self.seconds:.3f}")
        for (target, backend, mode), cells in self._rows().items():
            outcomes = list(cells.values())
            suite = ET.SubElement(
                root,
                "testsuite",
                name=f"{target} {backend} {mode}",
                tests=str(len(outcomes)),
                failures=str(sum(outcome.status == "failed" for outcome in outcomes)),
                skipped=str(sum(outcome.status == "not applicable" for outcome in outcomes)),
            )
            for outcome in outcomes:
                _test_case(suite, outcome)
        ET.indent(root)
        return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _test_case(suite: ET.Element, outcome: Outcome) -> None:
    name = f"{outcome.target}.{outcome.backend}.{outcome.mode}"
    case = ET.SubElement(suite, "testcase", classname=name, name=outcome.check, time=f"{outcome.seconds:.3f}")
    if outcome.status == "failed":
        lines = list(_explanation(outcome))
        ET.SubElement(case, "failure", message=lines[0] if lines else "").text = "\n".join(lines)
    elif outcome.status == "not applicable":
        ET.SubElement(case, "skipped", message=outcome.reason)


def _explanation(outcome: Outcome) -> Iterable[str]:
    if outcome.reason:
        yield outcome.reason
    yield from (str(finding) for finding in outcome.findings if not finding.passed)


def _cell(outcome: Outcome) -> str:
    if outcome.status == "not applicable":
        return "[dim]–[/dim]"
    if outcome.status == "failed":
        return "[bold red]failed[/bold red]"
    worst = outcome.worst
    return "[green]ok[/green]" if worst is None else f"[green]{worst.error:.0e}[/green]"


def _finite(data: object) -> object:
    """JSON has no infinity."""
    if isinstance(data, float):
        return data if abs(data) < float("inf") else str(data)
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list | tuple) else data
