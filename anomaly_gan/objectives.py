"""One function per line of Algorithm 1: what the line minimises, as named terms.

The weight of a term stands in the configuration, under `method.weights.<line>.<term>`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from anomaly_gan.losses.contrastive import nt_xent, shift_classification
from anomaly_gan.transforms.views import ShiftedViews
from anomaly_gan.types import Images, Scalar

Terms = dict[str, Scalar]


@dataclass(frozen=True)
class Step:
    """What one iteration of Algorithm 1 hands to each of its lines."""

    networks: Mapping[str, nn.Module]
    """By the names of the phase table."""
    images: Images
    """X: the batch of real inliers, [B, C, H, W] in [0, 1]."""
    views: ShiftedViews
    """The shifts S and the augmentation T."""
    temperature: float
    """tau of NT-Xent."""
    generator: torch.Generator
    """The randomness of this iteration, on the images' device."""


def contrast_shifted(step: Step, images: Images) -> Terms:
    """CSI (eq. 4) of `images`: con-SI (eq. 2) and cls-SI (eq. 3) over 2KB views."""
    views = step.views.training(images, step.generator)
    features = step.networks["feature_extractor"](views)
    labels = step.views.training_labels(len(images), images.device)
    return {
        "contrastive": nt_xent(features.embedding, step.temperature),
        "shift_classification": shift_classification(features.shift_logits, labels),
    }


def feature(step: Step) -> Terms:
    """Line 1: F minimises CSI(X)."""
    return contrast_shifted(step, step.images)
