"""Pages that are run from top to bottom.

The `seq` blocks of a page make up one file, each as it comes; `sh` and `python` blocks are run; a `text` block holds
parts of lines of what the commands of the block before it have said.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from seqc.cli import main

BLOCK = re.compile(r"^```(seq|sh|python|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> Iterator[tuple[str, str, int]]:
    """Kind, content and the number of lines before it."""
    for block in BLOCK.finditer(text):
        yield block[1], block[2], text.count("\n", 0, block.start(2))


@dataclass
class Walk:
    """One page in an empty folder; `file` is what its `seq` blocks are written to."""

    page: Path
    file: Path
    capsys: pytest.CaptureFixture[str]
    names: dict[str, object] = field(default_factory=dict[str, object])
    said: str = ""

    def run(self) -> None:
        for kind, content, line in blocks(self.page.read_text(encoding="utf-8")):
            match kind:
                case "seq":
                    before = self.file.read_text() + "\n" if self.file.exists() else ""
                    self.file.write_text(before + content, encoding="utf-8")
                case "sh":
                    self.said = "".join(self.command(each, line) for each in content.splitlines())
                case "python":
                    exec(compile("\n" * line + content, str(self.page), "exec"), self.names)
                case _:
                    missing = [each for each in content.splitlines() if each not in self.said]
                    assert missing == [], f"line {line}: {self.said}"

    def command(self, text: str, line: int) -> str:
        """What `seqc …` prints; it must succeed."""
        program, *arguments = shlex.split(text)
        assert program == "seqc"
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        out, err = self.capsys.readouterr()
        assert stop.value.code == 0, f"line {line}: {text}\n{out}{err}"
        return out
