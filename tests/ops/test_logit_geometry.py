from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensieve.errors import TokensieveError
from tokensieve.ops import logit_geometry
from tokensieve.ops.logit_geometry import Projector, diversity, head_factor, nuclear_norm, nuclear_norms


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fourier(logits, sign, index, axis):
    """One side of the projection as the paper writes it, over the second last or the last axis of the logits."""
    full = len(sign)
    signed = logits * (sign if axis == -1 else sign[:, None])
    return torch.fft.fft(signed, dim=axis).real.index_select(axis, index) * (full / len(index)) ** 0.5


def naive_projection(projector, logits):
    padded = logits.new_zeros(len(projector.sign_time), logits.shape[1])
    padded[: len(logits)] = logits
    over_vocabulary = fourier(padded, projector.sign_vocab.double(), projector.index_vocab, -1)
    return fourier(over_vocabulary, projector.sign_time.double(), projector.index_time, -2).flatten()


@pytest.fixture(params=[1, 7, 8192])
def block(request, monkeypatch):
    monkeypatch.setattr(logit_geometry, "_BLOCK", request.param)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize(("vocabulary", "width"), [(97, 8), (33, 32), (5, 16), (1, 1)])
@pytest.mark.parametrize("rows", [1, 2, 20, 60])
def test_the_nuclear_norm_is_that_of_the_full_logits(rows, vocabulary, width):
    hidden, head = normal(rows, rows, width), normal(vocabulary, vocabulary, width)
    expected = torch.linalg.svdvals(hidden.double() @ head.double().T).sum().item()
    assert nuclear_norm(hidden, head_factor(head)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.usefixtures("block")
def test_the_factor_has_the_gram_matrix_of_the_head():
    head = normal(0, 50, 6)
    factor = head_factor(head)
    assert factor.shape == (6, 6)
    assert factor.dtype == torch.float64
    torch.testing.assert_close(factor.T @ factor, head.double().T @ head.double())


@pytest.mark.parametrize("rank", [1, 3])
def test_the_nuclear_norm_of_logits_of_low_rank(rank):
    hidden, head = normal(1, 200, rank) @ normal(2, rank, 256), normal(3, 1000, 256)
    expected = torch.linalg.svdvals(hidden.double() @ head.double().T).sum().item()
    assert nuclear_norm(hidden, head_factor(head)) == pytest.approx(expected, rel=1e-5)


def test_the_nuclear_norm_of_singular_values_that_span_seven_decades():
    left, right = torch.linalg.qr(normal(1, 300, 64).double()).Q, torch.linalg.qr(normal(2, 64, 64).double()).Q
    hidden, head = left * torch.logspace(3, -4, 64, dtype=torch.float64) @ right, normal(3, 500, 64)
    expected = torch.linalg.svdvals(hidden @ head.double().T).sum().item()
    assert nuclear_norm(hidden, head_factor(head)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("rows", [1, 2, 13, 30])
def test_the_projection_is_that_of_the_full_logits(rows):
    projector = Projector.draw(3, vocabulary=101, length=30, d1=12, d2=5)
    hidden, head = normal(rows, rows, 8), normal(9, 101, 8)
    found = projector.project(hidden, projector.head(head))
    expected = naive_projection(projector, hidden.double() @ head.double().T)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 9), max_size=5), st.integers(0, 2**31))
def test_a_ragged_batch_is_its_examples(lengths, seed):
    projector = Projector.draw(seed, vocabulary=17, length=9, d1=4, d2=3)
    hidden, head = normal(seed, sum(lengths), 6), normal(seed + 1, 17, 6)
    factor, projected = head_factor(head), projector.head(head)
    norms, projections = nuclear_norms(hidden, lengths, factor), projector.project_ragged(hidden, lengths, projected)
    assert norms.shape == (len(lengths),)
    assert projections.shape == (len(lengths), 12)
    for i, rows in enumerate(hidden.split(lengths)):
        assert norms[i].item() == pytest.approx(nuclear_norm(rows, factor))
        torch.testing.assert_close(projections[i], projector.project(rows, projected))


