"""Statistics of the logits matrix of an example, computed from its hidden states without building the logits.

The logits are ``H W^T`` with the hidden states ``H`` ``[N, h]`` and the language-model head ``W`` ``[V, h]``, so
every linear image of them splits into a part of ``W``, computed once per head, and a part of ``H``. This holds
for a head that is linear: one with a bias is handled by a column of ones in ``H`` and the bias as last column of
``W``; one that caps its logits (Gemma 2) is not linear, and what is computed are statistics of the uncapped logits.

Source: UDS, arXiv 2510.16882.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokensieve.errors import TokensieveError

EXAMPLE_STATISTICS = ("nuclear_norm", "diversity")
"""Of whole examples: see `nuclear_norm` and `diversity`."""

# Rows of the head that are in float64 at once.
_BLOCK = 8192


def head_factor(lm_head: Tensor) -> Tensor:
    """Compute the R of the thin QR decomposition of a language-model head, which stands for it in `nuclear_norm`.

    Args:
        lm_head: ``[V, h]``, any float dtype.

    Returns:
        float64 ``[min(V, h), h]`` with ``R^T R = W^T W``.
    """
    factor = lm_head.new_empty((0, lm_head.shape[1]), dtype=torch.float64)
    # The R of a stack is that of its parts' Rs: the head never exists whole in float64, nor does Q exist at all.
    for block in lm_head.detach().split(max(_BLOCK, 2 * lm_head.shape[1])):
        factor = torch.linalg.qr(torch.cat([factor, block.double()]), mode="r").R
    return factor


def nuclear_norm(hidden: Tensor, factor: Tensor) -> float:
    """Compute the sum of the singular values of an example's logits.

    Args:
        hidden: ``[N, h]``, any float dtype, the rows to score.
        factor: what `head_factor` made of the head.

    Returns:
        The nuclear norm of ``hidden @ lm_head.T``; 0 for no rows.
    """
    return nuclear_norms(hidden, [len(hidden)], factor).item()


def nuclear_norms(hidden: Tensor, lengths: Sequence[int], factor: Tensor) -> Tensor:
    """Compute the sum of the singular values of each example's logits.

    Args:
        hidden: ``[tokens, h]``, any float dtype, the rows of the examples one after another (of a padded batch,
            ``hidden[real]``).
        lengths: rows of each example; they sum to ``tokens``.
        factor: what `head_factor` made of the head.

    Returns:
        float64 ``[examples]``.
    """
    norms = torch.zeros(len(lengths), dtype=torch.float64, device=hidden.device)
    for i, rows in enumerate(hidden.detach().split(list(lengths))):
        matrix = rows.double() @ factor.T
        # The eigenvalues of the smaller Gram matrix are the squares of the singular values. Squaring costs half
        # the digits, of float64: a singular value is off by some 1e-8 of the largest at most.
        gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        norms[i] = torch.linalg.eigvalsh(gram).clamp_(min=0).sqrt_().sum()
    return norms


@dataclass(frozen=True, eq=False)
class Projector:
    """The random draws of a bilinear subsampled randomised Fourier projection of logits to ``d2 x d1``.

    Each side flips signs, takes the real part of a discrete Fourier transform, reads some of its frequencies
    (with replacement) and scales by ``sqrt(full / read)``; the frequencies of the time axis are those of
    ``length`` rows, as if every example were padded with zeros to that length. Equals the published code.

    Attributes:
        sign_vocab: float ``[V]``, 1 or -1 per token of the vocabulary.
        index_vocab: int64 ``[d1]``, frequencies over the vocabulary.
        sign_time: float ``[length]``, 1 or -1 per row.
        index_time: int64 ``[d2]``, frequencies over time.
    """

    sign_vocab: Tensor
    index_vocab: Tensor
    sign_time: Tensor
    index_time: Tensor

    @classmethod
    def draw(cls, seed: int, vocabulary: int, length: int, d1: int = 128, d2: int = 8) -> Projector:
        """Draw a projector.

        Args:
            seed: of the draws, which are the same on every device.
            vocabulary: number of logits of a row.
            length: of the longest example that will be projected.
            d1: frequencies over the vocabulary.
            d2: frequencies over time.
        """
        generator = torch.Generator().manual_seed(seed)

        def integers(end: int, count: int) -> Tensor:
            return torch.randint(end, (count,), generator=generator)

        return cls(
            sign_vocab=integers(2, vocabulary) * 2.0 - 1,
            index_vocab=integers(vocabulary, d1),
            sign_time=integers(2, length) * 2.0 - 1,
            index_time=integers(length, d2),
        )

    def head(self, lm_head: Tensor) -> Tensor:
        """Project a language-model head over the vocabulary, once for all examples.

        Args:
            lm_head: ``[V, h]``, any float dtype.

        Returns:
            float64 ``[d1, h]``, what `project` takes.

        Raises:
            TokensieveError: if the head has another vocabulary than the projector.
        """
        vocabulary = len(self.sign_vocab)
        if len(lm_head) != vocabulary:
            raise TokensieveError(
                f"the head has {len(lm_head)} rows, the projector was drawn for {vocabulary} tokens",
                hint="draw the projector for the rows of the head",
            )
        result = lm_head.new_zeros((len(self.index_vocab), lm_head.shape[1]), dtype=torch.float64)
        for start in range(0, vocabulary, _BLOCK):
            block = lm_head[start : start + _BLOCK].detach().double()
            result += _transform(self.sign_vocab, self.index_vocab, start, len(block), block.device) @ block
        return result

    def project(self, hidden: Tensor, head: Tensor) -> Tensor:
        """Project the logits of one example.

        Args:
            hidden: ``[N, h]``, any float dtype; N is at most the projector's length.
            head: what `head` made of the language-model head.

        Returns:
            float32 ``[d2 * d1]``, the rows of the ``d2 x d1`` matrix one after another.

        Raises:
            TokensieveError: if the example is longer than the projector's length.
        """
        return self.project_ragged(hidden, [len(hidden)], head)[0]

    def project_ragged(self, hidden: Tensor, lengths: Sequence[int], head: Tensor) -> Tensor:
        """Project the logits of each example.

        Args:
            hidden: ``[tokens, h]``, any float dtype, the rows of the examples one after another.
            lengths: rows of each example; they sum to ``tokens``.
            head: what `head` made of the language-model head.

        Returns:
            float32 ``[examples, d2 * d1]``.

        Raises:
            TokensieveError: if an example is longer than the projector's length.
        """
        longest, most = max(lengths, default=0), len(self.sign_time)
        if longest > most:
            raise TokensieveError(
                f"an example has {longest} rows, the projector was drawn for at most {most}",
                hint="draw the projector for the longest example",
            )
        time = _transform(self.sign_time, self.index_time, 0, longest, hidden.device)
        result = hidden.new_zeros((len(lengths), len(time), len(head)), dtype=torch.float32)
        for i, rows in enumerate((hidden.detach().double() @ head.T).split(list(lengths))):
            result[i] = time[:, : len(rows)] @ rows
        return result.flatten(1)


def diversity(projections: Tensor, buffer: Tensor) -> Tensor:
    """Compute how far examples lie from earlier ones.

    Args:
        projections: ``[B, d]``, any float dtype.
        buffer: ``[n, d]``, the projections of the earlier examples.

    Returns:
        float64 ``[B]``, the mean L2 distance to the rows of the buffer; 0 where it has none.
    """
    if not len(buffer):
        return projections.new_zeros(len(projections), dtype=torch.float64)
    # Through a matrix product, near neighbours would lose their distance to cancellation.
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(projections.double(), buffer.double(), compute_mode=mode).mean(dim=1)


def _transform(sign: Tensor, index: Tensor, start: int, count: int, device: torch.device) -> Tensor:
    """Return ``count`` columns, from ``start``, of one side of the projection: float64 ``[len(index), count]``."""
    full = len(sign)
    columns = torch.arange(start, start + count, device=device)
    # modulo the period while the numbers are whole: the cosine of a large angle is inexact
    turns = index.to(device)[:, None] * columns % full
    scaled = sign[start : start + count].to(device).double() * math.sqrt(full / len(index))
    return (turns.double() * (2 * math.pi / full)).cos_() * scaled
