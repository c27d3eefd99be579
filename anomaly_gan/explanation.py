"""Why an image has the score that it has: where, by which shifts, and beside which normal images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from anomaly_gan.data.normal_images import NormalImages
from anomaly_gan.scoring.base import Neighbours, Scorer
from anomaly_gan.scoring.calibration import Threshold
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.types import Images, RawImages

PATCHES = 5
"""A hidden patch is the side divided by this."""

COARSE = 4
"""What replaces a patch is the image with so many pixels a side, smoothly enlarged."""

STEPS = 2
"""Steps in which a patch moves by its own side."""

PATCHES_IN_ALL = ((PATCHES - 1) * STEPS + 1) ** 2
"""Images scored to explain one, where a scorer looks at whole images."""

Picture = UInt8[ndarray, "height width channels"]


@dataclass(frozen=True)
class Neighbour:
    """A normal training image that is near to the image explained."""

    name: str
    """Of its file, or its place in the data set."""
    likeness: float
    """How near it is, in the measure that `measure` names."""
    measure: str
    """Of `likeness`: "cosine" of the two images' embeddings, the mean over the shifts, in [-1, 1]; "overlap"
    of their features, the mean of Bhattacharyya coefficients, in [0, 1]; or "distance" of their
    pixels or features."""
    picture: UInt8[ndarray, "side side channels"] | None
    """A thumbnail; None where the detector's file has none."""


@dataclass(frozen=True)
class Explanation:
    """What the score of one image hangs on."""

    picture: Picture
    """The image as the detector sees it: uint8 [H, W, C]."""
    name: str
    """Of its file, or its place in the input."""
    score: float
    """The primary score; higher = more anomalous."""
    p_value: float | None
    """How often a normal image scores as high; None without calibration."""
    anomalous: bool | None
    """Whether the score is above the threshold; None without calibration."""
    threshold: float | None
    """The score above which an image is anomalous; None without calibration."""
    heat: Float[ndarray, "height width"]
    """In the score's units; `heat_of` says what of."""
    heat_of: Literal["places", "occlusion"]
    """Places: how much more anomalous each is than half of them. Occlusion, of a method that looks at whole
    images: how much the score falls when what is there is blurred away, at the resolution of a fifth of the
    side; below zero: how much it rises."""
    per_shift: dict[str, Float[ndarray, " shifts"]]
    """By part of the score, what each shift (rotation) adds to it; their sum is the score. Empty from a
    method that cannot say."""
    typical: dict[str, Float[ndarray, " shifts"]]
    """The same of a normal image, roughly."""
    neighbours: list[Neighbour]
    """The most similar normal training images, nearest first; empty from a method that cannot say."""
    reconstruction: Picture | None
    """What the model of normal images makes of it; None from a detector without encoder."""


def explain(
    scorer: Scorer,
    images: RawImages,
    names: list[str],
    threshold: Threshold | None,
    normal: NormalImages | None,
    neighbours: int = 5,
) -> Iterator[Explanation]:
    """Explain the primary score of each image; one costs as much as scoring `images_an_explanation`.

    Args:
        scorer: trained and fitted.
        images: uint8 [B, C, H, W], on its device.
        names: of the images.
        threshold: of the primary score; None: no decisions.
        normal: the images behind the rows of the bank; None: they are told by their numbers.
        neighbours: how many normal images to show beside each.
    """
    for image, name in zip(to_float(images), names, strict=True):
        yield _explain(scorer, image[None], name, threshold, normal, neighbours)


def _explain(
    scorer: Scorer,
    image: Images,
    name: str,
    threshold: Threshold | None,
    normal: NormalImages | None,
    neighbours: int,
) -> Explanation:
    score = scorer.score(image).double()
    array = score.cpu().numpy()
    made_of = scorer.attribution(image, neighbours)
    reconstruction = _picture(scorer.reconstruct(image)) if scorer.reconstructs else None
    heat = above_median(scorer.maps(image)[0]) if scorer.scores_places else occlusion(scorer, image, score)
    return Explanation(
        picture=_picture(image),
        name=name,
        score=float(array[0]),
        p_value=None if threshold is None else float(threshold.p_values(array)[0]),
        anomalous=None if threshold is None else bool(threshold.anomalous(array)[0]),
        threshold=None if threshold is None else threshold.value,
        heat=heat.cpu().numpy(),
        heat_of="places" if scorer.scores_places else "occlusion",
        per_shift={} if made_of is None else {p: v[0].cpu().numpy() for p, v in made_of.per_shift.items()},
        typical={} if made_of is None else {p: v.cpu().numpy() for p, v in made_of.typical.items()},
        neighbours=[] if made_of is None else _neighbours(made_of.neighbours, normal),
        reconstruction=reconstruction,
    )


def images_an_explanation(scorer: Scorer) -> int:
    """How many images are scored to explain one, its own score left out."""
    return 1 if scorer.scores_places else PATCHES_IN_ALL


def above_median(scores: Float[Tensor, "height width"]) -> Float[Tensor, "height width"]:
    """A map of scores less its median: most places of most pictures are normal."""
    return (scores - scores.median()).double()


def occlusion(scorer: Scorer, image: Images, score: Float[Tensor, " one"]) -> Float[Tensor, "height width"]:
    """How much the score of one image falls where a patch of it is blurred away.

    Patches of a fifth of the side, in steps of half of that, with soft edges; what replaces them are the
    image's own colours there, so that nothing new comes in. A pixel's value is the mean over the patches
    that hide it, weighted by how much they do.

    Args:
        scorer: of the detector.
        image: [1, C, H, W] in [0, 1].
        score: of it.
    """
    masks = patches(image.shape[-1], image.device)  # [M, H, W]
    coarse = F.adaptive_avg_pool2d(image, COARSE)
    blurred = F.interpolate(coarse, size=image.shape[2:], mode="bilinear", align_corners=False)
    hidden = torch.lerp(image, blurred, masks[:, None])
    falls = score - scorer.score(hidden).double()  # [M]
    weights = masks.double()
    return torch.einsum("m,mhw->hw", falls, weights) / weights.sum(dim=0)


def patches(side: int, device: torch.device) -> Float[Tensor, "masks side side"]:
    """Bell-shaped masks of a fifth of the side, 9 x 9 of them, in [0, 1]; they cover the image."""
    patch = max(1.0, side / PATCHES)
    count = (PATCHES - 1) * STEPS + 1
    centres = torch.linspace(patch / 2, side - patch / 2, count, device=device)
    at = torch.arange(side, device=device) + 0.5
    distance = (at - centres[:, None]).abs() / patch  # [count, side]
    bell = (distance.clamp_max(1) * torch.pi / 2).cos().square()  # half at the patch's edge
    return (bell[:, None, :, None] * bell[None, :, None, :]).flatten(0, 1)


def _neighbours(found: Neighbours | None, normal: NormalImages | None) -> list[Neighbour]:
    """Those of the one image."""
    if found is None:
        return []
    named = []
    for row, likeness in zip(found.row[0].tolist(), found.likeness[0].tolist(), strict=True):
        name, picture = f"training image {row}", None
        if normal is not None:
            name, thumbnails = normal.names[row], normal.thumbnails
            picture = None if thumbnails is None else thumbnails[row].permute(1, 2, 0).numpy()
        named.append(Neighbour(name, likeness, found.measure, picture))
    return named


def _picture(image: Images) -> Picture:
    """Of [1, C, H, W] in [0, 1]."""
    pixels: np.ndarray = (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return pixels
