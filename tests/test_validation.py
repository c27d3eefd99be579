"""Images pieced together from normal ones, and what they tell of a detector."""

import pytest
import torch

from anomaly_gan import validation
from anomaly_gan.data.digits import Digits
from anomaly_gan.evaluation import fit_scorer
from anomaly_gan.scoring.raw_pixels import RawPixels
from anomaly_gan.validation import KINDS, ORDERS, ROUNDS, mixed, shuffled, validate


def pictures(count: int = 16, side: int = 8) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_shuffled_images_have_every_quadrant_and_none_in_its_place() -> None:
    images = pictures()
    made = shuffled(images, torch.Generator().manual_seed(1))
    places = [(slice(y, y + 4), slice(x, x + 4)) for y in (0, 4) for x in (0, 4)]
    for image, of in zip(images, made, strict=True):
        before = [image[:, y, x] for y, x in places]
        after = [of[:, y, x] for y, x in places]
        order = tuple(next(i for i, b in enumerate(before) if torch.equal(a, b)) for a in after)
        assert order in ORDERS
        assert all(i != place for place, i in enumerate(order))


def test_shuffling_keeps_an_odd_last_row_and_column() -> None:
    images = torch.arange(2 * 3 * 5 * 7.0).view(2, 3, 5, 7)
    made = shuffled(images, torch.Generator().manual_seed(1))
    assert torch.equal(made[:, :, 4], images[:, :, 4])
    assert torch.equal(made[:, :, :, 6], images[:, :, :, 6])
    assert torch.equal(made.flatten(2).sort().values, images.flatten(2))


def test_mixed_images_have_a_quarter_to_a_half_of_another_in_its_place() -> None:
    images = pictures(side=64)
    made = mixed(images, torch.Generator().manual_seed(1))
    for row, (image, of) in enumerate(zip(images, made, strict=True)):
        changed = (image != of).any(0)
        assert 0.2 < changed.float().mean() < 0.55
        others = [other for i, other in enumerate(images) if i != row]
        assert any(torch.equal(of[:, changed], other[:, changed]) for other in others)


def test_the_same_generator_makes_the_same_images_and_leaves_the_inliers_alone() -> None:
    images = pictures()
    before = images.clone()
    for make in KINDS.values():
        again = [make(images, torch.Generator().manual_seed(2)) for _ in range(2)]
        assert torch.equal(*again)
    assert torch.equal(images, before)


def test_images_are_made_in_parts_that_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Digits(normal_class=3, batch_size=8, total_images=8, validation_fraction=0.3)
    data.setup()
    scorer = RawPixels(image_size=data.image_size, channels=data.channels)
    fit_scorer(scorer, data)
    whole = validate(scorer, data, seed=0)
    sizes = []

    def counted(images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        sizes.append(len(images))
        return shuffled(images, rng)

    monkeypatch.setitem(KINDS, "shuffled", counted)
    monkeypatch.setattr(validation, "LARGEST_PART", 10 * data.validation[[0]].images.nbytes * 4)
    parts = validate(scorer, data, seed=0)
    assert len(data.validation) == 33
    assert sizes == [9, 8, 8, 8] * ROUNDS
    assert parts["inliers"] == whole["inliers"] == 33
    assert parts["by_kind"] == pytest.approx(whole["by_kind"], abs=0.1)
