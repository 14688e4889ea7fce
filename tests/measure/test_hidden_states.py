from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tokensieve.engines.local import LOCAL
from tokensieve.errors import TokensieveError
from tokensieve.measure.hidden_states import store_hidden_states
from tokensieve.measure.settings import MeasureSettings
from tokensieve.models.pool import ModelPool
from tokensieve.models.settings import ModelSettings


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_they_are_what_the_model_gives_and_are_stored_once(architecture, model_folder, example_store, tmp_path):
    folder, examples = model_folder(architecture), example_store([9, 4, 17, 30, 2], shards=2)
    told: list[int] = []

    def stored(pool):
        model, settings = ModelSettings(str(folder)), MeasureSettings(device="cpu", token_budget=40)
        return store_hidden_states(examples, model, settings, tmp_path / "store", pool, LOCAL, told.append)

    states = stored(ModelPool("cpu"))
    assert sum(told) == examples.counts.tokens
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    for number, shard in enumerate(examples):
        found = states.read(number)
        for start, stop in zip(shard.cu_seqlens[:-1], shard.cu_seqlens[1:], strict=True):
            with torch.no_grad():
                ids = torch.from_numpy(shard.input_ids[start:stop].astype(np.int64))[None]
                wanted = model(ids, output_hidden_states=True).hidden_states[-1][0].numpy()
            read = shard.labels[start:stop] != -100
            assert np.allclose(found[start:stop][read], wanted[read], atol=1e-4)
    states.file(1).unlink()
    before = states.file(0).stat().st_mtime_ns
    assert stored(ModelPool("cpu")).lacking == []
    assert states.file(0).stat().st_mtime_ns == before
    stored(None)  # with no pool, a model that were needed would be an error
    assert sum(told) == 3 * examples.counts.tokens


def test_states_that_are_not_finite_are_refused_and_not_kept(model_folder, example_store, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    model.model.norm.weight.data[3] = float("nan")
    model.save_pretrained(tmp_path / "broken")
    settings, store = ModelSettings(str(tmp_path / "broken")), tmp_path / "store"
    measure, pool = MeasureSettings(device="cpu", token_budget=40), ModelPool("cpu")
    with pytest.raises(TokensieveError, match="'hidden states' is NaN or infinite"):
        store_hidden_states(example_store([9, 4]), settings, measure, store, pool, LOCAL, lambda _: None)
    assert not list(store.rglob("*.npy"))