def test_no_rows_have_no_norm_and_no_projection():
    projector = Projector.draw(0, vocabulary=17, length=9, d1=4, d2=3)
    hidden, head = torch.empty(0, 6), normal(1, 17, 6)
    assert nuclear_norm(hidden, head_factor(head)) == 0
    assert not projector.project(hidden, projector.head(head)).any()


def test_half_precision_is_computed_in_float64():
    projector = Projector.draw(0, vocabulary=50, length=20, d1=8, d2=4)
    hidden, head = normal(0, 20, 8).bfloat16(), normal(1, 50, 8).bfloat16()
    assert nuclear_norm(hidden, head_factor(head)) == nuclear_norm(hidden.double(), head_factor(head.double()))
    found = projector.project(hidden, projector.head(head))
    torch.testing.assert_close(found, projector.project(hidden.double(), projector.head(head.double())))


def test_nothing_is_recorded_for_gradients():
    projector = Projector.draw(0, vocabulary=50, length=20, d1=8, d2=4)
    hidden, head = normal(0, 20, 8).requires_grad_(), normal(1, 50, 8).requires_grad_()
    assert not nuclear_norms(hidden, [20], head_factor(head)).requires_grad
    assert not projector.project(hidden, projector.head(head)).requires_grad


def test_draws_follow_the_seed_and_lie_in_range():
    one, same, other = (Projector.draw(seed, vocabulary=1000, length=64) for seed in (1, 1, 2))
    assert one.index_vocab.shape == (128,)
    assert one.index_time.shape == (8,)
    assert set(one.sign_vocab.tolist()) == set(one.sign_time.tolist()) == {-1.0, 1.0}
    assert int(one.index_vocab.max()) < 1000
    assert int(one.index_time.max()) < 64
    for name in ("sign_vocab", "index_vocab", "sign_time", "index_time"):
        torch.testing.assert_close(getattr(one, name), getattr(same, name))
    assert not torch.equal(one.index_vocab, other.index_vocab)


def test_a_large_vocabulary_loses_no_digits():
    """Angles of up to 1e10 turns."""
    projector = Projector.draw(0, vocabulary=151_936, length=2, d1=4, d2=1)
    head = normal(0, 151_936, 2)
    found = projector.head(head)
    expected = fourier(head.double().T, projector.sign_vocab.double(), projector.index_vocab, -1).T
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


def test_an_example_longer_than_the_projector_is_refused():
    projector = Projector.draw(0, vocabulary=5, length=3)
    with pytest.raises(TokensieveError, match="an example has 4 rows, the projector was drawn for at most 3"):
        projector.project(torch.zeros(4, 2), projector.head(torch.zeros(5, 2)))


def test_a_head_of_another_vocabulary_is_refused():
    with pytest.raises(TokensieveError, match="the head has 6 rows, the projector was drawn for 5 tokens"):
        Projector.draw(0, vocabulary=5, length=3).head(torch.zeros(6, 2))


def test_diversity_is_the_mean_distance_to_the_buffer():
    found = diversity(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]))
    torch.testing.assert_close(found, torch.tensor([5.0, 10 / 3], dtype=torch.float64))


def test_diversity_is_zero_without_a_buffer():
    assert diversity(torch.ones(2, 3), torch.empty(0, 3)).tolist() == [0, 0]


def test_the_diversity_of_near_neighbours_is_exact():
    """Far from the origin, and with more rows than cdist's switch to a matrix product."""
    buffer = normal(0, 60, 4).double() + 1e6
    found = diversity(buffer[:30] + 1e-3, buffer[:30])
    expected = torch.stack([(row + 1e-3 - buffer[:30]).norm(dim=1).mean() for row in buffer[:30]])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
