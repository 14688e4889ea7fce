from __future__ import annotations

import numpy as np

from tokensieve.containers import Statistics
from tokensieve.methods import get_method


def test_everything_is_kept():
    labels = np.array([-100, 1, 2, -100, 4])
    assert get_method("full").select(Statistics(np.array([0, 2, 5]), labels)).tolist() == labels.tolist()
