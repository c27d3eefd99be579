"""Why an image has the score that it has: where, by which shifts, and beside which normal images."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from anomaly_gan.data.normal_images import NormalImages
from anomaly_gan.methods.base import AnomalyDetector
from anomaly_gan.scoring.calibration import Threshold
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.types import Images, RawImages

PATCHES = 5
"""A hidden patch is the side divided by this."""

COARSE = 4
"""What replaces a patch is the image with so many pixels a side, smoothly enlarged."""

STEPS = 2
"""Steps in which a patch moves by its own side."""

IMAGES_AN_EXPLANATION = ((PATCHES - 1) * STEPS + 1) ** 2
"""Images scored to explain one."""

Picture = UInt8[ndarray, "height width channels"]


@dataclass(frozen=True)
class Neighbour:
    """A normal training image that is near to the image explained."""

    name: str
    """Of its file, or its place in the data set."""
    cosine: float
    """Of the two images' embeddings, the mean over the shifts; in [-1, 1]."""
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
    """How much the score falls when what is there is blurred away; below zero: how much it rises. In the
    score's units, at the resolution of a fifth of the side."""
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
    method: AnomalyDetector,
    images: RawImages,
    names: list[str],
    threshold: Threshold | None,
    normal: NormalImages | None,
    neighbours: int = 5,
) -> Iterator[Explanation]:
    """Explain the primary score of each image; one image costs as much as scoring 81.

    Args:
        method: trained, with its bank.
        images: uint8 [B, C, H, W], on its device.
        names: of the images.
        threshold: of the primary score; None: no decisions.
        normal: the images behind the rows of the bank; None: they are told by their numbers.
        neighbours: how many normal images to show beside each.
    """
    for image, name in zip(to_float(images), names, strict=True):
        yield _explain(method, image[None], name, threshold, normal, neighbours)


def _explain(
    method: AnomalyDetector,
    image: Images,
    name: str,
    threshold: Threshold | None,
    normal: NormalImages | None,
    neighbours: int,
) -> Explanation:
    score = method.score(image).double()
    array = score.cpu().numpy()
    insight = method.insight(image, neighbours)
    reconstruction = _picture(method.reconstruct(image)) if method.reconstructs else None
    return Explanation(
        picture=_picture(image),
        name=name,
        score=float(array[0]),
        p_value=None if threshold is None else float(threshold.p_values(array)[0]),
        anomalous=None if threshold is None else bool(threshold.anomalous(array)[0]),
        threshold=None if threshold is None else threshold.value,
        heat=occlusion(method, image, score).cpu().numpy(),
        per_shift={} if insight is None else {p: v[0].cpu().numpy() for p, v in insight.per_shift.items()},
        typical={} if insight is None else {p: v.cpu().numpy() for p, v in insight.typical.items()},
        neighbours=[]
        if insight is None
        else [
            _neighbour(row, cosine, normal)
            for row, cosine in zip(insight.row[0].tolist(), insight.cosine[0].tolist(), strict=True)
        ],
        reconstruction=reconstruction,
    )


def occlusion(
    method: AnomalyDetector, image: Images, score: Float[Tensor, " one"]
) -> Float[Tensor, "height width"]:
    """How much the score of one image falls where a patch of it is blurred away.

    Patches of a fifth of the side, in steps of half of that, with soft edges; what replaces them are the
    image's own colours there, so that nothing new comes in. A pixel's value is the mean over the patches
    that hide it, weighted by how much they do.

    Args:
        method: that scores.
        image: [1, C, H, W] in [0, 1].
        score: of it.
    """
    masks = patches(image.shape[-1], image.device)  # [M, H, W]
    coarse = F.adaptive_avg_pool2d(image, COARSE)
    blurred = F.interpolate(coarse, size=image.shape[2:], mode="bilinear", align_corners=False)
    hidden = torch.lerp(image, blurred, masks[:, None])
    falls = score - method.score(hidden).double()  # [M]
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


def _neighbour(row: int, cosine: float, normal: NormalImages | None) -> Neighbour:
    if normal is None:
        return Neighbour(f"training image {row}", cosine, None)
    thumbnails = normal.thumbnails
    picture = None if thumbnails is None else thumbnails[row].permute(1, 2, 0).numpy()
    return Neighbour(normal.names[row], cosine, picture)


def _picture(image: Images) -> Picture:
    """Of [1, C, H, W] in [0, 1]."""
    pixels: np.ndarray = (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return pixels
