"""What the scores that are distances of F's features have in common."""

import pytest
import torch

pytestmark = pytest.mark.parametrize("score", ["hellinger", "whitened"])

NEAREST = {"hellinger": (1.0, 1e-4), "whitened": (0.0, 0.05)}
"""How near an image is to itself: an overlap, a distance; and the rounding error of each."""


def images(seed: int, count: int) -> torch.Tensor:
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_without_an_ensemble_it_ranks_by_the_image_alone(make_scorer, score: str) -> None:
    scorer = make_scorer(primary=score, ensemble=0)
    scorer.fit([images(1, 20)])
    assert scorer.primary == score
    assert scorer.score(images(2, 9)).shape == (9,)


def test_what_is_left_for_an_export_gives_the_same_score(make_scorer, score: str) -> None:
    scorer, raw = make_scorer(primary=score), (images(2, 9) * 255).to(torch.uint8)
    scorer.fit([images(1, 20)])
    expected = scorer.score(raw / 255)
    scorer.keep_primary_alone()
    torch.testing.assert_close(scorer.eval()(raw), expected, rtol=1e-4, atol=1e-5)


def test_its_parts_by_shift_add_up_and_its_neighbours_are_those_of_the_features(
    make_scorer, score: str
) -> None:
    scorer, normal = make_scorer(primary=score), images(1, 20)
    scorer.fit([normal])
    asked = torch.cat([images(2, 3), normal[4:5]])
    found = scorer.attribution(asked, neighbours=2)
    total = sum(part.sum(dim=1) for part in found.per_shift.values())
    torch.testing.assert_close(total, scorer.score(asked), rtol=1e-4, atol=1e-5)
    nearest, rounding = NEAREST[score]
    assert found.neighbours.row[3, 0] == 4
    assert found.neighbours.likeness[3, 0] == pytest.approx(nearest, abs=rounding)
