"""Wide residual networks (Zagoruyko & Komodakis, 2016), as classifiers of transforms have them."""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from anomaly_gan.errors import UserError
from anomaly_gan.networks.blocks import FeatureMap, centred
from anomaly_gan.networks.dropout import Dropout
from anomaly_gan.precision import in_full_precision
from anomaly_gan.randomness import RowRng
from anomaly_gan.types import Images

POOL = 8
"""Side of the windows that the last feature map is averaged over: at 32 pixels the whole map."""


class Classified(NamedTuple):
    """What the network says of a batch."""

    logits: Float[Tensor, "batch classes"]
    """One for each class."""
    features: Float[Tensor, "batch feature"]
    """The averaged last feature map, which the logits are a linear function of."""


class WideResNet(nn.Module):
    """WRN-`depth`-`widen_factor`: three groups of pre-activation blocks; the last two halve the side.

    The last feature map, of a quarter of the side, is averaged over windows of 8x8, as in the released code:
    images of 64 pixels give four averages for each channel. Where these would leave a part of it out, windows
    are larger, down to a single one. Images below 32 pixels, which the released code does not take, give one
    average. WRN-10-4 at 32 pixels, 3 channels and 72 classes has 1.2 million
    parameters and 256 features.

    Geom's is Keras': weights of convolutions start from N(0, 2 / fan_in), and a convolution that halves the
    side is padded at the bottom and right only. The others have N(0, 2 / fan_out) and pad on all sides. The
    weights of the linear layer start from +-1 / sqrt(fan_in), uniformly.

    Args:
        image_size: side of the images in pixels, a multiple of 4.
        channels: 1 or 3.
        classes: how many are told apart.
        depth: 6 n + 4, for n blocks a group.
        widen_factor: k; the groups have 16 k, 32 k and 64 k channels.
        dropout: rate of the dropout inside of each block, in [0, 1).
        keras: whether convolutions start and are padded as in Geom's released code.

    Raises:
        UserError: another side, depth, factor or rate.
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        classes: int,
        depth: int = 10,
        widen_factor: int = 4,
        dropout: float = 0.0,
        keras: bool = True,
    ):
        if image_size < 4 or image_size % 4:
            raise UserError(f"image_size={image_size}: a wide ResNet needs a multiple of 4")
        if depth < 10 or depth % 6 != 4:
            raise UserError(f"depth={depth}: a wide ResNet has 10, 16, 22, ... layers")
        if widen_factor < 1:
            raise UserError(f"widen_factor={widen_factor} must be 1 or more")
        if not 0 <= dropout < 1:
            raise UserError(f"dropout={dropout} must be in [0, 1)")
        super().__init__()
        widths = [16, 16 * widen_factor, 32 * widen_factor, 64 * widen_factor]
        self.stem = _conv(channels, widths[0], 3)
        self.blocks = nn.ModuleList(
            _Block(inputs if first else outputs, outputs, stride if first else 1, dropout)
            for (inputs, outputs), stride in zip(pairwise(widths), (1, 2, 2), strict=True)
            for first in (True, *(False,) * (depth // 6 - 1))
        )
        if not keras:
            _as_in_torch(self)
        self.norm = nn.BatchNorm2d(widths[-1])
        places = image_size // 4
        self.pool = next(side for side in range(min(POOL, places), places + 1) if places % side == 0)
        if self.pool > POOL:  # files from before would load, with scores that their threshold is not of
            self.register_buffer("window", torch.tensor(self.pool))
        self.head = nn.Linear(widths[-1] * (places // self.pool) ** 2, classes)
        bound = self.head.in_features**-0.5
        nn.init.uniform_(self.head.weight, -bound, bound)
        nn.init.zeros_(self.head.bias)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Images, rng: RowRng | None = None) -> Classified:
        """[B, C, H, H] in [0, 1] -> logits [B, classes] and features [B, D].

        `rng` is what dropout draws from: the iteration's, on the images' device. It is needed in training
        where there is dropout, and nowhere else.
        """
        x = self.stem(centred(images))
        for block in self.blocks:
            x = block(x, rng)
        features = F.avg_pool2d(self.norm(x).relu(), self.pool).flatten(1)
        return self._classified(features)

    @in_full_precision
    def _classified(self, features: Float[Tensor, "batch feature"]) -> Classified:
        """It costs next to nothing, and scores are made of it: never in half precision."""
        return Classified(self.head(features), features)


class _Block(nn.Module):
    """BN-ReLU-conv3-BN-ReLU-dropout-conv3; beside it the input, or conv1 of the first ReLU.

    Args:
        inputs, outputs: channels; where they differ, the shortcut is a convolution.
        stride: of the first convolution; 1 where the channels are the same.
        dropout: rate, in [0, 1).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float):
        super().__init__()
        self.first_norm, self.second_norm = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.first, self.second = _conv(inputs, outputs, 3, stride), _conv(outputs, outputs, 3)
        self.dropout = Dropout(dropout)
        self.shortcut = _conv(inputs, outputs, 1, stride) if inputs != outputs else None

    def forward(self, x: FeatureMap, rng: RowRng | None) -> FeatureMap:
        h = self.first_norm(x).relu()
        shortcut = x if self.shortcut is None else self.shortcut(h)
        h = self.second_norm(self.first(h)).relu()
        return self.second(self.dropout(h, rng)) + shortcut


class _Conv(nn.Conv2d):
    """A convolution whose padding is Keras' "same", for sides that are multiples of the stride.

    A padding of its own stays as it is.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size == (3, 3) and self.padding == (0, 0):
            x = F.pad(x, (0, 1, 0, 1))
        return super().forward(x)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> _Conv:
    layer = _Conv(inputs, outputs, kernel, stride, padding=kernel // 2 if stride == 1 else 0, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
    return layer


def _as_in_torch(network: nn.Module) -> None:
    """Convolutions as the released codes in torch have them: N(0, 2 / fan_out), padded on all sides."""
    for layer in network.modules():
        if isinstance(layer, _Conv):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            layer.padding = tuple(size // 2 for size in layer.kernel_size)
