"""The yardstick that needs no learning: distance of the pixels to the nearest normal image."""

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from anomaly_gan.errors import UserError
from anomaly_gan.scoring.raw_pixels import RawPixels


def normal_images() -> torch.Tensor:
    return torch.rand(20, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def unseen_images() -> torch.Tensor:
    return torch.rand(9, 1, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def fitted() -> RawPixels:
    scorer = RawPixels(image_size=16, channels=1)
    scorer.fit(normal_images().split(7))
    return scorer


def test_a_normal_image_seen_in_training_is_the_least_anomalous_by_raw_pixels(fitted) -> None:
    scores = fitted.score(torch.cat([normal_images()[:1], unseen_images()]))
    assert scores[0] < 1e-3
    assert scores[0] == scores.min()


def test_raw_pixels_is_the_distance_to_the_nearest_normal_image(fitted) -> None:
    neighbours = NearestNeighbors(n_neighbors=1).fit(normal_images().flatten(1).numpy())
    expected = neighbours.kneighbors(unseen_images().flatten(1).numpy())[0][:, 0]
    torch.testing.assert_close(fitted.score(unseen_images()), torch.from_numpy(expected).float())


def test_it_names_the_nearest_normal_images_by_their_distances_nearest_first(fitted) -> None:
    neighbours = NearestNeighbors(n_neighbors=3).fit(normal_images().flatten(1).numpy())
    distances, rows = neighbours.kneighbors(unseen_images().flatten(1).numpy())
    made_of = fitted.attribution(unseen_images(), 3)
    assert made_of.per_shift == made_of.typical == {}
    found = made_of.neighbours
    assert found.measure == "distance"
    assert found.row.tolist() == rows.tolist()
    torch.testing.assert_close(found.likeness, torch.from_numpy(distances).float(), rtol=1e-3, atol=1e-3)
    assert fitted.attribution(unseen_images(), 1000).neighbours.row.shape == (9, 20)  # as many as there are


def test_images_above_32_pixels_are_averaged_down_to_32() -> None:
    large = torch.rand(12, 3, 64, 64)
    small = torch.nn.functional.avg_pool2d(large, 2)
    of_large, of_small = RawPixels(image_size=64, channels=3), RawPixels(image_size=32, channels=3)
    of_large.fit([large[:8]])
    of_small.fit([small[:8]])
    torch.testing.assert_close(of_large.score(large[8:]), of_small.score(small[8:]))


def test_raw_pixels_make_no_pictures(fitted) -> None:
    assert not fitted.generates
    assert not fitted.reconstructs
    with pytest.raises(UserError, match="generates nothing"):
        fitted.generate(3, "test")
    with pytest.raises(UserError, match="reconstructs nothing"):
        fitted.reconstruct(unseen_images())
