"""What `seqc run` shows, and when."""

from __future__ import annotations

import io
import sys

import pytest

from seqc.cli.run import Generated


class Screen(io.TextIOWrapper):
    def __init__(self, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def text(self) -> str:
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("terminal", "shown"),
    [(True, "é\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}2J\n"), (False, "é\x1b[31m\x9b2J\n")],
)
def test_bytes_cannot_drive_a_terminal(monkeypatch: pytest.MonkeyPatch, terminal: bool, shown: str) -> None:
    screen = Screen(terminal)
    monkeypatch.setattr(sys, "stdout", screen)
    made = Generated(lambda token: bytes([token]), silent=False)
    for place, byte in enumerate("é\x1b[31m\x9b2J\n".encode()):
        made.add(byte)
        assert len(made.times) == place + 1
    assert screen.text == shown
    assert made.text.decode() == "é\x1b[31m\x9b2J\n"


def test_text_is_shown_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(terminal=True)
    monkeypatch.setattr(sys, "stdout", screen)
    made = Generated(lambda token: bytes([token]), silent=False)
    made.add(ord("a"))
    assert screen.text == "a"
    made.add("é".encode()[0])
    assert screen.text == "a"  # half a letter
    made.add("é".encode()[1])
    assert screen.text == "aé"
    Generated(lambda token: bytes([token]), silent=True).add(0)
    assert screen.text == "aé"
