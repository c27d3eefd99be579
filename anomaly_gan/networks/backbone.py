"""A network that was trained on other pictures, as a source of features: its own weights never move."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from anomaly_gan.errors import UserError, nearest
from anomaly_gan.types import Images

NEEDED = "pip install 'anomaly-gan[pretrained]'"


class Backbone(nn.Module):
    """Feature maps of one of timm's image classifiers; it starts with random weights.

    Args:
        name: of the architecture, as timm has it.
        blocks: which of its feature maps, by their place in timm's list (0 is the largest), rising.
        smallest_side: images of a smaller side are enlarged to this, pixels.

    Raises:
        UserError: timm is not installed, or has no such network or block.
    """

    channels: list[int]
    """Of each map."""
    network: Any
    """Of timm, with no head."""
    mean: Tensor
    """Of the pictures that it was trained on, by colour, [1, 3, 1, 1]."""
    deviation: Tensor
    """Likewise."""

    def __init__(self, name: str, blocks: Sequence[int], smallest_side: int):
        super().__init__()
        if importlib.util.find_spec("timm") is None:
            raise UserError(f"scoring.backbone={name}: networks of others come from timm: {NEEDED}")
        import timm  # a second, for who uses it

        if not timm.is_model(name):
            raise UserError(f"scoring.backbone={name}: {nearest(name, timm.list_models())}")
        if not blocks or list(blocks) != sorted(set(blocks)) or blocks[0] < 0 or smallest_side < 1:
            raise UserError(
                f"scoring.blocks={list(blocks)} must be rising, from 0, and scoring.smallest_side="
                f"{smallest_side} above 0"
            )
        # Built here and not fetched: weights come with a detector's file, or from `pretrained.load_weights`.
        self.network = timm.create_model(name, pretrained=False, num_classes=0)
        if not hasattr(self.network, "forward_intermediates") or not hasattr(self.network, "feature_info"):
            raise UserError(f"scoring.backbone={name}: timm gives no feature maps of it; resnet18 has some")
        stages = [stage["num_chs"] for stage in self.network.feature_info]
        if blocks[-1] >= len(stages):
            raise UserError(f"scoring.blocks={list(blocks)}: {name} has the maps 0 to {len(stages) - 1}")
        self.name, self.blocks = name, list(blocks)
        self.channels = [stages[block] for block in blocks]
        self.network.prune_intermediate_layers(self.blocks, prune_norm=True, prune_head=True)
        self.smallest_side = smallest_side
        usual = timm.get_pretrained_cfg(name)
        mean, deviation = (usual.mean, usual.std) if usual is not None else ((0.5,) * 3, (0.5,) * 3)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)
        self.eval()
        self._try(smallest_side)

    @torch.no_grad()
    def _try(self, side: int) -> None:
        """Refuse now what takes no images of any size: transformers want those that they were made for."""
        try:
            sizes = [self(torch.zeros(1, 3, of, of))[0].shape[2] for of in (side, side + 32)]
        except (AssertionError, RuntimeError) as wrong:
            raise UserError(
                f"scoring.backbone={self.name}: takes no images of {side} pixels: {wrong}"
            ) from wrong
        if sizes[0] > sizes[1]:
            raise UserError(f"scoring.backbone={self.name}: its maps do not grow with the image")

    def train(self, mode: bool = True) -> "Backbone":
        """It stays in evaluation: its statistics are part of what it has learned."""
        return super().train(False)

    def forward(self, images: Images) -> list[Float[Tensor, "batch _ _ _"]]:
        """The maps of square images in [0, 1], grey or coloured; the largest first."""
        if images.shape[-1] < self.smallest_side:
            side = (self.smallest_side, self.smallest_side)
            images = F.interpolate(images, size=side, mode="bilinear", align_corners=False)
        normalised = (images.expand(-1, 3, -1, -1) - self.mean) / self.deviation
        normalised = normalised.contiguous(memory_format=torch.channels_last)
        maps: list[Tensor] = self.network.forward_intermediates(
            normalised, indices=self.blocks, stop_early=True, intermediates_only=True
        )
        return maps
