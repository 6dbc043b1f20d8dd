"""The record of the zoo: every spec examined, `specs/zoo.json` and docs/zoo.md written."""
