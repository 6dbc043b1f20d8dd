"""`seqc conform`: does what was generated mean what was written?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqc.cli.common import (
    Json,
    Schedule,
    Settings,
    Spec,
    chosen,
    console,
    find_spec,
    parse_settings,
    print_diagnostics,
    progress,
)
from seqc.output import write_file

if TYPE_CHECKING:
    from seqc.conformance import Report


def command(
    spec: Spec,
    name: Annotated[
        list[str] | None, typer.Option("--name", "-n", help="Only this model or rule; may be repeated.")
    ] = None,
    settings: Settings = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", "-t", help="Only this backend; may be repeated.")
    ] = None,
    check: Annotated[
        list[str] | None, typer.Option("--check", help="Only this check; may be repeated.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", "-w", metavar="FILE", help="Trained weights, as safetensors.")
    ] = None,
    schedule: Schedule = None,
    fast: Annotated[bool, typer.Option("--fast", help="Fewer lengths and dtypes: seconds a rule.")] = False,
    json: Json = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a JUnit report.")] = None,
) -> None:
    """Prove that every form of a spec, in every backend, computes what was written.

    Everything is compared with the oracle, which runs the spec token by token in double precision. The exit code is 1
    if any check fails.

    Example:

      seqc conform gated_delta --fast
      seqc conform mine.seq --target torch --junit report.xml
      seqc conform para_gru --schedule newton
    """
    report = _examined(
        find_spec(spec), name, parse_settings(settings), target, check, weights, fast, schedule
    )
    if junit is not None:
        write_file(junit, report.to_junit())
    if json:
        print(report.to_json())
    else:
        report.print(console())
    raise typer.Exit(0 if report.passed else 1)


def _examined(
    path: Path,
    names: list[str] | None,
    settings: dict[str, float],
    targets: list[str] | None,
    checks: list[str] | None,
    weights: Path | None,
    fast: bool,
    mode: str | None,
) -> Report:
    from seqc.conformance import conform
    from seqc.spec import load
    from seqc.weights import read_weights

    spec = load(path)
    print_diagnostics(spec.warnings)
    if not (names or spec.rules or spec.models):
        spec.rule()  # says that there is none
    tensors = None
    if weights is not None:
        tensors = read_weights(weights, chosen(path, names[0] if names else None, settings).whole)
    with progress("reading the spec") as show:
        return conform(
            spec,
            targets,
            names,
            fast=fast,
            weights=tensors,
            only=checks,
            progress=show,
            settings=settings,
            mode=mode,
        )
