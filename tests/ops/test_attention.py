from __future__ import annotations

import sys

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tokensieve.errors import TokensieveError
from tokensieve.ops import attention
from tokensieve.ops.attention import ATTENTION_STATISTICS, attention_mass, attention_settings


def naive_statistics(share, prompt, lengths, window=None, heads="mean"):
    """The statistics from a full S x S attention ``[B, H, S, S]``, as they are defined."""
    found = {name: torch.zeros(share.shape[0], share.shape[2], dtype=torch.float64) for name in ATTENTION_STATISTICS}
    for b, length in enumerate(lengths.tolist()):
        for t in range(length):
            last = length if window is None else min(length, t + window)
            per_head = {
                "attention_to_prompt": share[b, :, t, : t + 1][:, prompt[b, : t + 1]].sum(-1),
                "attention_received": share[b, :, t:last, t].mean(-1),
                "attention_row_mean": share[b, :, t, :length].mean(-1),
            }
            for name, value in per_head.items():
                found[name][b, t] = value.max() if heads == "max" else value.mean()
    return found


def full_attention(query, key, scale, window=None, softcap=None, sinks=None):
    key = key.double().repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = query.double() @ key.transpose(2, 3) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    rows, keys = torch.arange(query.shape[2])[:, None], torch.arange(query.shape[2])
    hidden = (keys > rows) | (keys <= rows - (window or query.shape[2]))
    scores = scores.masked_fill(hidden, float("-inf"))
    if sinks is None:
        return scores.softmax(-1)
    column = sinks.double().view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
    return torch.cat([scores, column], -1).softmax(-1)[..., :-1]


def batch(lengths, heads=4, key_heads=2, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.as_tensor(lengths, dtype=torch.int64)
    size = int(lengths.max())
    query = 2 * torch.randn(len(lengths), heads, size, width, generator=generator)
    key = torch.randn(len(lengths), key_heads, size, width, generator=generator)
    prompt = torch.rand(len(lengths), size, generator=generator) < 0.4
    return query, key, prompt, lengths


def check(found, expected):
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name].double(), value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("lengths", [[1], [2], [1, 2], [253, 1, 2, 128], [129, 128]])
@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (4, 2), (6, 1)])
def test_equals_a_full_softmax_in_float64(lengths, heads, key_heads):
    query, key, prompt, lengths = batch(lengths, heads, key_heads)
    found = attention_mass(query, key, prompt, lengths=lengths, scale=0.3, names=ATTENTION_STATISTICS)
    check(found, naive_statistics(full_attention(query, key, 0.3), prompt, lengths))


@hypothesis_settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    groups=st.sampled_from([(1, 1), (2, 1), (4, 2)]),
    window=st.none() | st.integers(1, 45),
    softcap=st.none() | st.floats(0.5, 50),
    with_sinks=st.booleans(),
    heads=st.sampled_from(["mean", "max"]),
    budget=st.sampled_from([1, 16, 17, 10**6]),
    seed=st.integers(0, 2**31),
)
def test_equals_a_full_softmax_with_every_setting(lengths, groups, window, softcap, with_sinks, heads, budget, seed):
    query, key, prompt, lengths = batch(lengths, *groups, seed=seed)
    sinks = torch.linspace(-2, 3, groups[0]) if with_sinks else None
    settings = {"scale": 0.5, "window": window, "softcap": softcap, "sinks": sinks}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_ROWS", budget)
        found = attention_mass(query, key, prompt, lengths=lengths, names=ATTENTION_STATISTICS, heads=heads, **settings)
    check(found, naive_statistics(full_attention(query, key, **settings), prompt, lengths, window, heads))


@pytest.mark.parametrize("scores", [1, 2**14])
@pytest.mark.parametrize("window", [None, 1, 7, 128, 300])
def test_any_size_of_block_gives_the_same(window, scores, monkeypatch):
    query, key, prompt, lengths = batch([253, 100])
    settings = {"lengths": lengths, "scale": 0.3, "window": window, "names": ATTENTION_STATISTICS}
    expected = attention_mass(query, key, prompt, **settings)
    monkeypatch.setitem(attention._SCORES, "cpu", scores)
    found = attention_mass(query, key, prompt, **settings)
    for name in ATTENTION_STATISTICS:
        torch.testing.assert_close(found[name], expected[name])


