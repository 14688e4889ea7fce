from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tokensieve.containers import segments
from tokensieve.ops.ragged import offsets
from tokensieve.store.json_lines import json_lines

RANGES = [(0, 9), (0, 1), (-100, 400), (0, 151_000), (-5, -1), (-(2**31), 2**31 - 1)]


@st.composite
def columns(draw):
    lengths = draw(st.lists(st.integers(0, 6), max_size=6))
    size = sum(lengths)
    whole = st.sampled_from(RANGES).flatmap(
        lambda bounds: hnp.arrays(np.int32, size, elements=st.integers(bounds[0], bounds[1]))
    )
    others = [
        hnp.arrays(np.int8, size), hnp.arrays(np.int64, size), hnp.arrays(np.bool_, size),
        hnp.arrays(np.float32, size, elements=st.floats(-3, 3, width=32)),
    ]  # fmt: skip
    names = st.sampled_from(["input_ids", "labels", 'a "b"', "é"])
    return offsets(lengths), draw(st.dictionaries(names, st.one_of(whole, *others), min_size=1, max_size=3))


@given(columns())
def test_the_bytes_are_those_of_json_dumps(given_columns):
    cu_seqlens, flat = given_columns
    expected = "".join(
        json.dumps({name: values[span].tolist() for name, values in flat.items()}, separators=(",", ":")) + "\n"
        for span in segments(cu_seqlens)
    )
    assert json_lines(cu_seqlens, flat) == expected.encode()
