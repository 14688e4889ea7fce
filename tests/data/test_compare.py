from __future__ import annotations

import json

import pytest
from tokenizers import AddedToken, Tokenizer, processors

from tokensieve.data import compare
from tokensieve.data.compare import check_same_ids
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import load_encoder, tokenizer_fingerprint
from tokensieve.errors import TokensieveError

CHAT = {"messages": [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "The sum is 72."}]}
TEXT = {"prompt": "How many?", "completion": " The sum is 72."}
TOKENS = {"input_ids": [10, 300], "labels": [-100, 300]}
SPECIAL = ["<|endoftext|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"]


def settings_of(path):
    return DataSettings(files=(str(path),))


@pytest.fixture
def padded(make_tokenizer):
    """The tiny tokenizer with more tokens after its own."""
    folder = make_tokenizer()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(f"<|extra-{n}|>") for n in range(50)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def other_merges(make_tokenizer):
    """The tiny tokenizer with the same vocabulary and without its last merges."""
    folder = make_tokenizer()
    path = folder / "tokenizer.json"
    value = json.loads(path.read_text())
    value["model"]["merges"] = value["model"]["merges"][:20]
    path.write_text(json.dumps(value))
    return folder


@pytest.mark.parametrize("row", [CHAT, TEXT, TOKENS])
def test_equal_tokenizers_pass_without_reading_the_data(row, write_jsonl, tiny_encoder, make_tokenizer, monkeypatch):
    monkeypatch.setattr(compare, "converted_rows", lambda *_: pytest.fail("read the data"))
    check_same_ids(settings_of(write_jsonl(row)), tiny_encoder, str(make_tokenizer()))


@pytest.mark.parametrize("row", [CHAT, TEXT, TOKENS])
def test_more_tokens_in_the_other_vocabulary_pass(row, write_jsonl, tiny_encoder, padded):
    assert len(load_encoder(str(padded)).tokenizer) == len(tiny_encoder.tokenizer) + 50
    check_same_ids(settings_of(write_jsonl(row)), tiny_encoder, str(padded))


@pytest.mark.parametrize("row", [CHAT, TEXT])
def test_other_ids_on_the_data_are_shown_from_both_sides(row, write_jsonl, tiny_encoder, other_merges):
    path = write_jsonl({"prompt": "", "completion": "7"}, row)
    with pytest.raises(TokensieveError, match="two tokenizers give different ids") as error:
        check_same_ids(settings_of(path), tiny_encoder, str(other_merges))
    assert error.value.where == f"{path}:2; tokenizer {other_merges}"
    text = tiny_encoder.text(compare_row(row)).text
    ours = tiny_encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
    theirs = load_encoder(str(other_merges)).tokenizer(text, add_special_tokens=False)["input_ids"]
    at = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    shown = slice(max(0, at - 2), at + 6)
    assert f"{ours[shown]} and {theirs[shown]} around position {at}" in error.value.what


def test_as_many_ids_can_still_be_others(write_jsonl, tiny_encoder, make_tokenizer):
    swapped = make_tokenizer(special_tokens=[*SPECIAL[:2], "<|assistant|>", "<|user|>", "<|end|>"])
    with pytest.raises(TokensieveError, match=r"two tokenizers give different ids: .*around position 0"):
        check_same_ids(settings_of(write_jsonl(CHAT)), tiny_encoder, str(swapped))


def compare_row(row):
    from tokensieve.data.formats import convert

    return convert(row)


def test_tokenizers_that_differ_elsewhere_than_on_the_data_pass(write_jsonl, tiny_encoder, other_merges):
    same = write_jsonl({"prompt": "", "completion": "7"}, name="same.jsonl")
    check_same_ids(settings_of(same), tiny_encoder, str(other_merges))
    with pytest.raises(TokensieveError, match="two tokenizers give different ids"):
        check_same_ids(settings_of(write_jsonl(CHAT)), tiny_encoder, str(other_merges))


def test_token_ids_are_compared_by_their_text(write_jsonl, tiny_encoder, make_tokenizer):
    swapped = make_tokenizer(special_tokens=["<|pad|>", "<|endoftext|>", *SPECIAL[2:]])
    check_same_ids(settings_of(write_jsonl(TOKENS)), tiny_encoder, str(swapped))
    with pytest.raises(TokensieveError, match=r"token id 1 is '<\|pad\|>' in one tokenizer and '<\|endoftext\|>'"):
        check_same_ids(
            settings_of(write_jsonl({"input_ids": [10, 1], "labels": [-100, 1]})), tiny_encoder, str(swapped)
        )


def test_another_end_of_text_or_template_of_the_other_model_does_not_matter(write_jsonl, tiny_encoder, make_tokenizer):
    bos = processors.TemplateProcessing(single="<|user|> $A", special_tokens=[("<|user|>", 2)])
    other = make_tokenizer(eos="<|endoftext|>", chat_template="{{ messages }}", post_processor=bos)
    theirs, ours = load_encoder(str(other), tiny_encoder.template), tiny_encoder
    assert tokenizer_fingerprint(theirs) != tokenizer_fingerprint(ours)  # so the rows are compared
    for row in (CHAT, TEXT, TOKENS):
        check_same_ids(settings_of(write_jsonl(row)), tiny_encoder, str(other))


def test_an_end_token_that_the_other_tokenizer_does_not_have(write_jsonl, tiny_encoder, make_tokenizer):
    other = make_tokenizer(special_tokens=[*SPECIAL[:4], "<|stop|>"], eos="<|stop|>", chat_template=None)
    with pytest.raises(TokensieveError, match=r"token id 4 is '<\|end\|>' in one tokenizer and '<\|stop\|>'"):
        check_same_ids(settings_of(write_jsonl(TEXT)), tiny_encoder, str(other))


def test_rows_that_cannot_be_used_go_to_the_caller(write_jsonl, tiny_encoder, padded):
    bad = {"messages": [{"role": "user", "content": "a \ud800"}]}
    path = write_jsonl(TEXT, {"foo": 1})
    with path.open("a") as handle:
        handle.write(json.dumps(bad) + "\n")
    found = []
    check_same_ids(settings_of(path), tiny_encoder, str(padded), found.append)
    assert len(found) == 2
    with pytest.raises(TokensieveError, match="no known form"):
        check_same_ids(settings_of(path), tiny_encoder, str(padded))


def test_real_tokenizers_that_differ(shared):
    settings = DataSettings(files=(str(shared / "data/gsm8k/test.jsonl"),), limit=10)
    encoder = load_encoder(str(shared / "models/english-3M"))
    with pytest.raises(TokensieveError, match="two tokenizers give different ids"):
        check_same_ids(settings, encoder, str(shared / "models/stories260K"))
