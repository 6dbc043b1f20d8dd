"""Writing what a compilation makes: a whole folder or file, or nothing."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seqc.errors import UserError

MANIFEST = "manifest.json"


@contextmanager
def new_folder(target: Path) -> Generator[Path]:
    """A folder to write into that becomes `target` when the block ends well, and vanishes when it does not.

    A `target` that an earlier compilation wrote, or an empty one, is replaced; any other existing one is refused.
    """
    _refuse_foreign(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise UserError(f"cannot write `{str(target)[:200]}`: {error.strerror}") from error
    try:
        yield staging
        staging.chmod(0o755)
        _replace(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_file(target: Path, text: str) -> None:
    """Write a text whole or not at all; an existing file keeps its permissions."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            os.chmod(name, target.stat().st_mode & 0o777 if target.exists() else 0o644)
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise UserError(f"cannot write `{target}`: {error.strerror}") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder that `seqc compile` wrote."""
    try:
        manifest: Any = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"`{folder}` has no {MANIFEST}", "write such a folder with `seqc compile SPEC -o DIR`"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read `{folder / MANIFEST}`: {error.strerror}") from error
    except ValueError:
        raise UserError(f"`{folder / MANIFEST}` is not JSON") from None
    if not isinstance(manifest, dict) or not str(manifest.get("generator", "")).startswith("seqc "):
        raise UserError(f"`{folder / MANIFEST}` was not written by seqc")
    return dict(manifest)


def _refuse_foreign(target: Path) -> None:
    # Unlike those of `Path`, these say no to a name that no file can have: making it then says what is wrong.
    if not os.path.exists(target):
        return
    if not os.path.isdir(target):
        raise UserError(f"`{target}` is a file, not a folder")
    if any(target.iterdir()):
        try:
            read_manifest(target)
        except UserError as error:
            raise UserError(
                f"`{target}` holds files that seqc did not write",
                "choose a new folder with `-o`, or empty this one",
            ) from error


def _replace(staging: Path, target: Path) -> None:
    """Put `staging` in the place of `target`; the old folder stays until the new one is there."""
    if not target.exists():
        staging.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    target.rename(old / target.name)
    try:
        staging.rename(target)
    except OSError:
        (old / target.name).rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
