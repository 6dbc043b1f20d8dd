"""The intermediate representation: expressions, recurrences, programs."""
