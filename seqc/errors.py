"""What goes wrong outside the text of a spec."""

from __future__ import annotations


class UserError(Exception):
    """A path, a setting or a missing package is at fault; the program prints it without a traceback.

    `help` says what to do, where that can be guessed.
    """

    def __init__(self, message: str, help: str | None = None) -> None:
        self.help = help
        super().__init__(message)
