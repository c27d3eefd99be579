"""GOAD's score (Bergman & Hoshen, 2020): is each view nearest to the centre of its own transform?"""

from typing import Any

import torch
from torch import Tensor

from anomaly_gan.distributed import mean_of_rows
from anomaly_gan.scoring.base import Attribution
from anomaly_gan.scoring.classification import goad_parts
from anomaly_gan.scoring.transforms import TransformScorer
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.transforms.geometric import Geometric
from anomaly_gan.types import ImageBatches, Images, RawImages, Scores


class GOADScore(TransformScorer):
    """A wide ResNet's features, and their mean over the normal images under each transform.

    The centres come from a last pass over the normal images, as the paper says; the released code takes the
    features that the last epoch of training happened to see. The paper adds an epsilon to the probabilities,
    whose value it does not give and which is 0 in the released code; there is none here.

    Args:
        shifts: the transforms.
        network: see `TransformScorer`.
    """

    primary = "goad"
    centres: Tensor
    """Mean feature under each transform, [K, D]."""

    def __init__(self, *, shifts: Geometric, **network: Any):
        super().__init__(shifts.count, False, shifts=shifts, **network)
        self.register_buffer("centres", torch.zeros(shifts.count, self.network.head.in_features))

    @torch.no_grad()
    def fit(self, normal: ImageBatches) -> None:
        """Set the centres to the mean features of the normal images."""
        self.eval()
        self.centres = mean_of_rows(self.seen(images).features for images in normal)

    @torch.inference_mode()
    def scores(self, images: Images) -> dict[str, Scores]:
        self.eval()
        return {"goad": goad_parts(self.seen(images).features, self.centres).sum(1)}

    def forward(self, images: RawImages) -> Scores:
        return goad_parts(self.seen_at_once(to_float(images)).features, self.centres).sum(1)

    @torch.inference_mode()
    def attribution(self, images: Images, neighbours: int) -> Attribution:
        self.eval()
        parts = goad_parts(self.seen(images).features, self.centres)
        # Of an image each of whose views lies at its own centre, far from the others.
        return Attribution({"goad": parts}, {"goad": torch.zeros_like(parts[0])}, None)
