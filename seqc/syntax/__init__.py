"""From text to syntax tree and back: `parse`, `parse_text`, `format_text`."""

from seqc.syntax.format import format_source, format_text
from seqc.syntax.parser import parse, parse_text

__all__ = ["format_source", "format_text", "parse", "parse_text"]
