from __future__ import annotations

import json

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.generation.utils import GenerationMixin
from transformers.modeling_outputs import CausalLMOutput

from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import load_encoder
from tokensieve.errors import TokensieveError
from tokensieve.evaluate import generate
from tokensieve.evaluate.exact_match import Question, compared, exact_match, read_questions
from tokensieve.evaluate.generate import greedy_answers, heeds_padding
from tokensieve.evaluate.settings import ExactMatchSettings


class _RecurrentConfig(PreTrainedConfig):
    model_type = "recurrent-for-tests"
    vocab_size = 98
    num_hidden_layers = 1
    tie_word_embeddings = False


class _Recurrent(PreTrainedModel, GenerationMixin):
    """Reads whatever it is given, padding included; has no cache and no context length."""

    config_class = _RecurrentConfig
    base_model_prefix = "model"

    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, 24)
        self.rnn = nn.GRU(24, 24, batch_first=True)
        self.lm_head = nn.Linear(24, config.vocab_size)

    def prepare_inputs_for_generation(self, input_ids, **_):
        return {"input_ids": input_ids}

    def forward(self, input_ids, return_dict=True):
        return CausalLMOutput(logits=self.lm_head(self.rnn(self.embed(input_ids) * 4)[0]) * 20)


@pytest.fixture(scope="module")
def recurrent():
    torch.manual_seed(0)
    return _Recurrent(_RecurrentConfig()).eval()


@pytest.fixture
def ask(tmp_path, encoder):
    """Return a function that reads questions from rows."""

    def read(*rows, extract=None):
        path = tmp_path / "questions.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_questions(DataSettings((str(path),)), encoder, extract)

    return read


def _alone(model, encoder, ids, length):
    """Greedy answer of one prompt, one token at a time, without `generate`, cache or padding."""
    ids = list(ids)
    answer = []
    for _ in range(length):
        token = int(model(input_ids=torch.tensor([ids + answer])).logits[0, -1].argmax())
        if token in encoder.turn_end_ids:
            break
        answer.append(token)
    return encoder.tokenizer.decode(answer, skip_special_tokens=True)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("batch_size", [3, 16])
def test_answers_do_not_depend_on_the_batch(name, batch_size, make_model, encoder):
    model = make_model(name)
    texts = ["a", "Which way?", "one two three four five", "x" * 70, "Which day?", "why", "So it goes. " * 5]
    prompts = [encoder.tokenizer(text)["input_ids"] for text in texts]
    done = []
    found = greedy_answers(model, encoder, prompts, 8, batch_size, done.append)
    assert heeds_padding(model, prompts[0])
    assert found == [_alone(model, encoder, prompt, 8) for prompt in prompts]
    assert len(set(found)) > 3  # a model that answers everything alike would prove nothing
    assert sum(done) == len(prompts)


def test_a_model_that_reads_padding_gets_none(recurrent, encoder):
    prompts = [encoder.tokenizer(text)["input_ids"] for text in ("abc", "abcdef", "fed", "a", "long and longer")]
    assert not heeds_padding(recurrent, prompts[0])
    found = greedy_answers(recurrent, encoder, prompts, 8, 16, lambda _: None)
    assert found == [_alone(recurrent, encoder, prompt, 8) for prompt in prompts]


def test_an_answer_stops_before_the_turn_end(make_model, encoder):
    model = make_model("llama")
    prompt = encoder.tokenizer("Which way?")["input_ids"]
    free = model.generate(torch.tensor([prompt]), max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0)
    fourth = int(free[0, len(prompt) + 3])
    stopping = load_encoder(encoder.tokenizer.name_or_path)
    stopping.turn_end_ids = (fourth,)
    (found,) = greedy_answers(model, stopping, [prompt], 6, 1, lambda _: None)
    assert found == _alone(model, stopping, prompt, 6)


def test_the_model_s_own_generation_settings_play_no_part_and_come_back(make_model, encoder):
    model = make_model("gpt2")
    prompts = [encoder.tokenizer("again and again")["input_ids"]]
    plain = greedy_answers(model, encoder, prompts, 10, 1, lambda _: None)
    model.generation_config.update(repetition_penalty=5.0, do_sample=True, temperature=9.0, max_length=3)
    own = model.generation_config
    assert greedy_answers(model, encoder, prompts, 10, 1, lambda _: None) == plain
    assert model.generation_config is own


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("too many"), MemoryError("too many")])
def test_a_batch_that_does_not_fit_into_memory_is_halved(make_model, encoder, monkeypatch, error):
    model = make_model("llama")
    prompts = [encoder.tokenizer(f"question {n}")["input_ids"] for n in range(5)]
    expected = greedy_answers(model, encoder, prompts, 5, 5, lambda _: None)
    own = model.generate

    def tight(input_ids, **options):
        if len(input_ids) > 2:
            raise error
        return own(input_ids=input_ids, **options)

    monkeypatch.setattr(model, "generate", tight)
    assert greedy_answers(model, encoder, prompts, 5, 5, lambda _: None) == expected
    monkeypatch.setattr(generate, "heeds_padding", lambda *_: True)
    monkeypatch.setattr(model, "generate", lambda **_: (_ for _ in ()).throw(error))
    with pytest.raises(TokensieveError, match="fit into memory"):
        greedy_answers(model, encoder, prompts, 5, 5, lambda _: None)


