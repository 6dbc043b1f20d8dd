"""From text to syntax tree and back: `parse`, `parse_text`, `format_text`."""

from seqc.syntax.parser import parse, parse_text

__all__ = ["parse", "parse_text"]
