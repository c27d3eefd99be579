"""Between images as they are stored and as the networks see them."""

import torch

from anomaly_gan.types import Images, RawImages


def to_float(raw: RawImages) -> Images:
    """uint8 0..255 -> torch's default type, float32, in [0, 1], on the same device."""
    return raw.to(torch.get_default_dtype()) / 255