def test_names_choose_what_is_computed():
    query, key, prompt, lengths = batch([20, 9])
    every = attention_mass(query, key, prompt, lengths=lengths, scale=1.0, names=ATTENTION_STATISTICS)
    assert attention_mass(query, key, prompt, lengths=lengths, scale=1.0, names=[]) == {}
    for name in ATTENTION_STATISTICS:
        alone = attention_mass(query, key, prompt, lengths=lengths, scale=1.0, names=[name])
        assert alone.keys() == {name}
        assert torch.equal(alone[name], every[name])


def test_what_padding_holds_does_not_matter():
    query, key, prompt, lengths = batch([20, 9])
    settings = {"lengths": lengths, "scale": 1.0, "names": ATTENTION_STATISTICS}
    expected = attention_mass(query, key, prompt, **settings)
    for tensor in (query, key):
        tensor[1, :, 9:] = float("nan")
    prompt[1, 9:] ^= True
    found = attention_mass(query, key, prompt, **settings)
    for name in ATTENTION_STATISTICS:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)
        assert not found[name][1, 9:].any()


def test_a_batch_padded_further_gives_the_same():
    query, key, prompt, lengths = batch([20, 9])
    settings = {"lengths": lengths, "scale": 1.0, "names": ATTENTION_STATISTICS}
    expected = attention_mass(query, key, prompt, **settings)
    query, key = (torch.nn.functional.pad(tensor, (0, 0, 0, 5)) for tensor in (query, key))
    found = attention_mass(query, key, torch.nn.functional.pad(prompt, (0, 5)), **settings)
    for name in ATTENTION_STATISTICS:
        torch.testing.assert_close(found[name], torch.nn.functional.pad(expected[name], (0, 5)))


def test_no_examples_and_no_tokens():
    for size in ((0, 5), (2, 0)):
        found = attention_mass(
            torch.empty(size[0], 4, size[1], 8),
            torch.empty(size[0], 2, size[1], 8),
            torch.empty(size, dtype=torch.bool),
            lengths=torch.zeros(size[0], dtype=torch.int64),
            scale=1.0,
            names=ATTENTION_STATISTICS,
        )
        assert {value.shape for value in found.values()} == {size}


def test_an_example_without_tokens():
    query, key, prompt, lengths = batch([5, 3])
    lengths[1] = 0
    found = attention_mass(query, key, prompt, lengths=lengths, scale=1.0, names=ATTENTION_STATISTICS)
    check(found, naive_statistics(full_attention(query, key, 1.0), prompt, lengths))


def test_half_precision_rounds_nothing_but_the_scores():
    query, key, prompt, lengths = batch([150, 40])
    query, key = query.bfloat16(), key.bfloat16()
    found = attention_mass(query, key, prompt, lengths=lengths, scale=0.3, names=ATTENTION_STATISTICS)
    for name, value in naive_statistics(full_attention(query, key, 0.3), prompt, lengths).items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name].double(), value, rtol=0.02, atol=2e-3)


def test_large_scores_do_not_overflow():
    query, key, prompt, lengths = batch([30])
    found = attention_mass(1e4 * query, key, prompt, lengths=lengths, scale=1.0, sinks=torch.full((4,), 1e3))
    assert all(value.isfinite().all() for value in found.values())


def test_memory_grows_with_the_length_and_not_its_square(monkeypatch):
    """The largest tensor that is made has no more than a block of rows."""
    sizes = []
    softmax = attention._softmax

    def measured(*arguments):
        share = softmax(*arguments)
        sizes.append(share.numel())
        return share

    monkeypatch.setattr(attention, "_softmax", measured)
    query, key, prompt, lengths = batch([2000])
    attention_mass(query, key, prompt, lengths=lengths, scale=1.0)
    assert max(sizes) <= 4 * 2000 * 131
    sizes.clear()
    attention_mass(query, key, prompt, lengths=lengths, scale=1.0, window=100)
    assert max(sizes) <= 4 * 128 * 227


