"""Placement values and the paired bootstrap, against scikit-learn, DeLong and brute force."""

import numpy as np
import pytest
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import ttest_1samp
from sklearn.metrics import roc_auc_score

from anomaly_gan.metrics.paired import difference, influence, moves, placements, t_interval

NORMALS, ANOMALIES = 200, 900


def two_detectors(seed: int) -> tuple[Float[ndarray, "2 n"], ndarray]:
    """Correlated scores of the same images, rounded so that some tie."""
    random = np.random.default_rng(seed)
    anomalous = np.arange(NORMALS + ANOMALIES) >= NORMALS
    shared = random.normal(size=len(anomalous)) + 1.1 * anomalous
    own = random.normal(size=(2, len(anomalous))) * 0.6
    own[1] += 0.25 * anomalous
    order = random.permutation(len(anomalous))
    return np.round(shared + own, 2)[:, order], anomalous[order]


def test_placements_average_to_the_auroc_over_either_kind_ties_included() -> None:
    random = np.random.default_rng(0)
    scores, anomalous = random.integers(0, 6, 300).astype(float), random.random(300) < 0.3
    value, shares = placements(scores, anomalous)
    exact = roc_auc_score(anomalous, scores)
    assert value == pytest.approx(exact, abs=1e-12)
    assert shares[anomalous].mean() == pytest.approx(exact, abs=1e-12)
    assert shares[~anomalous].mean() == pytest.approx(exact, abs=1e-12)


def test_the_covariance_is_that_of_delong() -> None:
    scores, anomalous = two_detectors(1)
    # Equation 5 of DeLong et al. 1988, from all pairs.
    wins = [
        (s[anomalous][:, None] > s[~anomalous]) + 0.5 * (s[anomalous][:, None] == s[~anomalous])
        for s in scores
    ]
    of_anomalous = np.cov([w.mean(1) for w in wins], bias=True) / ANOMALIES
    of_normal = np.cov([w.mean(0) for w in wins], bias=True) / NORMALS
    influences = np.stack([influence(s, anomalous)[1] for s in scores])
    assert influences @ influences.T == pytest.approx(of_anomalous + of_normal, rel=1e-9)
    moved = moves(influences.T, resamples=4000)
    assert np.cov(moved.T) == pytest.approx(of_anomalous + of_normal, rel=0.1)


def test_the_interval_is_that_of_the_exact_stratified_bootstrap() -> None:
    scores, anomalous = two_detectors(2)
    (first, of_first), (second, of_second) = (influence(s, anomalous) for s in scores)
    found = difference(second - first, moves(np.stack([of_first, of_second], 1)) @ [-1, 1])
    # All pairs of a resample, counted: Mann and Whitney's form of the AUROC, exact for each of them.
    random, aurocs = np.random.default_rng(3), []
    drawn = random.multinomial(ANOMALIES, [1 / ANOMALIES] * ANOMALIES, 4000).astype(float)
    drawn_normal = random.multinomial(NORMALS, [1 / NORMALS] * NORMALS, 4000).astype(float)
    for s in scores:
        above = s[anomalous][:, None] - s[~anomalous]
        wins = (above > 0) + 0.5 * (above == 0)
        assert wins.mean() == pytest.approx(roc_auc_score(anomalous, s))
        aurocs.append(((drawn @ wins) * drawn_normal).sum(1) / (ANOMALIES * NORMALS))
    exact = aurocs[1] - aurocs[0]
    low, high = np.quantile(exact, [0.025, 0.975])
    assert found.value == pytest.approx(roc_auc_score(anomalous, scores[1]) - first)
    width = high - low
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.06 * width)
    assert (found.p < 0.05) == (low > 0 or high < 0)


def test_runs_that_score_alike_do_not_differ() -> None:
    scores, anomalous = two_detectors(4)
    _, of_it = influence(scores[0], anomalous)
    found = difference(0.0, moves(np.stack([of_it, of_it], 1)) @ [-1, 1])
    assert found == (0.0, 0.0, 0.0, 1.0)


def test_classes_that_share_images_are_resampled_together() -> None:
    # The same run under two names: the mean over both moves exactly as one does.
    scores, anomalous = two_detectors(5)
    _, of_it = influence(scores[0], anomalous)
    moved = moves(np.stack([of_it, of_it], 1), resamples=200)
    assert moved[:, 0] == pytest.approx(moved[:, 1])


def test_the_t_interval_is_that_of_a_paired_t_test() -> None:
    differences = [0.01, 0.03, -0.01, 0.02]
    expected = ttest_1samp(differences, 0).confidence_interval(0.95)
    assert t_interval(differences) == pytest.approx((expected.low, expected.high))
    assert t_interval(differences[:1]) is None
