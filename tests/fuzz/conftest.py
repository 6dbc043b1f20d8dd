from tests.fuzz.pipeline import programs

__all__ = ["programs"]
