"""One image, one decision, wherever it is asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly_gan import Detector
from anomaly_gan.data.image_set import in_memory
from anomaly_gan.evaluation import Scored, calibrate
from anomaly_gan.explanation import explain
from anomaly_gan.scoring.base import Scorer
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.types import ImageBatches, Images, Scores

COUNT = 24


class Rounds(Scorer):
    """Scores whose last places hang on how many images are scored at once, as sums in another order do."""

    primary = "score"

    def __init__(self, noise: float):
        super().__init__(image_size=16, channels=1)
        self.noise = noise
        self.register_buffer("place", torch.empty(0))

    def fit(self, normal: ImageBatches) -> None:
        """Nothing."""

    def scores(self, images: Images) -> dict[str, Scores]:
        """Brightness, and less than `noise` that depends on the batch."""
        sign = (-1) ** torch.arange(len(images))
        return {"score": images.mean(dim=(1, 2, 3)) + self.noise * sign / len(images)}


def held_out(scorer: Scorer, images: torch.Tensor) -> Scored:
    labels = torch.zeros(len(images), dtype=torch.int64)
    split = in_memory(images, labels, "train", torch.arange(len(images)))
    scores = {name: values.double().numpy() for name, values in scorer.scores(to_float(images)).items()}
    return Scored("held-out", split, scores, labels.numpy(), labels.numpy() > 0, 1.0)


@pytest.fixture(params=["trained", "float32", "bfloat16"])
def case(request: pytest.FixtureRequest, trained: Path) -> tuple[Scorer, torch.Tensor]:
    images = torch.randint(0, 128, (COUNT, 1, 16, 16), dtype=torch.uint8)
    images += torch.arange(0, 5 * COUNT, 5, dtype=torch.uint8)[torch.randperm(COUNT), None, None, None]
    if request.param == "trained":
        return Detector.load(trained).scorer, images
    return Rounds({"float32": 1e-7, "bfloat16": 1e-4}[request.param]), images


@pytest.mark.parametrize("size", [1, 2, 7, COUNT])
def test_a_held_out_image_is_decided_alike_alone_in_any_batch_and_when_it_is_explained(
    case: tuple[Scorer, torch.Tensor], size: int
) -> None:
    scorer, images = case
    scored = held_out(scorer, images)
    calibration = calibrate(scorer, scored)
    higher = np.argsort(np.argsort(-scored.scores[scorer.primary]))  # how many images score higher
    again = torch.cat([scorer.score(to_float(batch)) for batch in images.split(size)]).double().numpy()
    for j in range(1, COUNT + 1):  # each of them is the threshold once
        threshold = calibration.threshold(scorer.primary, j / (COUNT + 1))
        assert np.array_equal(threshold.anomalous(again), higher < j - 1)
        assert np.array_equal(threshold.p_values(again) <= threshold.rate, higher < j - 1)
    highest = int(higher.argmin())
    smallest = calibration.threshold(scorer.primary, 1 / (COUNT + 1))
    (why,) = explain(scorer, images[[highest]], ["image"], smallest, None)
    assert why.anomalous is False
