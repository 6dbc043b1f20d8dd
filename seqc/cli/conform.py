"""`seqc conform`: does what was generated mean what was written?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqc.cli.common import Json, Name, Settings, Spec


def command(
    spec: Spec,
    name: Name = None,
    settings: Settings = None,
    target: Annotated[list[str] | None, typer.Option(help="Only this backend; may be repeated.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="The checks that matter most, in seconds.")] = False,
    json: Json = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a JUnit report.")] = None,
) -> None:
    """Prove that every form of a spec, in every backend, computes what was written.

    Everything is compared with the oracle, which runs the spec token by token in double precision. The exit code is 1
    if any check fails.

    Example:

      seqc conform gated_delta --fast
      seqc conform mine.seq --target torch --junit report.xml
    """