def test_an_unknown_name_is_refused():
    query, key, prompt, lengths = batch([5])
    with pytest.raises(TokensieveError, match="no attention statistic is called 'attention'"):
        attention_mass(query, key, prompt, lengths=lengths, scale=1.0, names=["attention"])


def test_heads_that_do_not_divide_are_refused():
    query, key, prompt, lengths = batch([5], heads=4, key_heads=3)
    with pytest.raises(TokensieveError, match="4 query heads are no multiple of 3 key heads"):
        attention_mass(query, key, prompt, lengths=lengths, scale=1.0)


# --- against the attention that transformers returns -----------------------------------------------------------

SIZE = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.5,
    "pad_token_id": 0,
}
GROUPED = {**SIZE, "num_key_value_heads": 2, "head_dim": 8}
MIXED = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 7}
CONFIGS = {
    "llama": transformers.LlamaConfig(**GROUPED),
    "qwen2": transformers.Qwen2Config(**GROUPED),
    "qwen2-sliding": transformers.Qwen2Config(**GROUPED, use_sliding_window=True, **MIXED),
    "qwen2-moe-sliding": transformers.Qwen2MoeConfig(
        **GROUPED, use_sliding_window=True, **MIXED, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=16
    ),
    "qwen3": transformers.Qwen3Config(**GROUPED),
    "mistral-sliding": transformers.MistralConfig(**GROUPED, sliding_window=7),
    "phi3-sliding": transformers.Phi3Config(**{**GROUPED, "sliding_window": 7}),
    "gpt2": transformers.GPT2Config(
        vocab_size=60, n_embd=32, n_layer=2, n_head=4, initializer_range=0.5, bos_token_id=0, eos_token_id=0
    ),
    "gpt2-scaled-by-layer": transformers.GPT2Config(
        vocab_size=60,
        n_embd=32,
        n_layer=2,
        n_head=4,
        initializer_range=0.5,
        scale_attn_by_inverse_layer_idx=True,
        bos_token_id=0,
        eos_token_id=0,
    ),
    "gpt-neox": transformers.GPTNeoXConfig(**SIZE),
    "gemma": transformers.GemmaConfig(**GROUPED),
    "gemma2": transformers.Gemma2Config(
        **GROUPED, **MIXED, attn_logit_softcapping=2.0, query_pre_attn_scalar=5, final_logit_softcapping=None
    ),
    "gemma3": transformers.Gemma3TextConfig(**GROUPED, **MIXED, query_pre_attn_scalar=5),
    "gpt-oss": transformers.GptOssConfig(
        **GROUPED,
        **MIXED,
        num_local_experts=2,
        num_experts_per_tok=1,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    ),
}


def record(monkeypatch, model, implementation, **inputs):
    """Run a model and return what every layer passes to its attention function."""
    calls = []
    own = sys.modules[type(model).__module__].eager_attention_forward
    function = own if implementation == "eager" else ALL_ATTENTION_FUNCTIONS[implementation]

    def recorded(module, query, key, value, attention_mask, **keywords):
        calls.append((query, key, attention_settings(module, query, keywords)))
        return function(module, query, key, value, attention_mask, **keywords)

    with monkeypatch.context() as patch:
        patch.setitem(ALL_ATTENTION_FUNCTIONS, implementation, recorded)
        model(**inputs)
    return calls


# transformers has no sdpa for these, and runs them as eager
RUNS = [
    (name, how) for name in CONFIGS for how in ("eager", "sdpa") if how == "eager" or name not in ("gemma2", "gpt-oss")
]


