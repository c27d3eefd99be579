"""Deep SVDD (Ruff et al., 2018): an autoencoder, whose encoder then brings normal images near one point."""

from dataclasses import dataclass
from typing import Any

import torch

from anomaly_gan.distributed import gather_unknown, mean_of_rows
from anomaly_gan.errors import UserError
from anomaly_gan.methods.base import Method
from anomaly_gan.networks.lenet import LeNetDecoder
from anomaly_gan.precision import in_full_precision
from anomaly_gan.scoring.distance import CentreDistance, contrast_normalised, squared_distance
from anomaly_gan.sharding import Shard
from anomaly_gan.training.loop import Rngs
from anomaly_gan.training.phases import Phase, Stage, Step, Terms
from anomaly_gan.types import ImageBatches, Images, Scalar

LEAST = 0.1
"""Coordinates of the centre are kept that far from 0, which weights could reach by vanishing."""


@dataclass(frozen=True)
class PreparedStep(Step):
    """`images` are as the network takes them."""

    scorer: CentreDistance


class DeepSVDD(Method):
    """Two stages: `autoencoder` reconstructs the normal images; `one_class` pulls their embeddings to c.

    The one-class objective; c is the mean embedding of the normal images when the second stage begins.

    Args:
        scorer: it holds the encoder.
        training: see `Method`.
    """

    least_batch = 2  # batch norm of embeddings

    def __init__(self, *, scorer: CentreDistance, **training: Any):
        network = scorer.network
        decoder = LeNetDecoder(scorer.image_size, scorer.channels, network.width, len(scorer.centre))
        reconstruct = Phase("reconstruction", ("encoder", "decoder"), reconstruction)
        approach = Phase("one_class", ("encoder",), one_class)
        super().__init__(
            scorer=scorer,
            networks={"encoder": network, "decoder": decoder},
            plan=[
                Stage("autoencoder", (reconstruct,), begin=self.set_range),
                Stage("one_class", (approach,), begin=self.set_centre),
            ],
            **training,
        )
        self.scorer: CentreDistance = scorer

    def make_step(self, images: Images, shard: Shard, rng: Rngs) -> PreparedStep:
        prepared = self.scorer.prepared(images)
        return PreparedStep(dict(self.networks.items()), prepared, shard, rng("step"), self.scorer)

    def set_range(self, normal: ImageBatches) -> None:
        """Set the range of the input to that of the normal images, one for all channels; nothing is clipped.

        Raises:
            UserError: all of them are of one colour.
        """
        ends = torch.stack([torch.stack(contrast_normalised(images).aminmax()) for images in normal])
        ends = gather_unknown(ends)  # [batches, 2]
        self.scorer.low, self.scorer.high = ends[:, 0].min(), ends[:, 1].max()
        if self.scorer.low == self.scorer.high:
            raise UserError(
                "every normal image is of one colour, and Deep SVDD sees contrast alone; look whether these "
                "are the right images, or take another method, e.g. method=raw_pixels"
            )

    def set_centre(self, normal: ImageBatches) -> None:
        """Set c to the mean embedding of the normal images, in evaluation mode, none too near to 0.

        In training mode batch norm takes most of the mean away. An exact 0 stays, as in the released code.
        """
        was_training = self.scorer.network.training
        self.scorer.network.eval()
        centre = mean_of_rows(self.scorer.embed(images) for images in normal)
        self.scorer.network.train(was_training)
        self.scorer.centre = torch.where(centre.abs() < LEAST, LEAST * centre.sign(), centre)


def reconstruction(step: PreparedStep) -> Terms:
    """Squared error of the decoded images, summed over an image's values."""
    made = step.networks["decoder"](step.networks["encoder"](step.images))
    return {"pixels": squared_error(made, step.images)}


def one_class(step: PreparedStep) -> Terms:
    """Mean squared distance to the centre."""
    embeddings = step.networks["encoder"](step.images)
    return {"distance": squared_distance(embeddings, step.scorer.centre).mean()}


@in_full_precision
def squared_error(made: Images, images: Images) -> Scalar:
    """The mean over images of the sum over values of the squared difference."""
    return (made - images).square().sum((1, 2, 3)).mean()
