"""Deep SVDD's input and score against naive loops."""

import numpy as np
import pytest
import torch

from anomaly_gan.scoring.distance import CentreDistance, contrast_normalised, squared_distance


def make(side: int = 16, channels: int = 1) -> CentreDistance:
    torch.manual_seed(1)
    return CentreDistance(
        image_size=side, channels=channels, width=16, embedding_size=16, precision="32-true"
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_the_contrast_of_each_image_is_normalised_over_all_its_channels(channels: int) -> None:
    images = torch.rand(5, channels, 16, 16, dtype=torch.float64)
    found = contrast_normalised(images)
    for image, ours in zip(images.numpy(), found.numpy(), strict=True):
        deviations = image - image.mean()
        np.testing.assert_allclose(ours, deviations / np.abs(deviations).mean(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(contrast_normalised(images * 0.3 + 0.2), found)  # light does not matter


def test_an_image_without_contrast_is_0_everywhere() -> None:
    every_grey = (torch.arange(256) / 255).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    assert torch.equal(contrast_normalised(every_grey), torch.zeros(256, 3, 32, 32))


def test_noise_below_a_grey_level_is_not_made_large() -> None:
    hot = torch.zeros(1, 3, 32, 32)
    hot[0, 0, 5, 5] = 1 / 255
    assert contrast_normalised(hot).max() < 1.01


def test_one_range_holds_for_all_channels_and_nothing_is_clipped() -> None:
    scorer, images = make(channels=3), torch.rand(6, 3, 16, 16)
    scorer.low, scorer.high = torch.tensor(-0.5), torch.tensor(1.5)
    found = scorer.prepared(images)
    torch.testing.assert_close(found, (contrast_normalised(images) + 0.5) / 2)
    assert found.min() < 0
    assert found.max() > 1


def test_the_score_is_the_squared_distance_to_the_centre() -> None:
    embeddings, centre = torch.randn(7, 5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    found = squared_distance(embeddings, centre)
    for row, score in zip(embeddings.tolist(), found.tolist(), strict=True):
        expected = sum((a - b) ** 2 for a, b in zip(row, centre.tolist(), strict=True))
        assert score == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("side", [16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_scored_by_the_network_in_evaluation_mode(side: int, channels: int) -> None:
    scorer = make(side, channels)
    scorer.centre = torch.randn(16)
    raw = torch.randint(256, (4, channels, side, side), dtype=torch.uint8)
    scorer.train()
    found = scorer.scores(raw / 255)["deep_svdd"]
    embeddings = scorer.network.eval()(scorer.prepared(raw / 255))
    torch.testing.assert_close(found, (embeddings - scorer.centre).square().sum(1))
    torch.testing.assert_close(scorer(raw), found)