@pytest.mark.parametrize(("name", "implementation"), RUNS)
def test_equals_the_attention_that_transformers_returns(name, implementation, monkeypatch):
    torch.manual_seed(0)
    lengths = torch.tensor([40, 1, 2, 17])
    real = torch.arange(40) < lengths[:, None]
    inputs = {"input_ids": torch.randint(1, 60, (4, 40)).masked_fill(~real, 0), "attention_mask": real.long()}
    prompt = torch.rand(4, 40) < 0.4
    model = transformers.AutoModel.from_config(CONFIGS[name], attn_implementation="eager").eval()
    if name == "gpt-oss":
        for layer in model.layers:
            torch.nn.init.normal_(layer.self_attn.sinks)
    with torch.no_grad():
        returned = model(**inputs, output_attentions=True).attentions
        if implementation == "sdpa":
            model.set_attn_implementation("sdpa")
        calls = record(monkeypatch, model, implementation, **inputs)
    assert len(calls) == len(returned) == 2
    for share, (query, key, settings) in zip(returned, calls, strict=True):
        found = attention_mass(query, key, prompt, lengths=lengths, names=ATTENTION_STATISTICS, **settings)
        check(found, naive_statistics(share.double(), prompt, lengths, settings["window"]))


def test_the_models_under_test_use_every_setting(monkeypatch):
    """Otherwise the test above would say less than it seems to."""
    found = {}
    for name in ("mistral-sliding", "qwen2-moe-sliding", "gemma2", "gpt-oss"):
        model = transformers.AutoModel.from_config(CONFIGS[name], attn_implementation="eager").eval()
        with torch.no_grad():
            found[name] = [call[2] for call in record(monkeypatch, model, "eager", input_ids=torch.ones(1, 3).long())]
    assert [settings["window"] for settings in found["mistral-sliding"]] == [7, 7]
    assert all([s["window"] for s in found[name]] == [7, None] for name in ("qwen2-moe-sliding", "gemma2", "gpt-oss"))
    assert found["gemma2"][0]["softcap"] == 2
    assert found["gemma2"][0]["scale"] == 5**-0.5
    assert found["gpt-oss"][0]["sinks"].shape == (4,)


# --- settings --------------------------------------------------------------------------------------------------


class Layer(torch.nn.Module):
    def __init__(self, kind=None, **attributes):
        super().__init__()
        self.layer_idx = 1
        self.config = transformers.PretrainedConfig()
        self.config.layer_types = ["full_attention", kind] if kind else None
        for name, value in attributes.items():
            setattr(self, name, value)


QUERY = torch.zeros(1, 2, 3, 16)


def test_a_call_that_says_nothing_gets_the_defaults():
    expected = {"scale": 0.25, "window": None, "softcap": None, "sinks": None}
    assert attention_settings(torch.nn.Linear(1, 1), QUERY, {"scaling": None}) == expected


@pytest.mark.parametrize(
    ("layer", "keywords", "window"),
    [
        (Layer(sliding_window=5), {}, 5),
        (Layer("sliding_attention", sliding_window=5), {}, 5),
        (Layer("full_attention", sliding_window=5), {}, None),
        (Layer("sliding_attention", sliding_window=5), {"sliding_window": 9}, 9),
        (Layer("sliding_attention", sliding_window=5), {"sliding_window": None}, None),
        (Layer(), {"sliding_window": 0}, None),
    ],
)
def test_where_the_window_comes_from(layer, keywords, window):
    assert attention_settings(layer, QUERY, keywords)["window"] == window


@pytest.mark.parametrize(
    ("layer", "keywords", "does"),
    [
        (Layer(is_causal=False), {}, "looks ahead"),
        (Layer(is_causal=True), {"is_causal": False}, "looks ahead"),
        (Layer("chunked_attention"), {}, "attends within chunks"),
        (Layer(), {"position_bias": QUERY}, "adds a position bias"),
    ],
)
def test_what_cannot_be_measured_is_refused(layer, keywords, does):
    with pytest.raises(TokensieveError, match=f"Layer {does}"):
        attention_settings(layer, QUERY, keywords)
