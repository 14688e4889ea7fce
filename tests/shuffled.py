"""An engine for tests: what it is given travels as to another process, and shards are done in no order."""

from __future__ import annotations

import pickle

import numpy as np


class Shuffled:
    """Does shards in an order of its own, each of them twice."""

    def map(self, make, shards, on_tokens, *, holds_model=True, one_at_a_time=False):
        order = np.random.default_rng(len(shards)).permutation(len(shards)).tolist()
        with pickle.loads(pickle.dumps(make))() as worker:
            for shard in order:
                worker.do(shard, on_tokens)
                yield worker.do(shard, on_tokens)
