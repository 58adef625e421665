"""How far off a disparity may be, in px, from its confidence.

The model is ``sigma = a · (1 - confidence + u)^p``: the half-width within which 68 % of the errors of pixels of this
confidence lie. Its constants are on the cards of the bundled weights, fitted on 60 pairs of our procedural engine
(all scene families, camera effects on, 384×640, valid pixels). They hold on other pairs, real ones too, as
docs/how-to/metres.md says; the tool is ``bench/uncertainty.py``. Errors have heavier tails than a normal distribution:
about 86 % lie within two sigma and 96 % within five.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.registry import DEFAULT_TAGS, bundled, family_of


@dataclass(frozen=True)
class ConfidenceModel:
    """``factor`` px, ``floor`` and ``power`` of the formula above."""

    factor: float
    floor: float
    power: float

    def sigma(self, confidence_HW: NDArray[np.float32]) -> NDArray[np.float32]:
        """(H, W) float32 px, above 0, from confidences in 0..1."""
        doubt_HW = 1 - confidence_HW.astype(np.float64) + self.floor
        return np.asarray(self.factor * doubt_HW**self.power, np.float32)


def confidence_model(model_name: str) -> ConfidenceModel | None:
    """What was measured for these weights, else for the bundled ones of their family; None without either."""
    cards = bundled()
    card = cards.get(model_name) or cards.get(DEFAULT_TAGS.get(family_of(model_name), ""))
    return ConfidenceModel(**card.uncertainty) if card is not None and card.uncertainty else None


def disparity_sigma(confidence_HW: NDArray[np.float32], model_name: str) -> NDArray[np.float32] | None:
    """The uncertainty (H, W) px of a model's disparity; None for a family whose confidence was never measured."""
    model = confidence_model(model_name)
    return None if model is None else model.sigma(confidence_HW)
