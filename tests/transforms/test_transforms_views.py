import pytest
import torch

from anomaly_gan.randomness import RowRng
from anomaly_gan.transforms.augment import Augment
from anomaly_gan.transforms.shifts import Rotations
from anomaly_gan.transforms.views import ShiftedViews

NEUTRAL = Augment(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), jitter_probability=0.0, gray_probability=0.0)


def generator(seed: int = 0) -> RowRng:
    return RowRng(torch.Generator().manual_seed(seed))


def make_views(augment: Augment | None = None) -> ShiftedViews:
    return ShiftedViews(shifts=Rotations(), augment=augment or Augment())


def ensemble(views: ShiftedViews, images: torch.Tensor, draw: int, seed: int) -> torch.Tensor:
    return views.drawn(images, views.scoring_draw(draw, seed))


def test_training_views_are_flip_then_shift_for_two_views_in_shift_major_order():
    batch, images = 200, torch.rand(200, 3, 8, 8)
    views = make_views(NEUTRAL).training(images, generator()).view(2, 4, batch, 3, 8, 8)
    flipped = torch.empty(2, batch, dtype=torch.bool)
    for view in range(2):
        for n in range(batch):
            flipped[view, n] = not torch.allclose(views[view, 0, n], images[n], atol=1e-5)
            source = images[n].flip(2) if flipped[view, n] else images[n]
            for k in range(4):  # one flip serves all shifts of an image
                expected = source.rot90(k, (1, 2))
                torch.testing.assert_close(views[view, k, n], expected, atol=1e-5, rtol=0)
    # Half of them, and not the same ones in both views.
    assert flipped.double().mean().item() == pytest.approx(0.5, abs=0.1)
    assert (flipped[0] == flipped[1]).double().mean().item() == pytest.approx(0.5, abs=0.15)


def test_training_augments_every_view_on_its_own():
    image = torch.rand(1, 3, 16, 16)
    views = make_views().training(image.repeat(3, 1, 1, 1), generator())
    assert len(torch.unique(views.flatten(1), dim=0)) == 2 * 4 * 3


def test_training_views_repeat_under_a_seed():
    images = torch.rand(3, 3, 16, 16)
    first, again, other = (make_views().training(images, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_labels_name_the_shift_of_each_row():
    labels = make_views().training_labels(3, "cpu")
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3] * 2
    assert labels.dtype == torch.int64


def test_gradient_reaches_every_image_through_training_views():
    images = torch.rand(4, 3, 16, 16, requires_grad=True)
    make_views().training(images, generator()).square().sum().backward()
    assert images.grad.isfinite().all()
    assert (images.grad.abs().amax((1, 2, 3)) > 0).all()


def test_plain_views_are_the_shifts_alone():
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(make_views().plain(images), Rotations()(images))


@pytest.mark.parametrize("channels", [1, 3])
def test_scoring_views_of_an_image_do_not_depend_on_the_batch(channels):
    views, images = make_views(Augment(blur=True)), torch.rand(7, channels, 24, 24)
    for draw in range(3):
        whole = ensemble(views, images, draw, seed=5).unflatten(0, (4, 7))
        for part in ([0], [6], [2, 3, 4], [5, 1], [0, 1, 2, 3, 4, 5]):
            alone = ensemble(views, images[part], draw, seed=5).unflatten(0, (4, len(part)))
            torch.testing.assert_close(alone, whole[:, part], atol=1e-6, rtol=0)


def test_the_first_scoring_draw_is_the_middle_of_t():
    images = torch.rand(2, 3, 24, 24)
    views = ensemble(
        ShiftedViews(Rotations(), Augment(blur=True), scoring_crop_scale=0.25), images, 0, seed=0
    )
    middle = torch.nn.functional.interpolate(images[:, :, 5:19, 5:19], size=28, mode="bilinear")[
        :, :, 2:26, 2:26
    ]
    torch.testing.assert_close(views, Rotations()(middle), atol=1e-5, rtol=0)
    assert torch.equal(views, ensemble(make_views_at(0.25), images, 0, seed=1))


def make_views_at(scale: float) -> ShiftedViews:
    return ShiftedViews(Rotations(), Augment(), scoring_crop_scale=scale)


def test_scoring_views_take_one_transformation_per_shift():
    image, other = torch.rand(2, 3, 24, 24)
    views = ensemble(make_views(), torch.stack([image, other, image]), draw=1, seed=0).unflatten(0, (4, 3))
    assert torch.equal(views[:, 0], views[:, 2])
    unturned = torch.stack([views[k, 0].rot90(-k, (1, 2)) for k in range(4)])
    assert len(torch.unique(unturned.flatten(1), dim=0)) == 4


def test_scoring_draws_differ_by_number_and_by_seed_and_repeat():
    views, images = make_views(), torch.rand(2, 3, 16, 16)
    results = [ensemble(views, images, draw, seed) for draw, seed in ((1, 0), (2, 0), (1, 1))]
    assert torch.equal(ensemble(views, images, 1, 0), results[0])
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(results[a], results[b])


def test_scoring_views_flip_half_of_the_shifts():
    # A ramp from left to right under shift 0 alone: its direction tells the flip.
    ramp = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
    views = make_views(NEUTRAL)
    falling = [
        bool(view[0, 0, 0] > view[0, 0, -1])
        for view in (ensemble(views, ramp, draw, seed=0)[0:1, 0] for draw in range(1, 101))
    ]
    assert 30 < sum(falling) < 70


def test_scoring_crops_have_the_fixed_area():
    # Under two ramps the result's slopes are the window's sides.
    side = 64
    ramp = (torch.arange(side) + 0.5) / side
    images = torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side)])[:, None]
    views = ShiftedViews(shifts=Rotations(), augment=NEUTRAL, scoring_crop_scale=0.54)
    for draw in range(10):
        across, down = ensemble(views, images, draw, seed=0)[:2, 0]
        middle = slice(side // 4, side // 2)
        width = across[:, middle].diff(dim=1).mean().abs() * side
        height = down[middle].diff(dim=0).mean().abs() * side
        assert (width * height).item() == pytest.approx(0.54, abs=0.02)
