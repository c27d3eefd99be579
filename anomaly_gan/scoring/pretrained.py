"""What scorers by the features of a network share that others have trained."""

from jaxtyping import Float
from torch import Tensor

from anomaly_gan.networks.backbone import Backbone
from anomaly_gan.scoring.base import Precision, Scorer
from anomaly_gan.types import Images


class BackboneScorer(Scorer):
    """A scorer with a backbone, whose weights are random until a method or a detector's file gives it others.

    Args:
        image_size, channels, precision: see `Scorer`.
        backbone, blocks, smallest_side: see `Backbone`.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        backbone: str,
        blocks: list[int],
        smallest_side: int,
        precision: Precision,
    ):
        super().__init__(image_size=image_size, channels=channels, precision=precision)
        self.backbone = Backbone(backbone, blocks, smallest_side)

    def feature_maps(self, images: Images) -> list[Float[Tensor, "batch _ _ _"]]:
        """Those of the backbone."""
        return self.backbone(images)
