"""GOAD (Bergman & Hoshen, 2020): features that lie near the centre of their own transform."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.distributed import gather
from anomaly_gan.errors import UserError
from anomaly_gan.losses.contrastive import shift_classification
from anomaly_gan.methods.base import Method
from anomaly_gan.precision import in_full_precision
from anomaly_gan.scoring.goad import GOADScore
from anomaly_gan.sharding import Shard
from anomaly_gan.training.loop import Rngs
from anomaly_gan.training.phases import Step, Terms, one_phase
from anomaly_gan.transforms.geometric import Geometric
from anomaly_gan.types import Images, Scalar


@dataclass(frozen=True)
class TransformsStep(Step):
    """`images` are the batch's; the network sees each under every transform."""

    shifts: Geometric
    margin: float


class GOAD(Method):
    """Cross-entropy of the transform, a triplet loss on the features, and a penalty of their size.

    The paper's, where the released code slips: there, batch norm is frozen after the first epoch, by a call
    of eval() that is never taken back, and the second batch norm and ReLU of a block are computed and thrown
    away.

    Args:
        scorer: it holds the network and the transforms.
        margin: of the triplet loss, at least 0.
        training: see `Method`.
    """

    def __init__(self, *, scorer: GOADScore, margin: float, **training: Any):
        if margin < 0:
            raise UserError(f"method.margin={margin} must be at least 0")
        super().__init__(
            scorer=scorer,
            networks={"network": scorer.network},
            plan=one_phase("features", "network", features),
            **training,
        )
        self.shifts, self.margin = scorer.shifts, margin

    def make_step(self, images: Images, shard: Shard, rng: Rngs) -> TransformsStep:
        return TransformsStep(
            dict(self.networks.items()), images, shard, rng("step"), self.shifts, self.margin
        )


def features(step: TransformsStep) -> Terms:
    """The three terms, of all images under all transforms."""
    seen = step.networks["network"](step.shifts(step.images), step.rng)
    count = step.shifts.count
    z = seen.features.unflatten(0, (count, -1)).transpose(0, 1)  # [B, K, D]
    everyone = gather(z.contiguous(), step.shard.sizes(1))
    labels = step.shifts.labels(len(step.images), z.device)
    return {
        "transform": shift_classification(seen.logits, labels),
        "triplet": triplet(z, everyone, step.margin),
        "size": z.square().mean(),
    }


@in_full_precision
def triplet(
    z: Float[Tensor, "batch shifts feature"], everyone: Float[Tensor, "all shifts feature"], margin: float
) -> Scalar:
    """How much nearer each feature ought to be to the mean of its own transform than to any other's.

    The mean over images and transforms m of max(0, |z - mu_m|^2 + margin - min over m' of |z - mu_m'|^2),
    where mu is a mean over the batch, the image itself among it, and gradients flow through it.

    Args:
        z: this process's features, [B, K, D].
        everyone: those of the whole batch, [N, K, D].
        margin: at least 0.
    """
    means = everyone.mean(0)  # [K, D]
    # Squared differences, not a product of matrices: their rounding would be as large as what is compared.
    distances = (z.unsqueeze(2) - means).square().sum(3)  # [B, K, K]
    own = distances.diagonal(dim1=1, dim2=2)
    others = distances + torch.diag(distances.new_full((z.shape[1],), torch.inf))
    return F.relu(own + margin - others.amin(2)).mean()
