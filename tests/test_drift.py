"""The alarm of a stream: rarely wrong, as promised, and soon where the pictures have really changed."""

import csv
import doctest
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import ndarray
from scipy.stats import kstest

from anomaly_gan import UserError, drift
from anomaly_gan.drift import JUMP, DriftTest, SimpleJumper

RECORDED = Path(__file__).parent / "recorded"

HELD_OUT, LENGTH, STREAMS = 100, 200, 2000


@pytest.fixture(scope="module")
def normal() -> ndarray:
    """Of 1,000 trousers, test images of Fashion-MNIST, by the detector of
    `anomaly-gan train data=fashion_mnist normal_class=trouser method=raw_pixels`."""
    with (RECORDED / "fashion_mnist_trouser.csv").open() as file:
        return np.array([float(row["score"]) for row in csv.DictReader(file) if row["anomalous"] == "0"])


def capitals(ranks: ndarray) -> ndarray:
    """Algorithm 1 of Vovk et al. (2021) as it stands there: the capital after each rank, [streams, ranks]."""
    bets = np.array([[-1], [0], [1]])
    capital = np.full((3, len(ranks)), 1 / 3)
    found = []
    for rank in ranks.T:
        capital = (1 - JUMP) * capital + JUMP / 3 * capital.sum(0)
        capital = capital * (1 + bets * (rank - 0.5))
        found.append(capital.sum(0))
    return np.array(found).T.reshape(ranks.shape)


@pytest.fixture(scope="module")
def highest(normal: ndarray) -> ndarray:
    """Of each of 2,000 streams without a change, the highest log10 of the martingale.

    Held-out and new images are drawn from the same ones, so they are exchangeable.
    """
    random = np.random.default_rng(0)
    ranks, alarmed = np.empty((STREAMS, LENGTH)), np.empty(STREAMS, dtype=bool)
    for stream in range(STREAMS):
        drawn = random.permutation(normal)
        test = DriftTest(drawn[:HELD_OUT], 0.01, seed=stream)
        ranks[stream] = [test.add(score) for score in drawn[HELD_OUT : HELD_OUT + LENGTH].tolist()]
        alarmed[stream] = test.alarmed
    found = np.log10(capitals(ranks)).max(1)
    assert np.array_equal(alarmed, found >= 2)
    return found


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.2])
def test_of_2000_streams_without_a_change_at_most_alpha_alarm(highest: ndarray, alpha: float) -> None:
    alarms = (highest >= -np.log10(alpha)).mean()
    assert 0 < alarms <= alpha


def test_ranks_among_the_held_out_images_alone_would_break_the_promise(normal: ndarray) -> None:
    """So the test above can fail."""
    random = np.random.default_rng(0)
    ranks = np.empty((STREAMS, LENGTH))
    for stream in range(STREAMS):
        drawn = random.permutation(normal)
        above = HELD_OUT - np.searchsorted(np.sort(drawn[:HELD_OUT]), drawn[HELD_OUT : HELD_OUT + LENGTH])
        ranks[stream] = (above + random.random(LENGTH)) / (HELD_OUT + 1)
    assert (capitals(ranks).max(1) >= 1 / 0.05).mean() > 1.5 * 0.05


@pytest.mark.parametrize("kinds", [1, 3, 1000])
def test_ranks_are_uniform_and_know_nothing_of_the_one_before_however_many_are_equal(kinds: int) -> None:
    random = np.random.default_rng(0)
    last = np.empty((1000, 2))
    for stream in range(1000):
        test = DriftTest(random.integers(kinds, size=5).astype(float), 0.01, seed=stream)
        for score in random.integers(kinds, size=4).tolist():
            last[stream] = last[stream, 1], test.add(float(score))
    for column in last.T:
        assert kstest(column, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(last.T)[0, 1]) < 3 / 1000**0.5


@given(st.lists(st.floats(0, 1), max_size=60))
@settings(deadline=None)
def test_the_capital_is_that_of_the_paper_s_algorithm(ranks: list[float]) -> None:
    jumper = SimpleJumper()
    for rank, capital in zip(ranks, capitals(np.array([ranks]))[0], strict=True):
        jumper.bet(rank)
        assert jumper.log_capital == pytest.approx(np.log(capital), abs=1e-9)


@given(st.lists(st.floats(-5, 5, width=16), max_size=40), st.integers(0, 40))
@settings(deadline=None)
def test_a_test_that_is_resumed_goes_on_to_the_bit(scores: list[float], split: int) -> None:
    whole, first, second = (DriftTest([0.0, 1.0, 1.0], 0.5, seed=3) for _ in range(3))
    ranks = [whole.add(score) for score in scores]
    assert [first.add(score) for score in scores[:split]] == ranks[:split]
    second.resume(scores[:split], ranks[:split])
    assert [second.add(score) for score in scores[split:]] == ranks[split:]
    assert (second.log10_martingale, second.alarmed) == (whole.log10_martingale, whole.alarmed)
    assert second.count == len(scores)


CHANGES = {"blurred": 45, "moved": 30, "brighter": 40}
"""A change, and after how many pictures it is found in nine streams of ten, at most."""


def found_after(normal: ndarray, changed: ndarray, streams: int = 50) -> ndarray:
    """How many changed images it takes, of streams that begin with 200 as before; infinite: never found.

    Streams that alarm before the change are left out.
    """
    random = np.random.default_rng(0)
    found = np.zeros(streams)
    for stream in range(streams):
        drawn = random.permutation(normal)
        test = DriftTest(drawn[:HELD_OUT], 0.01, seed=stream)
        for score in drawn[HELD_OUT : HELD_OUT + 200].tolist():
            test.add(score)
        if test.alarmed:  # before the change, as at most one in a hundred may
            continue
        found[stream] = np.inf
        for after, score in enumerate(random.permutation(changed)[:200].tolist(), 1):
            test.add(score)
            if test.alarmed:
                found[stream] = after
                break
    return found[found > 0]


@pytest.mark.parametrize("change", list(CHANGES))
def test_pictures_that_have_really_changed_are_found_soon(normal: ndarray, change: str) -> None:
    """The same trousers, scored by the same detector: blurred (Gaussian, sigma 1), moved by 2 of 28 pixels,
    or brighter by 25 of 255."""
    with (RECORDED / "fashion_mnist_trouser_changed.csv").open() as file:
        changed = np.array([float(it["score"]) for it in csv.DictReader(file) if it["change"] == change])
    found = found_after(normal, changed)
    assert found.min() >= 12  # fewer cannot be: no bet gains more than 1.5
    assert np.quantile(found, 0.9) <= CHANGES[change]


def test_what_is_no_probability_is_refused() -> None:
    for alpha in (0, 1, -0.1, True, "a", float("nan")):
        with pytest.raises(UserError, match="above 0 and below 1"):
            DriftTest([0.0], alpha)


def test_the_example_of_its_documentation_runs() -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(drift.DriftTest, "DriftTest")
    assert doctest.DocTestRunner().run(example).failed == 0
