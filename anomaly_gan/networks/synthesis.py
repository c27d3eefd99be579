"""G and E of a trained detector: what makes images."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from anomaly_gan.errors import UserError
from anomaly_gan.networks.autoencoders import Family
from anomaly_gan.transforms.geometry import resized
from anomaly_gan.types import Images, Latents


class Synthesis(nn.Module):
    """Holds G, E and an average of G: nothing of it until `fill` or until a file that has them is loaded.

    Args:
        family: what G and E are made of.
        image_size: side of the detector's images, pixels.
        channels: 1 or 3.
    """

    def __init__(self, family: Family, image_size: int, channels: int):
        super().__init__()
        self.family, self.image_size, self.channels = family, image_size, channels
        self.fill(None, None, None)

    def fill(self, generator: nn.Module | None, encoder: nn.Module | None, average: nn.Module | None) -> None:
        """Hold these networks; `average` makes the images where there is one."""
        self.generator, self.encoder, self.average = generator, encoder, average

    @property
    def maker(self) -> nn.Module:
        """G, or its average where one is kept.

        Raises:
            UserError: there is no G.
        """
        maker = self.generator if self.average is None else self.average
        if maker is None:
            raise UserError("a detector without a generator makes no images; ablation=full has one")
        return maker

    def generate(self, latents: Latents, at_a_time: int) -> Images:
        """G(h) of latents [B, L]: [B, C, h, w] in [0, 1]."""
        return torch.cat([self.maker(part) for part in latents.split(at_a_time)])

    def reconstruct(self, images: Images) -> Images:
        """G(E(x)) at the size of the images, [B, C, H, W] in [0, 1].

        Raises:
            UserError: there is no E.
        """
        if self.encoder is None:
            raise UserError("a detector without an encoder reconstructs nothing; ablation=full has one")
        latents = self.encoder(resized(images, self.family.side(self.image_size)))
        return resized(self.maker(latents), self.image_size)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # A fresh module cannot know which networks were trained.
        for name in ("generator", "encoder", "average"):
            if getattr(self, name) is None and any(key.startswith(prefix + name) for key in state_dict):
                setattr(self, name, self._made(name))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _made(self, name: str) -> nn.Module:
        build = self.family.build(self.image_size, self.channels)
        return AveragedModel(build["generator"](), use_buffers=True) if name == "average" else build[name]()
