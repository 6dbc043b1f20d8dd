"""What has no loop in C++."""

from __future__ import annotations


class Unsupported(Exception):
    """A rule that has no unit, and why: it runs as the PyTorch backend schedules it."""
