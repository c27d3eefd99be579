"""The whitened distance of features of two depths, and the score that it makes."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from anomaly_gan.errors import UserError
from anomaly_gan.scoring import whitened as module
from anomaly_gan.scoring.hellinger import roots
from anomaly_gan.scoring.whitened import (
    described,
    distance,
    nearest_rows,
    typical_distance,
    whitened,
    whitening,
)


def images(seed: int, count: int) -> torch.Tensor:
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def features(count: int, of: int = 6, shifts: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(of, of, generator=generator, dtype=torch.float64)
    return torch.randn(count, shifts, of, generator=generator, dtype=torch.float64) @ mixed + 3


@pytest.mark.parametrize("components", [6, 4])
def test_components_are_those_of_a_principal_component_analysis_over_their_shrunk_deviations(
    components: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPONENTS", components)
    normal, queries = features(40), features(5, seed=1)
    found = whitened(queries, whitening(normal))
    for shift in range(2):
        analysis = PCA().fit(normal[:, shift].numpy())
        variances = analysis.explained_variance_ * 39 / 40  # over N, not N - 1
        expected = analysis.transform(queries[:, shift].numpy()) / np.sqrt(variances + variances.mean())
        # scikit-learn has the largest first, and either may turn a component round.
        np.testing.assert_allclose(
            np.abs(found[:, shift, :-1].numpy()),
            np.abs(expected[:, :components][:, ::-1]),
            rtol=1e-6,
            atol=1e-8,
        )
        outside = analysis.transform(queries[:, shift].numpy())[:, components:] / np.sqrt(variances.mean())
        np.testing.assert_allclose(
            found[:, shift, -1].numpy(), np.linalg.norm(outside, axis=1), rtol=1e-6, atol=1e-6
        )


def test_fewer_normal_images_than_features_give_the_same_in_any_order() -> None:
    # Directions in which they do not differ have no order: which are taken must not be left to rounding.
    normal, queries = features(5, of=40), features(9, of=40, seed=1)
    found = []
    for order in (torch.arange(5), torch.tensor([3, 0, 4, 1, 2])):
        by = whitening(normal[order])
        found.append(distance(whitened(queries, by), whitened(normal[order], by), 8))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_it_is_the_distance_to_the_nearest_row(chunk: int) -> None:
    queries, rows = features(5, seed=1), features(7)
    found = distance(queries, rows, chunk)
    for shift in range(2):
        expected = torch.cdist(queries[:, shift], rows[:, shift]).amin(dim=1)
        torch.testing.assert_close(found[:, shift], expected)


def test_it_is_exactly_0_of_a_row_itself_far_from_the_origin() -> None:
    rows = features(30).float() + 100
    assert not distance(rows, rows, 8).any()


def test_few_normal_images_and_such_as_are_all_alike_give_finite_distances() -> None:
    for normal in (features(2), features(1).expand(9, -1, -1), torch.zeros(4, 2, 6, dtype=torch.float64)):
        by = whitening(normal)
        found = distance(whitened(features(5, seed=1), by), whitened(normal, by), 8)
        assert found.isfinite().all()


def test_both_depths_count_alike_whatever_their_scale() -> None:
    middle, last = torch.rand(3, 2, 4), torch.rand(3, 2, 8)
    found = described(middle, last)
    torch.testing.assert_close(found, described(100 * middle, 0.01 * last), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[..., :8].norm(dim=-1), torch.ones(3, 2))
    torch.testing.assert_close(found[..., 8:].norm(dim=-1), torch.ones(3, 2))


def test_the_nearest_rows_are_those_of_the_smallest_distance_over_all_shifts() -> None:
    queries, rows = features(4, seed=1), features(9)
    likeness, row = nearest_rows(queries, rows, 3)
    each = (queries[:, None] - rows[None]).square().sum(dim=3).mean(dim=2).sqrt()
    assert row.tolist() == each.argsort(dim=1)[:, :3].tolist()
    torch.testing.assert_close(likeness, each.sort(dim=1).values[:, :3])


@pytest.mark.parametrize("count", [2, 30, 120])
def test_what_is_typical_is_the_distance_of_normal_images_from_each_other(count: int) -> None:
    rows = features(count)
    found = typical_distance(rows)
    some = range(0, count, max(1, count // 50))
    for shift in range(2):
        nearest = [
            min((rows[i, shift] - rows[j, shift]).norm() for j in range(count) if j != i) for i in some
        ]
        torch.testing.assert_close(found[shift], torch.stack(nearest).median())
    assert not typical_distance(rows[:1]).any()


@pytest.mark.parametrize("body", ["resnet18", "vgg7"])
def test_it_ranks_by_the_mean_over_the_image_as_it_is_and_under_draws_of_t(make_scorer, body: str) -> None:
    scorer = make_scorer(primary="whitened", body=body)
    scorer.fit(images(1, 20).split(7))
    scores = scorer.scores(images(2, 9))
    assert scorer.primary == "whitened_all"
    torch.testing.assert_close(scores["whitened_all"], (scores["whitened"] + scores["whitened_ens"]) / 2)
    assert not torch.allclose(scores["whitened"], scores["whitened_ens"])
    for form, suffix in (("plain", ""), ("ensemble", "_ens")):
        normal, seen = (scorer.embed(images(*which), form) for which in ((1, 20), (2, 9)))
        of_both = [torch.cat([roots(x.penultimate), roots(x.middle)], dim=-1) for x in (normal, seen)]
        by = whitening(of_both[0])
        rows, queries = (whitened(x, by) for x in of_both)
        expected = torch.cdist(queries.transpose(0, 1), rows.transpose(0, 1)).amin(dim=2).mean(dim=0)
        torch.testing.assert_close(scores["whitened" + suffix], expected, rtol=1e-3, atol=1e-3)


def test_a_loaded_state_scores_to_the_bit_and_one_of_another_score_is_refused(make_scorer) -> None:
    mine, again = make_scorer(primary="whitened"), make_scorer(primary="whitened")
    mine.fit([images(1, 20)])
    again.load_state_dict(mine.state_dict())
    assert torch.equal(again.score(images(2, 9)), mine.score(images(2, 9)))
    other = make_scorer(primary="hellinger")
    other.fit([images(1, 20)])
    with pytest.raises(UserError, match="keeps no features to compare; train with score=whitened"):
        make_scorer(primary="whitened").load_state_dict(other.state_dict())
