"""The pages of the documentation do what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import seqc
from seqc import bundled
from seqc.cli import COMMANDS
from seqc.passes.canonical import same
from tests.docs.pages import Walk

ROOT = Path(seqc.__file__).resolve().parents[1]
SEQ = re.compile(r"^```seq\n(.*?)^```", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/README.md",
    "docs/python.md",
    "docs/new-rule.md",
    "docs/zoo.md",
    "docs/cpu.md",
    "docs/command-line.md",
    "docs/quantize.md",
]


@pytest.mark.parametrize("name", ["python", "new-rule"])
def test_a_page_does_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "specs").symlink_to(ROOT / "specs")
    monkeypatch.chdir(tmp_path)
    Walk(ROOT / "docs" / f"{name}.md", Path("student.seq"), capsys).run()
    assert {path.name for path in Path("built").iterdir()} >= {"prefill.onnx", "step.onnx", "manifest.json"}


def test_the_objective_of_the_walk_is_new() -> None:
    """The walk would start from an old idea otherwise."""
    objective = "log(1 + (S(k) - v)^2 / nu)"
    assert objective in (ROOT / "docs" / "new-rule.md").read_text(encoding="utf-8")
    for path in bundled.specs():
        lines = path.read_text(encoding="utf-8").splitlines()
        assert not any("objective" in line and "log(1 +" in line for line in lines), path


def test_the_specs_of_the_readme_are_right_and_mean_the_same() -> None:
    chosen, written = SEQ.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    one = seqc.loads(chosen).rule("gated_delta", n=4, m=3).recurrence
    other = seqc.loads(written).rule("gated_delta_eq", n=4, m=3).recurrence
    assert same(one.updates[0], other.updates[0])


def test_the_readme_shows_what_explain_says() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    said = seqc.loads(SEQ.findall(text)[0]).rule("gated_delta", n=64, m=64).explain()
    plain = [re.sub(r"(    # |  \()<text>:\d+\)?$", "", line) for line in said.splitlines()]
    assert [line for line in shown.splitlines() if line not in plain] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (ROOT / page).parent.joinpath(target).exists(), target


def test_the_command_line_page_knows_every_command() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert list(dict.fromkeys(re.findall(r"^\| `seqc (\w+)", text, re.MULTILINE))) == list(COMMANDS)
