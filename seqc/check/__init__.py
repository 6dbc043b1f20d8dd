"""From the syntax tree to the IR: names, axes, sizes, settings, the four choices, calls."""

from seqc.check.checked import Checked, check_source

__all__ = ["Checked", "check_source"]
