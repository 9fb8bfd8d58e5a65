"""Pairs of teachers on one prompt: which of two is worth more."""

import numpy as np
from numpy.typing import NDArray


def signs(values: NDArray[np.float64]) -> NDArray[np.int8]:
    """Signs (B, M·(M−1)/2) of v_i − v_j for i < j of values (B, M); 0 for ties and where one of them is NaN."""
    i, j = np.triu_indices(values.shape[1], k=1)
    return np.sign(np.nan_to_num(values[:, i] - values[:, j])).astype(np.int8)
