"""GOAD's centres and score against naive loops over images and transforms."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from anomaly_gan.scoring.goad import GOADScore
from anomaly_gan.transforms.geometric import Geometric


def make(side: int = 16, channels: int = 1, **changes: Any) -> GOADScore:
    torch.manual_seed(1)
    settings = {"depth": 10, "width": 16, "chunk": 20, "precision": "32-true"} | changes
    shifts = settings.pop("shifts", Geometric(translations=False))
    scorer = GOADScore(image_size=side, channels=channels, shifts=shifts, **settings)
    with torch.no_grad():  # as after some training: distances worth telling apart
        for parameter in scorer.network.norm.parameters():
            parameter.add_(torch.rand_like(parameter))
    return scorer


def views(scorer: GOADScore, image: Tensor) -> Tensor:
    """One image under each transform, one at a time."""
    return torch.cat([
        scorer.shifts.single(image[None], torch.tensor([shift])) for shift in range(scorer.shifts.count)
    ])  # fmt: skip


def features(scorer: GOADScore, image: Tensor) -> Tensor:
    """[K, D], in evaluation mode."""
    return scorer.network.eval()(views(scorer, image)).features


@pytest.mark.parametrize("translations", [False, True])
def test_a_centre_is_the_mean_feature_of_the_normal_images_under_its_transform(translations: bool) -> None:
    scorer = make(shifts=Geometric(translations=translations))
    normal = list(torch.rand(7, 1, 16, 16).split(3))  # batches, not all of one length
    scorer.train()
    scorer.fit(normal)
    of_all = [features(scorer, image).double() for image in torch.cat(normal)]
    expected = sum(of_all) / len(of_all)
    assert expected.shape == (72 if translations else 8, 64)
    torch.testing.assert_close(scorer.centres.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_score_is_that_of_the_paper(side: int, channels: int) -> None:
    scorer = make(side, channels)
    scorer.fit([torch.rand(5, channels, side, side)])
    raw = torch.randint(256, (3, channels, side, side), dtype=torch.uint8)
    found = scorer.scores(raw / 255)["goad"]
    centres = scorer.centres.double()
    with torch.no_grad():
        for image, score in zip(raw / 255, found, strict=True):
            expected = 0.0
            for m, z in enumerate(features(scorer, image).double()):
                distances = [((z - centre) ** 2).sum().item() for centre in centres]
                probability = math.exp(-distances[m]) / sum(math.exp(-d) for d in distances)
                expected -= math.log(probability)
            assert score.item() == pytest.approx(expected, rel=1e-3)
        torch.testing.assert_close(scorer(raw), found, rtol=1e-4, atol=1e-4)


def test_what_the_transforms_add_is_the_score() -> None:
    scorer, images = make(), torch.rand(5, 1, 16, 16)
    scorer.fit([images])
    attribution = scorer.attribution(images, 3)
    torch.testing.assert_close(attribution.per_shift["goad"].sum(1), scorer.scores(images)["goad"])


def test_the_published_network_has_256_features_and_the_small_one_the_reference_s_size() -> None:
    assert make(32, 3, width=64, shifts=Geometric()).centres.shape == (72, 256)
    assert sum(p.numel() for p in make(32, 3).network.parameters()) == 77_720
