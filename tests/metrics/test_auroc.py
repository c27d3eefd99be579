"""AUROC against its definition, and the bootstrap against what it must cover."""

import numpy as np
import pytest

from anomaly_gan.metrics.auroc import auroc, bootstrap_interval


def test_auroc_is_the_share_of_pairs_in_the_right_order_ties_half() -> None:
    random = np.random.default_rng(0)
    scores = random.integers(0, 8, 60).astype(float)  # many ties
    anomalous = random.random(60) < 0.4
    pairs = [(a > n) + (a == n) / 2 for a in scores[anomalous] for n in scores[~anomalous]]
    assert auroc(scores, anomalous) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_auroc_takes_scores_outside_the_unit_interval_as_they_are() -> None:
    scores = np.array([20.0, 30.0, 25.0, 50.0])
    assert auroc(scores, np.array([False, False, True, True])) == 0.75


@pytest.mark.parametrize("anomalous", [True, False])
def test_auroc_is_absent_with_one_kind_of_image(anomalous: bool) -> None:
    scores, kinds = np.arange(4.0), np.full(4, anomalous)
    assert auroc(scores, kinds) is None
    assert bootstrap_interval(scores, kinds) is None


def test_the_interval_is_that_of_a_naive_bootstrap() -> None:
    random = np.random.default_rng(1)
    scores = np.round(np.concatenate([random.normal(0, 1, 80), random.normal(1, 1, 120)]), 1)
    anomalous = np.arange(200) >= 80
    values = []
    for _ in range(1000):
        rows = np.concatenate([random.choice(80, 80), 80 + random.choice(120, 120)])
        values.append(auroc(scores[rows], anomalous[rows]))
    low, high = bootstrap_interval(scores, anomalous, resamples=2000)
    assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=0.01)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # Normal scores one standard deviation apart: the true AUROC is Phi(1 / sqrt 2).
    truth, random, covered = 0.7602, np.random.default_rng(2), 0
    for trial in range(150):
        scores = np.concatenate([random.normal(0, 1, 60), random.normal(1, 1, 60)])
        low, high = bootstrap_interval(scores, np.arange(120) >= 60, resamples=200, seed=trial)
        covered += low <= truth <= high
    assert 0.88 <= covered / 150 <= 0.99


def test_the_interval_of_a_perfect_score_is_a_point() -> None:
    assert bootstrap_interval(np.arange(20.0), np.arange(20) >= 10, resamples=50) == (1.0, 1.0)
