"""Choosing the next token from a model's logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqc.errors import UserError

Array = npt.NDArray[Any]
Chooser = Callable[[Array], int]


@dataclass(frozen=True, slots=True)
class Sampling:
    """A distribution over tokens, made of logits `[vocabulary]`.

    At temperature 0 all of it is on the likeliest token, of equally likely ones the lowest. Otherwise the logits are
    divided by the temperature; of the result `top_k` keeps that many of the likeliest tokens, and `top_p` the fewest
    of the likeliest whose probabilities sum to that much (nucleus sampling, Holtzman et al. 2020).
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def probabilities(self, logits: Array) -> Array:
        """`[vocabulary]`, float64, which sum to 1."""
        if not np.isfinite(logits).all():
            raise UserError("the model's logits are not finite", "train it again, with a smaller rate")
        scores = logits.astype(np.float64)
        order = np.argsort(-scores, kind="stable")
        kept = order[: self.top_k] if self.temperature else order[:1]
        weights = np.zeros_like(scores)
        weights[kept] = np.exp((scores[kept] - scores[kept[0]]) / (self.temperature or 1.0))
        weights /= weights.sum()
        if self.top_p is not None:
            before = np.cumsum(weights[kept]) - weights[kept]
            weights[kept[1:][before[1:] >= self.top_p]] = 0.0
            weights /= weights.sum()
        return weights

    def chooser(self, seed: int = 0) -> Chooser:
        """Draws from the distribution; the same seed draws the same tokens."""
        generator = np.random.default_rng(seed)

        def choose(logits: Array) -> int:
            weights = self.probabilities(logits)
            return (
                int(generator.choice(len(weights), p=weights)) if self.temperature else int(weights.argmax())
            )

        return choose
