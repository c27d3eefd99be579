"""Rot+Trans's views, losses and score against naive loops; training and scoring mean the same by a shift."""

import copy
from itertools import product

import numpy as np
import pytest
import torch
from shipped import method_of, step_of

from anomaly_gan.methods.rot_trans import RotTrans, classification
from anomaly_gan.scoring.rot_trans import HEADS, RotTransScore


def make(*overrides: str, channels: int = 1, side: int = 16) -> RotTrans:
    method = method_of("rot_trans", "width=16", *overrides, channels=channels, side=side)
    assert isinstance(method, RotTrans)
    return method


def moved(image: np.ndarray, rows: int, columns: int, turns: int) -> np.ndarray:
    """[C, H, H], first moved by quarters of the side down and to the right, then turned; REFLECT_101."""
    side = image.shape[1]
    half = side // 2
    padded = np.pad(image, ((0, 0), (half, half), (half, half)), mode="reflect")
    top, left = half - rows * (side // 4), half - columns * (side // 4)
    return np.rot90(padded[:, top : top + side, left : left + side], turns, (1, 2))


@pytest.mark.parametrize("side", [16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_said_of_a_view_is_what_was_done_to_it(side: int, channels: int) -> None:
    method = make(channels=channels, side=side)
    step = step_of(method, torch.rand(6, channels, side, side))
    views, done = step.views()
    assert views.shape == (24, channels, side, side)
    for place, (turns, image) in enumerate(product(range(4), step.images.numpy())):
        rows, columns, rotation = done[place].tolist()
        assert rotation == turns
        assert done[place % 6, :2].tolist() == [rows, columns]  # all four rotations of one moved image
        expected = moved(image, (0, 1, -1)[rows], (0, 1, -1)[columns], turns)
        assert np.array_equal(views[place].numpy(), expected)


def test_the_scorer_means_the_same_by_a_transform_as_the_training() -> None:
    method = make()
    assert method.scorer.shifts is method.shifts
    step = step_of(method, torch.rand(40, 1, 16, 16))
    views, done = step.views()
    of_scorer = method.shifts(step.images).view(36, 40, 1, 16, 16)
    right = method.shifts.places()[:, 1:]
    for place in range(160):
        (shift,) = (right == done[place]).all(1).nonzero().flatten().tolist()
        assert torch.equal(of_scorer[shift, place % 40], views[place])


def test_each_image_is_flipped_half_of_the_time_and_moved_in_all_ways() -> None:
    method, images = make(), torch.rand(1, 1, 16, 16).expand(900, 1, 16, 16)
    step = step_of(method, images)
    flipped = (step.images == images.flip(3)).flatten(1).all(1)
    assert (flipped | (step.images == images).flatten(1).all(1)).all()
    assert flipped.float().mean().item() == pytest.approx(0.5, abs=4 * 0.5 / 30)
    counts = step.translations.bincount()
    assert len(counts) == 9
    assert (counts - 100).abs().max() < 4 * 10
    agree = flipped & (step.translations == 0)  # one does not hang on the other
    assert agree.sum().item() == pytest.approx(50, abs=4 * 7)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_loss_is_the_mean_of_the_three_heads_cross_entropies(channels: int) -> None:
    method = make("scoring.dropout=0.0", channels=channels).double().train()
    network = copy.deepcopy(method.networks["classifier"])  # batch norm over all views
    step = step_of(method, torch.rand(5, channels, 16, 16, dtype=torch.float64))
    found = classification(step)
    views, done = step.views()
    logits = network(views).logits
    parts = {"rows": logits[:, :3], "columns": logits[:, 3:6], "turns": logits[:, 6:]}
    for head, (name, of_head) in enumerate(parts.items()):
        losses = [
            -(row[right] - row.logsumexp(0)).item() for row, right in zip(of_head, done[:, head], strict=True)
        ]
        assert found[name].item() == pytest.approx(sum(losses) / 20)
    weights = method.phase_settings["classification"].weights
    assert weights == dict.fromkeys(HEADS, pytest.approx(1 / 3))


def test_dropout_is_drawn_from_the_iteration_alone() -> None:
    method = make().train()
    images = torch.rand(4, 1, 16, 16)
    state = method.state_dict()
    first, again, other = (classification(step_of(method, images, seed))["turns"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    without = make("scoring.dropout=0.0").train()
    without.load_state_dict(state)
    assert not torch.equal(first, classification(step_of(without, images))["turns"])
    assert not torch.equal(first, other)


def test_the_recipe_is_the_paper_s() -> None:
    method = method_of("rot_trans", side=32, channels=3)
    # WRN-16-4, counted by hand: two blocks a group, and ten classes.
    count, inputs = 27 * 16 + 2 * 256 + 257 * 10, 16
    for outputs in (64, 128, 256):
        count += 2 * inputs + 9 * inputs * outputs + 2 * outputs + 9 * outputs**2 + inputs * outputs
        count += 4 * outputs + 18 * outputs**2
        inputs = outputs
    assert sum(p.numel() for p in method.networks.parameters()) == count
    recipe = method.recipe("classification", "classifier")
    (group,) = recipe.optimizer(method.networks["classifier"].parameters()).param_groups
    assert (group["nesterov"], group["momentum"], group["weight_decay"]) == (True, 0.9, 5e-4)
    rates = [recipe.rate(progress) for progress in (0.0, 0.25, 0.5, 1.0)]
    # The released code ends at 1e-6.
    assert rates == pytest.approx([0.1, 0.0853553, 0.05, 0.0], abs=1e-6)
    assert {block.dropout.rate for block in method.networks["classifier"].blocks} == {0.3}


def sure(method: RotTrans) -> RotTransScore:
    """Its scorer, with probabilities worth telling apart."""
    with torch.no_grad():
        method.scorer.network.head.weight.mul_(5)
    return method.scorer


@pytest.mark.parametrize("side", [16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_score_is_that_of_the_loops(side: int, channels: int) -> None:
    scorer = sure(make(channels=channels, side=side))
    raw = torch.randint(256, (2, channels, side, side), dtype=torch.uint8)
    scorer.train()  # dropout is no part of the score
    found = scorer.scores(raw / 255)
    for place, image in enumerate((raw / 255).numpy()):
        expected = {"rows": 0.0, "columns": 0.0, "turns": 0.0}
        for (rows, down), (columns, right), turns in product(
            enumerate((0, 1, -1)), enumerate((0, 1, -1)), range(4)
        ):
            view = torch.from_numpy(moved(image, down, right, turns).copy())[None]
            logits = scorer.network(view).logits[0]
            expected["rows"] -= logits[:3].softmax(0)[rows].item()
            expected["columns"] -= logits[3:6].softmax(0)[columns].item()
            expected["turns"] -= logits[6:].softmax(0)[turns].item()
        for head, score in expected.items():
            assert found[head][place].item() == pytest.approx(score, rel=1e-4)
        assert found["rot_trans"][place].item() == pytest.approx(sum(expected.values()), rel=1e-4)
    torch.testing.assert_close(scorer(raw), found["rot_trans"])


def test_what_views_and_heads_add_is_the_score() -> None:
    scorer, images = sure(make()), torch.rand(3, 1, 16, 16)
    attribution = scorer.attribution(images, 3)
    assert {head: parts.shape for head, parts in attribution.per_shift.items()} == {
        "rows": (3, 36), "columns": (3, 36), "turns": (3, 36)
    }  # fmt: skip
    total = sum(parts.sum(1) for parts in attribution.per_shift.values())
    torch.testing.assert_close(total, scorer.scores(images)["rot_trans"])


def test_the_parts_are_named_and_the_small_network_has_the_reference_s_size() -> None:
    scorer = make(channels=3, side=32).scorer
    assert scorer.parts == ("rows", "columns", "turns")
    assert sum(p.numel() for p in scorer.network.parameters()) == 175_066
