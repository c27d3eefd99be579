"""Embeddings -> anomaly scores: equation 11 of the paper and the score of CSI's released code.

Everything here is exact: every row of the bank is compared, `chunk` rows at a time.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from anomaly_gan.precision import in_full_precision
from anomaly_gan.types import BankRows, Scores, ShiftedEmbeddings, ShiftLogits

SCORES = ("paper", "csi")
"""Those of the two papers."""
PARTS = ("contrastive", "shift", "cosine")
"""What the scores are made of, reported beside them."""

SMALLEST_MEAN_SHIFT_LOGIT = 0.1
"""A shift's logits are divided by their mean over the bank. Early in training that mean can be near zero
or negative, and the weight 1 / mean explodes or flips the score; it is kept from falling below this."""


class Bank(NamedTuple):
    """What is remembered of the N normal images."""

    unit: BankRows
    """Their embeddings, each of length one. [N, K, D]"""
    mean_norm: Float[Tensor, " shifts"]
    """Per shift, the mean length of their embeddings. [K]"""
    mean_logit: Float[Tensor, " shifts"]
    """Per shift, the mean of their logits for that shift. [K]"""
    roots: BankRows | None = None
    """Of their penultimate features (`scoring.hellinger`), where that score ranks. [N, K, P]"""
    whitened: BankRows | None = None
    """Their features in `scoring.whitened`, where that score ranks. [N, K, C + 1]"""
    centre: Float[Tensor, "shifts feature"] | None = None
    """Beside it: what these features are whitened by, `Whitening.centre` [K, P]."""
    axes: Float[Tensor, "shifts feature component"] | None = None
    """Beside it: `Whitening.axes` [K, P, C]."""
    rest: Float[Tensor, " shifts"] | None = None
    """Beside it: `Whitening.rest` [K]."""


@in_full_precision
def make_bank(embeddings: ShiftedEmbeddings, shift_logits: ShiftLogits) -> Bank:
    """The bank of the normal images' embeddings [N, K, D] and shift logits [N, K]."""
    return Bank(
        unit=F.normalize(embeddings, dim=2),
        mean_norm=embeddings.norm(dim=2).mean(dim=0),
        mean_logit=shift_logits.mean(dim=0),
    )


class Nearest(NamedTuple):
    """Inner products of B images with their nearest row of the bank, by three notions of near."""

    joint: Float[Tensor, " batch"]
    """max over rows of the sum over shifts of <F(S(x)), unit row>: M of eq. 11."""
    joint_row: Int64[Tensor, " batch"]
    """The row of the bank that attains it."""
    per_shift: Float[Tensor, "batch shifts"]
    """Per shift its own nearest row: max over rows of <F(S(x)), unit row>."""
    cosine: Float[Tensor, " batch"]
    """max over rows of the mean over shifts of the cosine."""


@in_full_precision
def nearest(embeddings: ShiftedEmbeddings, unit: BankRows, chunk: int) -> Nearest:
    """Compare `embeddings` [B, K, D] with every row of `unit` [N, K, D].

    Memory beyond the arguments: a few times B * `chunk` numbers.
    """
    batch, shifts, _ = embeddings.shape
    joint = embeddings.new_full((batch,), -torch.inf)
    joint_row = torch.zeros(batch, dtype=torch.int64, device=embeddings.device)
    per_shift = embeddings.new_full((batch, shifts), -torch.inf)
    cosine = embeddings.new_full((batch,), -torch.inf)
    over_norm = 1 / embeddings.norm(dim=2).clamp_min(1e-12)  # [B, K]
    for start in range(0, len(unit), chunk):
        rows = unit[start : start + chunk]
        total = embeddings.new_zeros(batch, len(rows))
        total_cosine = torch.zeros_like(total)
        for k in range(shifts):
            product = embeddings[:, k] @ rows[:, k].T  # [B, chunk]
            per_shift[:, k] = torch.maximum(per_shift[:, k], product.amax(dim=1))
            # In place: beside the product, passes over memory are what takes time.
            total += product
            total_cosine.addcmul_(product, over_norm[:, k : k + 1])
        best, row = total.max(dim=1)
        joint_row = torch.where(best > joint, row + start, joint_row)
        joint = torch.maximum(joint, best)
        cosine = torch.maximum(cosine, total_cosine.amax(dim=1) / shifts)
    return Nearest(joint, joint_row, per_shift, cosine)


@in_full_precision
def anomaly_scores(
    embeddings: ShiftedEmbeddings, shift_logits: ShiftLogits, bank: Bank, chunk: int
) -> dict[str, Scores]:
    """Every score and part of B images, higher = more anomalous.

    `paper`: -M of eq. 11; its m(x, x') = sim * ||F(x)|| is the inner product with a unit row, and the same
    neighbour serves all shifts. `csi`: per shift the nearest neighbour's product over the bank's mean norm
    (alone: `contrastive`) plus the shift's logit over the bank's mean (alone: `shift`), averaged over the
    shifts (Tack et al., 2020, released code). `cosine`: eq. 11 without the norm.

    Args:
        embeddings: [B, K, D], not normalised.
        shift_logits: [B, K].
        bank: of the normal images.
        chunk: rows of the bank compared at a time.
    """
    found = nearest(embeddings, bank.unit, chunk)
    contrastive = (found.per_shift / bank.mean_norm.clamp_min(1e-12)).mean(dim=1)
    shift = (shift_logits / bank.mean_logit.clamp_min(SMALLEST_MEAN_SHIFT_LOGIT)).mean(dim=1)
    normality = {
        "paper": found.joint,
        "csi": contrastive + shift,
        "contrastive": contrastive,
        "shift": shift,
        "cosine": found.cosine,
    }
    return {name: -value for name, value in normality.items()}


@in_full_precision
def contributions(
    embeddings: ShiftedEmbeddings, shift_logits: ShiftLogits, bank: Bank, chunk: int
) -> dict[str, Float[Tensor, "batch shifts"]]:
    """What each shift adds to a score of `anomaly_scores`: [B, K], whose sum over the shifts is the score."""
    found = nearest(embeddings, bank.unit, chunk)
    shifts = embeddings.shape[1]
    neighbour = bank.unit[found.joint_row]  # [B, K, D]
    contrastive = found.per_shift / bank.mean_norm.clamp_min(1e-12) / shifts
    shift = shift_logits / bank.mean_logit.clamp_min(SMALLEST_MEAN_SHIFT_LOGIT) / shifts
    normality = {
        "paper": (embeddings * neighbour).sum(dim=2),
        "csi": contrastive + shift,
        "contrastive": contrastive,
        "shift": shift,
    }
    return {name: -value for name, value in normality.items()}


@in_full_precision
def most_similar(
    embeddings: ShiftedEmbeddings, unit: BankRows, count: int, chunk: int
) -> tuple[Float[Tensor, "batch count"], Int64[Tensor, "batch count"]]:
    """The rows of the bank nearest to each image by the mean over the shifts of the cosine, nearest first.

    Args:
        embeddings: [B, K, D].
        unit: [N, K, D], N >= `count`.
        count: how many rows.
        chunk: rows compared at a time.

    Returns:
        Cosines [B, count] and rows [B, count].
    """
    queries = F.normalize(embeddings, dim=2).flatten(1) / embeddings.shape[1]  # [B, K*D]
    cosines = torch.cat([queries @ rows.flatten(1).T for rows in unit.split(chunk)], dim=1)  # [B, N]
    best = cosines.topk(count, dim=1)
    return best.values, best.indices
