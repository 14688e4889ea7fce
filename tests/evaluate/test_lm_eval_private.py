"""Each part of the harness's inside that is used, by name, so that a new version says what it has changed."""

from __future__ import annotations

import importlib.metadata

import pytest

from tokensieve.errors import TokensieveError

pytest.importorskip("lm_eval")

from lm_eval.api.model import LM
from lm_eval.models import huggingface
from lm_eval.tasks import TaskManager

from tokensieve.evaluate import lm_eval_private


def test_the_index_of_tasks_names_the_file_of_a_definition(tmp_path):
    (tmp_path / "one.yaml").write_text("task: one\ntag: some\ndataset_path: json\noutput_type: generate_until\n")
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    assert lm_eval_private.definition_file(manager, "one") == str(tmp_path / "one.yaml")
    assert lm_eval_private.definition_file(manager, "some") is None


def test_the_cache_hook_is_told_of_every_answer():
    class Model(LM):
        def loglikelihood(self, requests, **_):
            return []

        loglikelihood_rolling = generate_until = loglikelihood

    model, answers = Model(), []
    lm_eval_private.count_answers(model, answers.append)
    model.cache_hook.add_partial("loglikelihood", ("a", "b"), 1.0)
    assert answers == [1]


def test_the_bars_are_those_of_tqdm_and_are_put_back():
    drawn = huggingface.tqdm
    assert huggingface in lm_eval_private.modules_with_bars()
    with lm_eval_private.quiet():
        assert huggingface.tqdm is not drawn
        assert huggingface.tqdm(range(3)).disable
    assert huggingface.tqdm is drawn


def test_another_version_is_refused(monkeypatch):
    lm_eval_private.check_lm_eval()
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.9")
    with pytest.raises(TokensieveError, match=r"lm_eval 0\.9 is installed.*\n  hint: pip install 'lm_eval>=0\.4\.12"):
        lm_eval_private.check_lm_eval()
