"""What a classifier of transforms sees, and Geom's scores: how sure it is of the transform of each view."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.distributed import average_, world_size
from anomaly_gan.errors import UserError
from anomaly_gan.networks.wide_resnet import Classified, WideResNet
from anomaly_gan.precision import at_least_float32
from anomaly_gan.scoring.base import Attribution, Precision, Scorer
from anomaly_gan.scoring.classification import (
    Moments,
    TransformLogits,
    dirichlet_parts,
    dirichlet_score,
    fit_dirichlets,
    simplified_parts,
    simplified_score,
    softmax_moments,
)
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.transforms.geometric import Geometric
from anomaly_gan.types import ImageBatches, Images, RawImages, Scores

WIDTH_OF_ONE = 16
"""Channels of a wide ResNet's first group for each unit of its widening factor."""


class Seen(NamedTuple):
    """What the network says of B images under K transforms."""

    logits: Float[Tensor, "batch shifts classes"]
    features: Float[Tensor, "batch shifts feature"]


class TransformScorer(Scorer):
    """A wide ResNet that looks at an image under every transform; what is made of it is a subclass's.

    Args:
        classes: outputs of the network.
        keras: see `WideResNet`.
        image_size, channels, precision: see `Scorer`.
        shifts: the transforms.
        depth: layers of the wide ResNet.
        width: channels of its first group, a multiple of 16; 64 is the published size.
        dropout: rate inside of its blocks, in training.
        chunk: views that go through the network at a time; sets the memory.
    """

    def __init__(
        self,
        classes: int,
        keras: bool,
        /,
        *,
        image_size: int,
        channels: int,
        shifts: Geometric,
        depth: int,
        width: int,
        chunk: int,
        precision: Precision,
        dropout: float = 0.0,
    ):
        if width < WIDTH_OF_ONE or width % WIDTH_OF_ONE:
            raise UserError(f"width={width}: give a multiple of 16: 64 is the published one, 16 fits a CPU")
        if chunk < 1:
            raise UserError(f"scoring.chunk={chunk} must be at least 1")
        super().__init__(image_size=image_size, channels=channels, precision=precision)
        self.network = WideResNet(image_size, channels, classes, depth, width // WIDTH_OF_ONE, dropout, keras)
        self.shifts = shifts
        self.chunk = chunk

    def seen(self, images: Images) -> Seen:
        """What the network says of each image under each transform, some images at a time."""
        at_a_time = max(1, self.chunk // self.shifts.count)
        parts = [self.seen_at_once(part) for part in images.split(at_a_time)]
        return Seen(*(torch.cat(of_all) for of_all in zip(*parts, strict=True)))

    def seen_at_once(self, images: Images) -> Seen:
        """The same in one pass, of any number of images: what an export traces."""
        with self.autocast(images.device):
            found: Classified = self.network(self.shifts(images))  # transform by transform
        by_shift = [values.unflatten(0, (self.shifts.count, -1)).transpose(0, 1) for values in found]
        return Seen(*map(at_least_float32, by_shift))


class TransformClassifier(TransformScorer):
    """A wide ResNet that names transforms, and per transform the Dirichlet of its softmax on normal images.

    `dirichlet` is Geom's score. `simplified` is the mean probability of the right transform, negated.

    Args:
        primary: which score ranks.
        network: see `TransformScorer`.
    """

    alphas: Tensor
    """The Dirichlets' parameters, [K, K]."""
    typical: Tensor
    """What each transform adds to the score of a normal image, on average, [K]."""

    def __init__(self, *, shifts: Geometric, primary: Literal["dirichlet", "simplified"], **network: Any):
        super().__init__(shifts.count, True, shifts=shifts, **network)
        self.primary = primary
        self.register_buffer("alphas", torch.ones(shifts.count, shifts.count, dtype=torch.float64))
        self.register_buffer("typical", torch.zeros(shifts.count))

    @torch.no_grad()
    def fit(self, normal: ImageBatches) -> None:
        """Fit a Dirichlet to the softmax of the normal images under each transform."""
        self.eval()
        counts: list[int] = []

        def seen() -> Iterator[TransformLogits]:
            for images in normal:
                counts.append(len(images))
                yield self.seen(images).logits

        moments = _of_all_processes(softmax_moments(seen()), counts)
        self.alphas = fit_dirichlets(moments)
        shifts = self.shifts.count
        if self.primary == "dirichlet":
            self.typical = -((self.alphas - 1) * moments.log_probability).sum(1).float() / shifts
        else:
            self.typical = -moments.probability.diagonal().float() / shifts

    @torch.inference_mode()
    def scores(self, images: Images) -> dict[str, Scores]:
        self.eval()
        logits = self.seen(images).logits
        return {"dirichlet": dirichlet_score(logits, self.alphas), "simplified": simplified_score(logits)}

    def forward(self, images: RawImages) -> Scores:
        logits = self.seen_at_once(to_float(images)).logits
        if self.primary == "dirichlet":
            return dirichlet_score(logits, self.alphas)
        return simplified_score(logits)

    @torch.inference_mode()
    def attribution(self, images: Images, neighbours: int) -> Attribution:
        self.eval()
        logits = self.seen(images).logits
        parts = (
            dirichlet_parts(logits, self.alphas) if self.primary == "dirichlet" else simplified_parts(logits)
        )
        return Attribution({self.primary: parts}, {self.primary: self.typical}, None)


def _of_all_processes(moments: Moments, counts: list[int]) -> Moments:
    """The moments of the images of all processes, of which this one has seen `counts`."""
    if world_size() == 1:
        return moments
    total = moments.probability.new_tensor([float(sum(counts))])
    sums = [moment * total for moment in moments]
    average_([*sums, total])
    return Moments(*(summed / total for summed in sums))