def test_counts_what_is_right(make_model, encoder, ask):
    model = make_model("llama")
    prompts = ["first: ", "second: ", "third: "]
    texts = [_alone(model, encoder, encoder.tokenizer(prompt)["input_ids"], 8) for prompt in prompts]
    answers = [texts[0], f"  {texts[1].strip()}\n", "something else"]
    questions = ask(*({"prompt": p, "completion": a} for p, a in zip(prompts, answers, strict=True)))
    found, rows = exact_match(model, encoder, questions, ExactMatchSettings(("f",), 8), 2, lambda _: None)
    assert (found.correct, found.examples, found.truncated) == (2, 3, 0)
    assert found.score == pytest.approx(2 / 3)
    assert (found.low, found.high) == pytest.approx((0.207660, 0.938508), abs=1e-6)
    assert [row["correct"] for row in rows] == [True, True, False]
    assert rows[2] == {
        "row": 2,
        "prompt": "third: ",
        "answer": "something else",
        "prediction": texts[2],
        "correct": False,
    }


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_of_a_prompt_beyond_the_context_the_end_is_asked(name, make_model, encoder):
    model = make_model(name)
    ids = encoder.tokenizer("0123456789" * 40)["input_ids"]
    question = Question(0, "0123456789" * 40, ids, "no")
    found, rows = exact_match(model, encoder, [question], ExactMatchSettings(("f",), 10), 4, lambda _: None)
    assert found.truncated == 1
    assert rows[0]["prediction"] == _alone(model, encoder, ids[-246:], 10)


def test_refuses_answers_as_long_as_the_context(make_model, encoder):
    question = Question(0, "a", [70], "b")
    with pytest.raises(TokensieveError, match="no room"):
        exact_match(make_model("llama"), encoder, [question], ExactMatchSettings(("f",), 256), 1, lambda _: None)


@pytest.mark.parametrize(
    ("answer", "extract", "expected"),
    [
        (" 7 apples\n", None, "7 apples"),
        ("3 + 4 = 7\n#### 7", r"#### (-?[0-9.,]+)", "7"),
        ("#### 1 then #### -2,000", r"#### (-?[0-9.,]+)", "-2,000"),
        ("A or B: it is B.", r"[AB]", "B"),
        ("nothing", r"#### (\d+)", None),
        ("x", r"x(y)?", None),
    ],
)
def test_what_is_compared(answer, extract, expected):
    assert compared(answer, extract) == expected


def test_an_answer_without_a_match_is_wrong_and_such_a_reference_is_refused(make_model, encoder, ask):
    model = make_model("llama")
    questions = ask({"question": "3 + 4", "answer": "it is #### 7"}, extract=r"#### (\d+)")
    settings = ExactMatchSettings(("f",), 4, extract=r"#### (\d+)")
    assert exact_match(model, encoder, questions, settings, 1, lambda _: None)[0].correct == 0
    with pytest.raises(TokensieveError, match=r"(?s)nothing that.*questions.jsonl:1"):
        ask({"question": "3 + 4", "answer": "seven"}, extract=r"#### (\d+)")
    with pytest.raises(TokensieveError, match="nothing that"):
        exact_match(model, encoder, [Question(0, "a", [70], "seven")], settings, 1, lambda _: None)


def test_refuses_what_is_not_a_regular_expression():
    with pytest.raises(TokensieveError, match="regular expression"):
        ExactMatchSettings(("f",), extract="(")


def test_reads_every_form(ask, encoder):
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "Good bye"},
        {"role": "user", "content": "never asked"},
    ]
    ids = encoder.tokenizer("ask answer more end")["input_ids"]
    labels = [-100] * 4 + ids[4:10] + [-100] * 5 + ids[15:]
    questions = ask(
        {"messages": turns},
        {"prompt": "2 + 2 = ", "completion": "4"},
        {"instruction": "Add.", "input": "2 2", "output": "4"},
        {"input_ids": ids, "labels": labels},
        {"input_ids": ids[:3], "labels": ids[:3]},
    )
    chat = "<|system|>\nBe brief.\n<|user|>\nHi\n<|assistant|>\nHello<|end|>\n<|user|>\nBye\n<|assistant|>\n"
    assert [(q.row, q.prompt, q.answer) for q in questions] == [
        (0, chat, "Good bye"),
        (1, "2 + 2 = ", "4"),
        (2, "<|user|>\nAdd.\n\n2 2\n<|assistant|>\n", "4"),
        (3, "ask answer more", " end"),
        (4, "a", "sk"),
    ]
    assert questions[0].prompt_ids == encoder.tokenizer(chat, add_special_tokens=False)["input_ids"]
    assert encoder.turn_end_ids[0] in questions[0].prompt_ids


def test_a_text_prompt_is_opened_by_special_tokens_but_not_closed(tmp_path, encoder, ask):
    encoder.tokenizer.save_pretrained(tmp_path / "closing")
    closing = load_encoder(str(tmp_path / "closing"))
    closing.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|pad|> $A <|end|>", special_tokens=[("<|pad|>", 1), ("<|end|>", 0)]
    )
    path = tmp_path / "text.jsonl"
    path.write_text(json.dumps({"prompt": "ab", "completion": "c"}))
    (question,) = read_questions(DataSettings((str(path),)), closing)
    assert question.prompt_ids == [1, *encoder.tokenizer("ab")["input_ids"]]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"text": "no prompt here"}, "no prompt"),
        ({"messages": [{"role": "user", "content": "Hi"}]}, "without an assistant"),
        (
            {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [{"name": "f"}]}]},
            "calls a tool",
        ),
        ({"input_ids": [5, 6], "labels": [-100, -100]}, "every label is -100"),
    ],
)
def test_refuses_rows_without_prompt_or_answer_by_line(row, fault, ask):
    with pytest.raises(TokensieveError, match=rf"(?s){fault}.*questions.jsonl:2"):
        ask({"question": "fine", "answer": "fine"}, row)
