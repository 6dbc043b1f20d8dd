"""What the benchmarks write: rows of what was measured, as JSON, as a Markdown table and as a bar chart.

A row is one side of one comparison.  Its ratio says how it stands to what it is compared with, in the words of
`compared`, and the bar is what the ratio has to reach.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.measure import Sample

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "flash-linear-attention", "onnxruntime", "triton")
COLOURS = 10  # before they begin again
MET, MISSED = "#4c78a8", "#e45756"


@dataclass(frozen=True)
class Bar:
    """What a ratio has to reach: at least so much, or at most with `most`."""

    value: float
    most: bool = False

    def met(self, ratio: float) -> bool:
        return ratio <= self.value if self.most else ratio >= self.value

    def __str__(self) -> str:
        return f"{'at most' if self.most else 'at least'} {self.value:g}"


@dataclass(frozen=True)
class Row:
    """One side of one comparison; `median` and `spread` are in `unit`."""

    case: str
    side: str
    median: float
    spread: float
    unit: str
    ratio: float | None = None
    bar: Bar | None = None

    @property
    def met(self) -> bool | None:
        """Whether the ratio reaches the bar, where there are both."""
        return None if self.ratio is None or self.bar is None else self.bar.met(self.ratio)


def row(
    case: str, side: str, sample: Sample, unit: str, ratio: float | None = None, bar: Bar | None = None
) -> Row:
    """A row of a sample."""
    return Row(case, side, sample.median, sample.spread, unit, ratio, bar)


@dataclass
class Report:
    """The rows of a benchmark; `about` says what was done, `compared` what a ratio is."""

    name: str
    title: str
    about: str
    compared: str
    threads: int = 1
    rows: list[Row] = field(default_factory=list[Row])

    def add(self, *rows: Row) -> None:
        """Keep rows, and print them."""
        for each in rows:
            self.rows.append(each)
            print(_line(each), flush=True)

    def write(self, folder: Path = RESULTS) -> None:
        """`name.json`, `name.md` and `name.png`; the chart only where matplotlib is installed and ratios are."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.json").write_text(json.dumps(self.data(), indent=2) + "\n")
        charted = draw_ratios(self, folder / f"{self.name}.png")
        (folder / f"{self.name}.md").write_text(self.markdown(charted))

    def data(self) -> dict[str, Any]:
        rows = [{**asdict(each), "met": each.met} for each in self.rows]
        told = {"name": self.name, "title": self.title, "about": self.about, "compared": self.compared}
        return {"version": 1, **told, "machine": machine(), "threads": self.threads, "rows": rows}

    def markdown(self, charted: bool) -> str:
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        lines = [f"# {self.title}", "", self.about, "", f"{machine()}; {threads}.", ""]
        lines += [f"Ratio: {self.compared}", ""]
        lines += ["| case | side | median | spread | unit | ratio | bar | met |"]
        lines += ["| --- | --- | ---: | ---: | --- | ---: | --- | --- |"]
        lines += [f"| {' | '.join(_cells(each))} |" for each in self.rows]
        if charted:
            lines += ["", f"![{self.title}: ratios and bars]({self.name}.png)"]
        return "\n".join(lines) + "\n"


def _cells(each: Row) -> list[str]:
    ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
    bar = "" if each.bar is None else str(each.bar)
    met = {True: "yes", False: "**no**", None: ""}[each.met]
    return [each.case, each.side, number(each.median), number(each.spread), each.unit, ratio, bar, met]


def _line(each: Row) -> str:
    case, side, median, spread, unit, ratio, bar, met = _cells(each)
    compared = f"   ratio {ratio}" if ratio else ""
    wanted = f", {bar} wanted: {'met' if each.met else 'missed'}" if met else ""
    return f"{case:44} {side:24} {median:>10} ± {spread:<8} {unit}{compared}{wanted}"


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.1e}"


def draw_ratios(report: Report, path: Path) -> bool:
    """A bar a row that has a ratio, and a tick where its bar is; whether there was anything to draw, and with."""
    shown = [each for each in report.rows if each.ratio is not None]
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    if not shown:
        return False
    figure = Figure(figsize=(8, 1.2 + 0.28 * len(shown)), layout="constrained")
    axes = figure.subplots()
    labels = [f"{each.case}: {each.side}" for each in shown]
    ratios = [each.ratio or 0.0 for each in shown]
    places = range(len(shown))
    drawn = axes.barh(places, ratios, color=[MISSED if each.met is False else MET for each in shown])
    axes.bar_label(drawn, [f" {ratio:.3g}" for ratio in ratios], fontsize=7)
    for place, each in zip(places, shown, strict=True):
        if each.bar is not None:
            axes.plot([each.bar.value] * 2, [place - 0.45, place + 0.45], color="black", linewidth=1.5)
    axes.set_yticks(places, labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="x", which="both", labelsize=7)
    axes.margins(x=0.12, y=0.01)
    axes.set_title(f"{report.title} (black: the bar; red: missed)", fontsize=9)
    axes.set_xlabel(fill(f"ratio: {report.compared}", 70), fontsize=7)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return True


@dataclass(frozen=True)
class Line:
    """A curve of a plot over lengths."""

    name: str
    at: Sequence[float]
    values: Sequence[float]


def draw_lines(title: str, across: str, panels: dict[str, Sequence[Line]], path: Path) -> bool:
    """Panels beside each other, named by what their curves show, all axes logarithmic; False without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(5 * len(panels) + 2.5, 4.2), layout="constrained")
    for place, (up, lines) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for number, line in enumerate(lines):
            style = "-" if number < COLOURS else "--"
            place.plot(line.at, line.values, style, marker="o", markersize=3, linewidth=1, label=line.name)
        place.set(xscale="log", yscale="log", xlabel=across, ylabel=up)
        place.grid(alpha=0.3)
    names = figure.axes[0].get_legend_handles_labels()
    figure.legend(*names, loc="outside right center", fontsize=8)
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return True


def machine() -> str:
    """The machine and the versions, in words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = [_processor(), f"{cores} core{'s' if cores != 1 else ''}"]
    if memory := _memory():
        parts.append(f"{memory:.0f} GB of memory")
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"{', '.join(parts)}; {platform.system()}; {', '.join(versions)}"


def _processor() -> str:
    """The model, its family and the widest vectors, as Linux tells them."""
    known = {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in _text("/proc/cpuinfo").splitlines())
    }
    name = known.get("model name") or platform.processor() or platform.machine()
    family = f" (family {known['cpu family']}, model {known['model']})" if "cpu family" in known else ""
    flags = known.get("flags", "").split()
    widest = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), "")
    return f"{name}{family}" + (f" with {widest}" if widest else "")


def _memory() -> float:
    """Gigabytes."""
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) / 2**20
    return 0.0


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
