"""OCGAN's input, score and pictures against naive loops."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anomaly_gan.scoring.reconstruction import ReconstructionError


def make(side: int = 16, channels: int = 1) -> ReconstructionError:
    torch.manual_seed(1)
    scorer = ReconstructionError(image_size=side, channels=channels, width=8, latent_size=6, seed=0)
    scorer.mean = torch.rand(channels, 61, 61) - 0.5
    return scorer


def enlarged(image: Tensor) -> np.ndarray:
    """[C, H, H] -> [C, 61, 61], bilinear between pixel centres."""
    side = image.shape[1]
    found = np.zeros((len(image), 61, 61))
    places = [min(max((i + 0.5) * side / 61 - 0.5, 0), side - 1) for i in range(61)]
    for (i, y), (j, x) in product(enumerate(places), repeat=2):
        top, left = min(int(y), side - 2), min(int(x), side - 2)
        window = image[:, top : top + 2, left : left + 2].numpy()
        rows = window[:, 0] * (1 - (y - top)) + window[:, 1] * (y - top)
        found[:, i, j] = rows[:, 0] * (1 - (x - left)) + rows[:, 1] * (x - left)
    return found


@pytest.mark.parametrize("side", [16, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_enlarged_to_61_pixels_in_minus_1_to_1_less_the_mean(side: int, channels: int) -> None:
    scorer, images = make(side, channels), torch.rand(2, channels, side, side)
    found = scorer.prepared(images)
    for image, ours in zip(images, found, strict=True):
        expected = 2 * enlarged(image) - 1 - scorer.mean.numpy()
        np.testing.assert_allclose(ours.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("side", [16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_score_is_the_mean_squared_error_of_what_is_made_of_the_clean_image(
    side: int, channels: int
) -> None:
    scorer = make(side, channels)
    raw = torch.randint(256, (3, channels, side, side), dtype=torch.uint8)
    scorer.train()  # neither dropout nor batch statistics are part of the score
    found = scorer.scores(raw / 255)["ocgan"]
    with torch.no_grad():
        prepared = scorer.prepared(raw / 255)
        made = scorer.decoder.eval()(scorer.encoder.eval()(prepared))
        for image, other, score in zip(prepared.tolist(), made.tolist(), found.tolist(), strict=True):
            squares = [
                (a - b) ** 2
                for plane, of_other in zip(image, other, strict=True)
                for row, of_row in zip(plane, of_other, strict=True)
                for a, b in zip(row, of_row, strict=True)
            ]
            assert score == pytest.approx(sum(squares) / (channels * 61 * 61), rel=1e-4)
        torch.testing.assert_close(scorer(raw), found)


def test_what_is_made_is_shown_as_an_image_again() -> None:
    scorer, images = make(61, 3), torch.rand(2, 3, 61, 61)
    scorer.encoder = scorer.decoder = nn.Identity()  # that makes the image itself
    torch.testing.assert_close(scorer.reconstruct(images), images)
    assert scorer.scores(images)["ocgan"].abs().max() == 0


@pytest.mark.parametrize("side", [16, 64])
def test_pictures_have_the_images_size_and_come_again_for_the_same_purpose(side: int) -> None:
    scorer = make(side, 3)
    made = scorer.generate(5, "pictures")
    assert made.shape == (5, 3, side, side)
    assert made.min() >= 0
    assert made.max() <= 1
    assert torch.equal(scorer.generate(5, "pictures"), made)
    assert not torch.equal(scorer.generate(5, "other"), made)
    assert scorer.reconstruct(torch.rand(2, 3, side, side)).shape == (2, 3, side, side)
