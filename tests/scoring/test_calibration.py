"""Thresholds and p-values from held-out normal images: exact, and as rare in false alarms as they promise."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom, binom

from anomaly_gan.errors import UserError
from anomaly_gan.metrics.false_alarms import expected_rates
from anomaly_gan.scoring.calibration import (
    Calibration,
    check_rate,
    images_needed,
    p_values,
    p_values_among,
    smallest_rate,
    threshold,
)

numbers = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6))  # with ties, and without
held_outs = st.lists(numbers, min_size=1, max_size=60).map(lambda values: np.sort(np.array(values)))
rates = st.one_of(st.floats(0.001, 0.999), st.integers(1, 99).map(lambda percent: percent / 100))


def naive_p_value(held_out: np.ndarray, score: float) -> float:
    """The definition, letter by letter."""
    return (1 + sum(1 for other in held_out if other >= score)) / (len(held_out) + 1)


@given(held_outs, st.lists(numbers, max_size=20))
def test_p_values_are_those_of_the_definition(held_out: np.ndarray, scores: list[float]) -> None:
    found = p_values(np.array(scores, dtype=float), held_out)
    assert found.tolist() == [naive_p_value(held_out, score) for score in scores]


@given(held_outs)
def test_a_held_out_score_among_the_others_has_the_p_value_that_they_give_it(held_out: np.ndarray) -> None:
    found = p_values_among(held_out[::-1].copy())[::-1]
    for row, p_value in enumerate(found):
        assert p_value == naive_p_value(np.delete(held_out, row), held_out[row])


@given(held_outs, numbers, numbers)
def test_a_higher_score_never_has_a_higher_p_value(held_out: np.ndarray, one: float, other: float) -> None:
    low, high = p_values(np.sort(np.array([one, other])), held_out)
    assert 0 < high <= low <= 1


@given(held_outs, rates, st.lists(numbers, max_size=20))
def test_a_score_is_above_the_threshold_exactly_where_its_p_value_is_at_most_the_rate(
    held_out: np.ndarray, rate: float, scores: list[float]
) -> None:
    if rate < smallest_rate(len(held_out)):
        with pytest.raises(UserError, match="at best"):
            threshold(held_out, rate)
        return
    t = threshold(held_out, rate)
    tried = np.array([*scores, *held_out, t], dtype=float)
    assert ((tried > t) == (p_values(tried, held_out) <= rate)).all()


@pytest.mark.parametrize("count", [1, 7, 19, 28, 99, 100, 999])
@pytest.mark.parametrize("percent", [1, 5, 7, 10, 29, 50, 57, 90])
def test_the_threshold_is_the_order_statistic_of_the_books(count: int, percent: int) -> None:
    held_out = np.arange(count, dtype=float)
    place = math.ceil((count + 1) * (1 - Fraction(percent, 100)))  # in exact arithmetic
    if place > count:
        with pytest.raises(UserError, match="held-out images can promise"):
            threshold(held_out, percent / 100)
    else:
        assert threshold(held_out, percent / 100) == held_out[place - 1]


@given(held_outs, rates, rates)
def test_a_smaller_rate_never_has_a_lower_threshold(held_out: np.ndarray, one: float, other: float) -> None:
    low, high = sorted([one, other])
    if low >= smallest_rate(len(held_out)):
        assert threshold(held_out, low) >= threshold(held_out, high)


@given(st.integers(0, 5000))
def test_the_smallest_rate_needs_just_as_many_images(count: int) -> None:
    assert images_needed(smallest_rate(count)) <= count
    assert images_needed(math.nextafter(smallest_rate(count), 0)) == count + 1
    assert [images_needed(rate) for rate in (0.01, 0.05, 0.1, 0.001)] == [99, 19, 9, 999]


def test_an_impossible_rate_is_refused_with_what_is_possible_and_what_it_takes() -> None:
    calibration = Calibration.of({"csi": np.arange(49.0)})
    with pytest.raises(UserError, match=r"49 held-out images can promise 0\.02 at best.*99 held-out images"):
        calibration.threshold("csi", 0.01)
    assert calibration.possible_rate(0.01) == 0.02
    assert calibration.possible_rate(0.05) == 0.05
    assert calibration.threshold("csi", 0.02).value == 48


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, float("nan"), "often", None, True])
def test_a_rate_that_is_none_is_refused(rate) -> None:
    with pytest.raises(UserError, match=r"threshold.false_positive_rate"):
        check_rate(rate)


def test_a_score_that_was_not_kept_is_named() -> None:
    with pytest.raises(UserError, match="no calibration of score paper: only of csi"):
        Calibration.of({"csi": np.arange(5.0)}).threshold("paper", 0.5)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**6))
def test_no_split_of_any_scores_into_held_out_and_new_has_more_false_alarms_than_promised(
    count: int, percent: int, seed: int
) -> None:
    """The promise itself, exactly: over all choices of the new image among count + 1, ties and all."""
    rate = percent / 40
    if not smallest_rate(count) <= rate < 1:
        return
    scores = np.sort(np.random.default_rng(seed).integers(0, 12, count + 1).astype(float))
    alarms = [scores[i] > threshold(np.delete(scores, i), rate) for i in range(count + 1)]
    assert np.mean(alarms) <= rate


def digits_scores() -> np.ndarray:
    """Scores of all images of a digit by nearest neighbour among the first 100 of them; real, and unequal."""
    from sklearn.datasets import load_digits
    from sklearn.neighbors import NearestNeighbors

    found = []
    pixels, labels = load_digits(return_X_y=True)
    for digit in range(10):
        images = pixels[labels == digit]
        neighbours = NearestNeighbors(n_neighbors=1).fit(images[:100])
        found.append(neighbours.kneighbors(images[100:170])[0][:, 0])
    return np.concatenate(found)


@pytest.mark.parametrize(("rate", "held"), [(0.01, 99), (0.05, 139), (0.1, 200), (0.2, 20)])
def test_false_alarms_on_real_scores_follow_their_exact_law(rate: float, held: int) -> None:
    """Split many times at random: their mean, and the law of their number, are those of the beta-binomial."""
    scores = digits_scores()
    scores += np.random.default_rng(0).uniform(0, 1e-9, len(scores))  # distances of whole numbers: no ties
    rng, splits, tested = np.random.default_rng(1), 4000, 60
    counts = []
    for _ in range(splits):
        order = rng.permutation(len(scores))
        t = threshold(np.sort(scores[order[:held]]), rate)
        counts.append(int((scores[order[held : held + tested]] > t).sum()))
    allowed = math.floor(rate * (held + 1) + 1e-9)
    law = betabinom(tested, allowed, held + 1 - allowed)
    assert law.mean() / tested <= rate + 1e-12
    error = law.std() / splits**0.5
    assert abs(np.mean(counts) - law.mean()) < 4 * error
    for at_most in range(12):
        observed, expected = np.mean(np.array(counts) <= at_most), law.cdf(at_most)
        assert abs(observed - expected) < 5 * (expected * (1 - expected) / splits) ** 0.5 + 1e-3, at_most


def test_ties_make_false_alarms_rarer() -> None:
    rng, alarms = np.random.default_rng(0), []
    for _ in range(2000):
        scores = rng.integers(0, 5, 101).astype(float)
        alarms.append(scores[100] > threshold(np.sort(scores[:100]), 0.1))
    assert np.mean(alarms) < 0.05


@pytest.mark.parametrize(("held_out", "allowed", "tested"), [(99, 1, 1000), (500, 5, 1000), (20, 2, 7)])
def test_the_interval_of_false_alarms_holds_what_it_says_and_no_more(
    held_out: int, allowed: int, tested: int
) -> None:
    low, high = (round(rate * tested) for rate in expected_rates(held_out, allowed, tested))
    law = betabinom(tested, allowed, held_out + 1 - allowed)
    assert law.cdf(high) - law.cdf(low - 1) >= 0.95
    assert law.cdf(low - 1) <= 0.025
    assert law.sf(high) <= 0.025


def test_with_endless_held_out_images_the_interval_is_the_binomial_one() -> None:
    low, high = expected_rates(10**7 - 1, 10**5, 2000)
    assert (low * 2000, high * 2000) == pytest.approx(binom(2000, 0.01).interval(0.95), abs=1)
