"""Which teachers answer which calibration prompt when not every one answers all: a balanced incomplete design.

Missing answers drop their pairs, so a prompt that k teachers answer still teaches the router k(k−1)/2 pairs. For a
fair comparison every teacher is asked equally often and, as far as the numbers allow, so is every pair.
"""

import numpy as np
from numpy.typing import NDArray


def balanced(prompts: int, teachers: int, k: int, seed: int) -> NDArray[np.int64]:
    """(prompts, k) columns of teachers, ascending; numbers of two teachers' prompts differ by at most one.

    Each prompt takes the teachers with the fewest prompts so far; among equals those that have met the ones already
    chosen least often, and then at random. Prompts added at the end do not change the rows before them.

    Raises:
        ValueError: `k` is not within 1 and `teachers`.
    """
    if not 1 <= k <= teachers:
        raise ValueError(f"{k} of {teachers} teachers")
    random = np.random.default_rng(seed)
    asked = np.zeros(teachers, dtype=np.int64)
    met = np.zeros((teachers, teachers), dtype=np.int64)
    rows = np.empty((prompts, k), dtype=np.int64)
    for row in rows:
        free = np.ones(teachers, dtype=np.bool_)
        for place in range(k):
            chosen = row[:place]
            encounters = met[:, chosen].sum(axis=1) if place else met.sum(axis=1)
            order = np.lexsort((random.random(teachers), encounters, asked, ~free))
            row[place] = order[0]
            free[order[0]] = False
        row.sort()
        asked[row] += 1
        met[np.ix_(row, row)] += 1 - np.eye(k, dtype=np.int64)
    return rows
