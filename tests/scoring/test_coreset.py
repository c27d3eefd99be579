"""Farthest points: the greedy choice of the definition, exactly."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_gan.scoring import coreset


def naive(points: torch.Tensor, count: int) -> list[int]:
    """The definition: from the farthest of the mean, always the farthest from all chosen."""
    chosen = [int((points - points.mean(0)).norm(dim=1).argmax())]
    while len(chosen) < count:
        chosen.append(int(torch.cdist(points, points[chosen]).amin(dim=1).argmax()))
    return chosen


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), candidates=st.integers(1, 40), count=st.integers(1, 60))
def test_blocks_of_any_size_choose_what_the_definition_chooses(
    seed: int, candidates: int, count: int
) -> None:
    rng = torch.Generator().manual_seed(seed)
    points = torch.randn(60, 5, generator=rng, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coreset, "CANDIDATES", candidates)
        assert coreset.farthest_points(points, count).tolist() == naive(points, count)


def test_equal_points_are_chosen_once_each() -> None:
    points = torch.ones(7, 3)
    assert sorted(coreset.farthest_points(points, 7).tolist()) == list(range(7))


def test_points_far_from_the_origin_are_chosen_once_each() -> None:
    points = 1e4 + torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    assert len(set(coreset.farthest_points(points, 50).tolist())) == 50


def test_chosen_points_cover_all_others_better_than_drawn_ones() -> None:
    rng = torch.Generator().manual_seed(0)
    points = torch.randn(5000, 8, generator=rng) ** 3  # a few lie far out

    def radius(rows: torch.Tensor) -> float:
        return float(torch.cdist(points, points[rows]).amin(dim=1).max())

    chosen, drawn = coreset.farthest_points(points, 200), torch.randperm(5000, generator=rng)[:200]
    assert radius(chosen) < 0.5 * radius(drawn)
