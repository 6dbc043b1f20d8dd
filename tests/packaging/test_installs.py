"""A wheel, an editable install and a bare clone are the same program."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from seqc.backend import backends

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
USES_ALL_FOLDERS = f"""
import pathlib, seqc
from seqc.backend import backends
from seqc.bundled import folder, specs
assert (folder("grammar") / "seq.lark").is_file()
assert any(path.stem == "griffin" for path in specs())
assert set(backends()) >= {set(backends())}
print(pathlib.Path(seqc.__file__).resolve().parent)
"""


def run(*command: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of this checkout that git knows or would add, without what is built here."""
    target = tmp_path_factory.mktemp("clone") / "seqc"
    listed = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT)
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def environment(place: Path) -> Path:
    """A fresh environment that borrows the dependencies of this one, but not its seqc; returns its Python."""
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    packages = run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=place).strip()
    # A folder named in a .pth is searched, but its own .pth files (our editable install) are not read.
    (Path(packages) / "borrowed.pth").write_text("\n".join(site.getsitepackages()))
    return python


def works(python: Path, package: Path, cwd: Path) -> None:
    assert Path(run(python, "-c", USES_ALL_FOLDERS, cwd=cwd).strip()) == package
    assert run(python, "-m", "seqc", "--version", cwd=cwd).startswith("seqc ")
    run(python, "-m", "seqc", "check", "griffin", cwd=cwd)
    run(python, "-m", "seqc", "compile", "griffin", "--target", "torch", "-o", "built", cwd=cwd)
    assert (cwd / "built" / "manifest.json").is_file()


@pytest.fixture(scope="module")
def installed(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Python of an environment with the wheel, and the package in it."""
    place = tmp_path_factory.mktemp("wheel")
    python = environment(place / "venv")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place, clone, cwd=place)
    (wheel,) = place.glob("*.whl")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=place)
    packages = run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=place).strip()
    return python, Path(packages).resolve() / "seqc"


def test_a_wheel_works(installed: tuple[Path, Path], tmp_path: Path) -> None:
    works(*installed, tmp_path)


def test_a_wheel_holds_nothing_beside_its_package(installed: tuple[Path, Path]) -> None:
    packages = installed[1].parent
    assert not {"grammar", "backends", "specs", "tests", "examples", "cli.py"} & {
        p.name for p in packages.iterdir()
    }


def test_the_types_of_a_wheel_hold(installed: tuple[Path, Path], tmp_path: Path) -> None:
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\nignore_missing_imports = True\nuntyped_calls_exclude = torch\n")
    arguments = ("--strict", "--config-file", config, "--python-executable", installed[0], "-p", "seqc")
    run(sys.executable, "-m", "mypy", *arguments, cwd=tmp_path)


def test_an_editable_install_works(clone: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    arguments = ("--quiet", "--no-deps", "--no-build-isolation", "-e", clone)
    run(python, "-m", "pip", "install", *arguments, cwd=tmp_path)
    works(python, (clone / "seqc").resolve(), tmp_path)


def test_a_bare_clone_works(clone: Path, tmp_path: Path) -> None:
    built = tmp_path / "built"
    assert run(sys.executable, "cli.py", "--version", cwd=clone).startswith("seqc ")
    run(
        sys.executable,
        "cli.py",
        "compile",
        "specs/hybrid/griffin.seq",
        "--target",
        "torch",
        "-o",
        built,
        cwd=clone,
    )
    where = run(sys.executable, "-c", "import seqc; print(seqc.__file__)", cwd=clone)
    assert Path(where.strip()).resolve() == (clone / "seqc" / "__init__.py").resolve()
    assert (built / "manifest.json").is_file()
