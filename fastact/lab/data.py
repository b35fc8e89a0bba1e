"""The handwritten digits that come with scikit-learn: 1797 images of 8 by 8."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

CLASSES = 10
HELD_OUT = 450


@dataclass(frozen=True)
class Digits:
    """Images as rows of pixels, each pixel of mean 0 and variance 1 in training; and labels."""

    x: Any
    digits: Any
    test_x: Any
    test_digits: Any

    @property
    def targets(self) -> Any:
        return np.eye(CLASSES)[self.digits]

    @property
    def test_targets(self) -> Any:
        return np.eye(CLASSES)[self.test_digits]

    @property
    def pixels(self) -> int:
        return int(self.x.shape[1])


@lru_cache(maxsize=1)
def load() -> Digits:
    """The digits, shuffled once and for all.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("lab: needs scikit-learn: pip install scikit-learn") from None
    images, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(digits))
    images, digits = images[order], digits[order]
    train = images[HELD_OUT:]
    deviation = train.std(axis=0)
    images = (images - train.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    return Digits(images[HELD_OUT:], digits[HELD_OUT:], images[:HELD_OUT], digits[:HELD_OUT])
