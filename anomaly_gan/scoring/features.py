"""What scorers by the features of F share: contrastive learning trains it, and a generator may help."""

from anomaly_gan.errors import UserError
from anomaly_gan.networks.autoencoders import Family
from anomaly_gan.networks.feature_extractor import Body, FeatureExtractor
from anomaly_gan.networks.synthesis import Synthesis
from anomaly_gan.scoring.base import Precision, Scorer
from anomaly_gan.transforms.views import ShiftedViews


class FeatureScorer(Scorer):
    """Holds F, and G and E where they were trained.

    Args:
        image_size, channels, precision: see `Scorer`.
        width, embedding_size, body: of F.
        views: shifts, which F tells apart, and augmentation.
        networks: what E and G are made of.
        learns_side: side of the images that the networks learn from, pixels; None: whole pictures.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        precision: Precision,
        width: int,
        embedding_size: int,
        views: ShiftedViews,
        networks: Family,
        body: Body = "resnet18",
        learns_side: int | None = None,
    ):
        if embedding_size < 1:
            raise UserError(f"scoring.embedding_size={embedding_size} must be at least 1")
        super().__init__(image_size=image_size, channels=channels, precision=precision)
        self.views = views
        self.learns_side = learns_side or image_size
        shifts = views.shifts.count
        self.network = FeatureExtractor(self.learns_side, channels, width, shifts, embedding_size, body)
        self.synthesis = Synthesis(networks, self.learns_side, channels)
