"""The Hellinger distance of penultimate features, and the score that it makes."""

import pytest
import torch

from anomaly_gan.errors import UserError
from anomaly_gan.scoring.hellinger import roots, squared_distance


def images(seed: int, count: int) -> torch.Tensor:
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def naive(query: torch.Tensor, row: torch.Tensor) -> float:
    """Half the summed squared difference of the roots of two distributions."""
    p, q = query / query.sum(), row / row.sum()
    return float(0.5 * (p.sqrt() - q.sqrt()).square().sum())


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_it_is_the_distance_of_two_distributions_to_the_nearest_row(chunk: int) -> None:
    queries, rows = torch.rand(4, 2, 6).double(), torch.rand(7, 2, 6).double()
    expected = [
        [min(naive(query[shift], row[shift]) for row in rows) for shift in range(2)] for query in queries
    ]
    found = squared_distance(roots(queries), roots(rows), chunk)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype), rtol=1e-5, atol=1e-6)


def test_it_is_0_of_a_row_itself_at_any_scale_and_1_of_what_shares_nothing_with_any() -> None:
    rows = torch.tensor([[[1.0, 2.0, 0.0]], [[3.0, 0.0, 0.0]]])
    queries = torch.tensor([[[10.0, 20.0, 0.0]], [[0.0, 0.0, 5.0]], [[0.0, 0.0, 0.0]]])
    found = squared_distance(roots(queries), roots(rows), 8).flatten()
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 1.0]), atol=1e-6, rtol=0)


def test_it_ranks_by_the_mean_over_the_image_as_it_is_and_under_draws_of_t(make_scorer) -> None:
    scorer = make_scorer(primary="hellinger")
    scorer.fit(images(1, 20).split(7))
    scores = scorer.scores(images(2, 9))
    both = (scores["hellinger"] + scores["hellinger_ens"]) / 2
    assert scorer.primary == "hellinger_all"
    torch.testing.assert_close(scores["hellinger_all"], both)
    assert not torch.allclose(scores["hellinger"], scores["hellinger_ens"])
    for form, suffix in (("plain", ""), ("ensemble", "_ens")):
        bank, seen = (roots(scorer.embed(images(*which), form).penultimate) for which in ((1, 20), (2, 9)))
        expected = 1 - torch.einsum("bkp,nkp->bnk", seen, bank).amax(dim=1).mean(dim=1)
        torch.testing.assert_close(scores["hellinger" + suffix], expected, rtol=1e-4, atol=1e-5)


def test_a_file_made_for_another_score_says_that_it_keeps_no_features(make_scorer) -> None:
    other = make_scorer(primary="csi")
    other.fit([images(1, 20)])
    with pytest.raises(UserError, match="keeps no features to compare; train with score=hellinger"):
        make_scorer(primary="hellinger").load_state_dict(other.state_dict())
    mine = make_scorer(primary="hellinger")
    mine.load_state_dict(make_scorer(primary="csi").state_dict())  # before either is fitted
    mine.fit([images(1, 20)])
    same = make_scorer(primary="csi")
    same.load_state_dict(mine.state_dict())
    assert "hellinger" in same.scores(images(2, 2))
