"""Scores of every place of a picture: what is anomalous is found, and shown where it is."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.distributed import gather_unknown
from anomaly_gan.precision import at_least_float32
from anomaly_gan.randomness import make_rng
from anomaly_gan.scoring.base import Scorer
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.types import ImageBatches, Images, PlaceFeatures, RawImages, ScoreMaps, Scores

BLUR = 1 / 32
"""Standard deviation of the blur of a map, in sides of the picture."""

AT_A_TIME = 16
"""Pictures whose features are in memory at a time: a cache holds more of few."""

MEASURED = 32
"""Normal pictures whose levels say which levels are usual."""

DEVIATIONS = 5.0
"""How far above the mean level of these a picture's may be and still count as its own."""


class DenseScorer(Scorer):
    """Compares the features of each place with those of normal pictures; the worst place is the score.

    Features are averaged over 3 x 3 places of their own map, as PatchCore has it; smaller maps are enlarged
    to the largest, and all stand side by side.

    What half of a picture's places exceed, its level, says how the picture was taken (its light, its object)
    and not that something on it is defective: it is subtracted. Of a picture whose level is far above those
    of normal pictures, because it shows something else or nothing, no more than `highest_level` is, so that
    it keeps its high score. (Of few pictures to learn from, new ones have higher levels than these: then the
    same is subtracted from all, and the order is that of the worst places.)

    Args:
        of_scorer: see `Scorer`.
    """

    scores_places = True
    bell: Tensor
    """What a map is blurred with, along either side."""
    highest_level: Tensor
    """What is subtracted at most: the mean of normal pictures' levels and `DEVIATIONS` of their deviations.
    0 before the fit, and in files from before there was one, which score as they did."""

    def __init__(self, **of_scorer: Any):
        super().__init__(**of_scorer)
        deviation = BLUR * self.image_size
        offsets = torch.arange(-round(3 * deviation), round(3 * deviation) + 1)
        bell = torch.exp(-0.5 * (offsets / deviation).square())
        self.register_buffer("bell", bell / bell.sum(), persistent=False)
        self.register_buffer("highest_level", torch.zeros(()))

    @abstractmethod
    def feature_maps(self, images: Images) -> list[Float[Tensor, "batch _ _ _"]]:
        """What a network says of each place, as maps; the largest first."""

    @abstractmethod
    def fit_places(self, normal: ImageBatches) -> None:
        """Learn which features are normal, from normal pictures."""

    @abstractmethod
    def place_scores(self, features: PlaceFeatures) -> Float[Tensor, "batch rows columns"]:
        """How far the features of each place are from normal ones, at least 0."""

    def place_features(self, images: Images) -> PlaceFeatures:
        """What the network says of each place, [B, h, w, D], in float32 at least."""
        with self.autocast(images.device):
            maps = self.feature_maps(images)
        averaged = [F.avg_pool2d(at_least_float32(found), 3, 1, 1, count_include_pad=False) for found in maps]
        places = averaged[0].shape[2:]
        enlarged = [
            F.interpolate(found, size=places, mode="bilinear", align_corners=False) for found in averaged[1:]
        ]
        return torch.cat([averaged[0], *enlarged], dim=1).permute(0, 2, 3, 1)

    @torch.no_grad()
    def fit(self, normal: ImageBatches) -> None:
        self.eval()
        self.fit_places(normal)
        found = [level(self.place_scores(self.place_features(image))) for image in some_of(normal)]
        levels = gather_unknown(torch.cat(found) if found else torch.empty(0, device=self.device))
        self.highest_level = levels.mean() + DEVIATIONS * levels.std(correction=0)

    @property
    def lowest(self) -> float:
        return -float(self.highest_level)

    @torch.inference_mode()
    def maps(self, images: Images) -> ScoreMaps:
        self.eval()
        return torch.cat([self._maps(part) for part in images.split(AT_A_TIME)])

    @torch.inference_mode()
    def scores(self, images: Images) -> dict[str, Scores]:
        self.eval()
        worst = [self._maps(part).amax(dim=(1, 2)) for part in images.split(AT_A_TIME)]
        return {self.primary: torch.cat(worst)}

    def forward(self, images: RawImages) -> Scores:
        return self.raw_maps(images).amax(dim=(1, 2))

    def raw_maps(self, images: RawImages) -> ScoreMaps:
        return self._maps(to_float(images))

    def _maps(self, images: Images) -> ScoreMaps:
        found = self.place_scores(self.place_features(images))
        own = torch.minimum(level(found), self.highest_level)
        spread = spreading(found.shape[1], self.bell, images.shape[2])
        return spread @ (found - own[:, None, None]) @ spread.T

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        state_dict.setdefault(f"{prefix}highest_level", torch.zeros(()))
        super()._load_from_state_dict(state_dict, prefix, *args)


def level(places: Float[Tensor, "batch rows columns"]) -> Float[Tensor, " batch"]:
    """What half of a picture's places reach: their median, by an operation that can be exported."""
    of_picture = places.flatten(1)
    return of_picture.topk(of_picture.shape[1] // 2 + 1).values[:, -1]


def some_of(pictures: ImageBatches) -> list[Images]:
    """Of `MEASURED` pictures of all processes, or of all where they are fewer, those of this one; each [1].

    Which they are hangs on the pictures alone, so neither batches nor processes make a difference: each is
    given a random number that follows from it, and those with the lowest are taken.
    """
    lowest: list[tuple[float, int, Images]] = []
    for count, image in enumerate(image for batch in pictures for image in batch.split(1)):
        number = float(torch.rand((), generator=rng_of(image, "level")))
        if len(lowest) < MEASURED or number < lowest[-1][0]:
            own = image.clone()  # of a view, the whole batch would be kept
            lowest = sorted([*lowest, (number, count, own)])[:MEASURED]
    numbers = torch.tensor([number for number, *_ in lowest], dtype=torch.float64)
    of_all = gather_unknown(numbers.to(image.device)).sort().values
    limit = float(of_all[:MEASURED][-1])
    return [image for number, _, image in lowest if number <= limit]


def rng_of(image: Tensor, *purpose: int | str) -> torch.Generator:
    """A random generator that follows from an image."""
    return make_rng("cpu", *purpose, round(1e6 * float(image.double().sum())))


def spreading(places: int, bell: Float[Tensor, " offsets"], pixels: int) -> Float[Tensor, "pixels places"]:
    """How much of the score of each place goes to each pixel along a side: enlarged, then blurred.

    Both are linear and alike along either side, so that a map is this matrix, the places' scores, and the
    matrix transposed.

    Args:
        places: along a side of the picture.
        bell: the weights of the blur.
        pixels: along a side of the picture.
    """
    each = torch.eye(places, device=bell.device)[:, None]
    enlarged = F.interpolate(each, size=pixels, mode="linear", align_corners=False)
    padded = F.pad(enlarged, (len(bell) // 2,) * 2, mode="replicate")
    return F.conv1d(padded, bell.view(1, 1, -1))[:, 0].T


def in_parts(batches: ImageBatches) -> Iterator[Images]:
    """The same images, few at a time."""
    for images in batches:
        yield from images.split(AT_A_TIME)
