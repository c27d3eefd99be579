"""Drawn defects are small, differ from image to image, and leave the rest as it is."""

import pytest
import torch

from anomaly_gan.errors import UserError
from anomaly_gan.randomness import RowRng, make_rng
from anomaly_gan.sharding import Shard
from anomaly_gan.transforms.crops import RandomCrops, windows
from anomaly_gan.transforms.defects import KINDS, Defects
from anomaly_gan.transforms.drawing import NUMBERS, Drawn
from anomaly_gan.transforms.unseen_defects import KINDS as UNSEEN

LARGEST = {"pasted": 0.16, "scarred": 0.06, "cracked": 0.08, "shaded": 1.0, "blotted": 0.9} | dict.fromkeys(
    ("smudged", "roughened", "twisted", "dented"), 0.8
)
"""Part of the image that a defect covers at most."""

LARGEST_UNSEEN = {"mirrored": 0.1, "faulted": 0.2, "exchanged": 0.14, "filled": 0.05} | dict.fromkeys(
    ("stretched", "blank"), 0.8
)
"""The same of those that no method learns from."""


@pytest.fixture
def images() -> torch.Tensor:
    return 0.3 + 0.4 * torch.rand(64, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def rng(shard: Shard | None = None) -> RowRng:
    return RowRng(make_rng("cpu", 0, "test"), shard)


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_is_seen_in_every_image_and_covers_no_more_than_its_part(
    images: torch.Tensor, kind: str
) -> None:
    before, after = Defects([kind]).drawn(images, rng()).chunk(2)
    assert torch.equal(before, images)  # shift 0 is the identity
    changed = (after - images).abs().amax(dim=1) > 1e-3
    part = changed.float().mean(dim=(1, 2))
    assert (part > 0).all()
    assert part.max() <= LARGEST[kind]
    assert part.std() > 0.1 * part.mean()  # no two images have the same


@pytest.mark.parametrize("kind", UNSEEN)
def test_a_defect_that_no_method_learns_from_is_one_as_well(images: torch.Tensor, kind: str) -> None:
    after = UNSEEN[kind](images, Drawn(torch.rand(64, NUMBERS, generator=make_rng("cpu", 0, "test"))))
    part = ((after - images).abs().amax(dim=1) > 1e-3).float().mean(dim=(1, 2))
    assert (part > 0).all()
    assert part.max() <= LARGEST_UNSEEN[kind]
    assert part.std() > 0.1 * part.mean()


def test_what_is_mirrored_exchanged_or_moved_comes_from_the_same_image(images: torch.Tensor) -> None:
    """Of an image whose pixels are numbered, every changed one is another's value or between two."""
    ramp = torch.arange(48 * 48, dtype=torch.float64).view(1, 1, 48, 48) / 48**2
    numbers = torch.rand(40, NUMBERS, generator=make_rng("cpu", 0, "test"), dtype=torch.float64)
    for kind in ("mirrored", "exchanged", "faulted"):
        made = UNSEEN[kind](ramp.expand(40, -1, -1, -1), Drawn(numbers))
        assert made.min() >= 0
        assert made.max() <= ramp.max()
    swapped = UNSEEN["exchanged"](ramp.expand(40, -1, -1, -1), Drawn(numbers))
    assert (swapped - ramp).sum(dim=(1, 2, 3)).abs().median() < 0.5  # what left one place is in the other


def test_no_method_learns_from_what_it_is_validated_by() -> None:
    assert not set(KINDS.values()) & set(UNSEEN.values())
    assert not KINDS.keys() & UNSEEN.keys()


def test_all_is_in_range_and_the_gradient_comes_back(images: torch.Tensor) -> None:
    shifts = Defects(list(KINDS))
    seen = images.requires_grad_()
    views = shifts.drawn(seen, rng())
    assert views.shape == (64 * shifts.count, 3, 48, 48)
    assert views.min() >= 0
    assert views.max() <= 1
    views.sum().backward()
    assert seen.grad is not None
    assert (seen.grad != 0).float().mean() > 0.9


def test_two_processes_draw_what_one_would(images: torch.Tensor) -> None:
    """By row: the views of the second half of a batch, drawn by the process that has it."""
    whole = Defects(list(KINDS)).drawn(images, rng()).unflatten(0, (-1, 64))
    second = Shard(64, process=1, processes=2)
    part = Defects(list(KINDS)).drawn(images[32:], rng(second)).unflatten(0, (-1, 32))
    torch.testing.assert_close(part, whole[:, 32:])


def test_for_a_score_all_images_get_the_same_defects(images: torch.Tensor) -> None:
    """So that a view does not depend on what else is in the batch."""
    shifts = Defects(list(KINDS))
    whole = shifts(images).unflatten(0, (-1, 64))
    one = shifts(images[7:8])
    torch.testing.assert_close(one, whole[:, 7])


def test_no_defect_takes_more_numbers_than_there_are(images: torch.Tensor) -> None:
    for make in [*KINDS.values(), *UNSEEN.values()]:
        make(images, Drawn(torch.rand(64, NUMBERS)))  # StopIteration otherwise


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(UserError, match="scard"):
        Defects(["scard"])


def test_crops_are_parts_of_their_pictures_everywhere(images: torch.Tensor) -> None:
    numbered = torch.arange(48 * 48, dtype=torch.float32).view(1, 1, 48, 48).expand(4000, -1, -1, -1)
    crops = RandomCrops(40)(numbered, RowRng(make_rng("cpu", 0, "crops")))
    corner = crops[:, 0, 0, 0].long()
    assert {(int(c) // 48, int(c) % 48) for c in corner} == {(y, x) for y in range(9) for x in range(9)}
    steps = crops[:, 0] - crops[:, 0, :1, :1]
    assert torch.equal(steps, (48 * torch.arange(40.0)[:, None] + torch.arange(40.0)).expand(4000, -1, -1))


def test_windows_go_on_at_the_other_edge(images: torch.Tensor) -> None:
    moved = windows(images, 48, torch.tensor([[5, 11]]).expand(64, -1))
    assert torch.equal(moved, images.roll((-5, -11), dims=(2, 3)))


def test_a_picture_smaller_than_its_crops_is_refused(images: torch.Tensor) -> None:
    with pytest.raises(UserError, match=r"method.crops.side=49 is more than the pictures have \(48 pixels\)"):
        RandomCrops(49)(images, rng())
