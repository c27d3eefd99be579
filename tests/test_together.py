"""Many images judged at once: the share of mistakes among those called anomalous is what was asked for."""

import csv
import doctest
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy import ndarray

from anomaly_gan import Detector, UserError, together
from anomaly_gan.inference import Prediction
from anomaly_gan.scoring.calibration import adjusted, p_values
from anomaly_gan.together import judged_together

RECORDED = Path(__file__).parent / "recorded" / "fashion_mnist_trouser.csv"
"""Scores of 1,000 trousers and 1,000 other test images of Fashion-MNIST, by the detector of
`anomaly-gan train data=fashion_mnist normal_class=trouser method=raw_pixels`."""

HELD_OUT, NORMAL, ANOMALOUS, DRAWS = 500, 50, 50, 2000


@pytest.fixture(scope="module")
def scores() -> tuple[ndarray, ndarray]:
    """Of the normal images, and of the others."""
    with RECORDED.open() as file:
        rows = [(row["anomalous"] == "1", float(row["score"])) for row in csv.DictReader(file)]
    anomalous, values = (np.array(column) for column in zip(*rows, strict=True))
    return values[~anomalous], values[anomalous]


def mistakes(scores: tuple[ndarray, ndarray], fdr: float, adjust: bool) -> tuple[ndarray, ndarray]:
    """Of many draws of held-out and new images: the share of mistakes among the called, and what was found.

    Held-out and new normal images are drawn from the same ones, so they are exchangeable.
    """
    random = np.random.default_rng(0)
    shares, found = np.empty(DRAWS), np.empty(DRAWS)
    for draw in range(DRAWS):
        normal = random.permutation(scores[0])
        held_out, new = np.sort(normal[:HELD_OUT]), normal[HELD_OUT : HELD_OUT + NORMAL]
        p = p_values(np.concatenate([new, random.choice(scores[1], ANOMALOUS, replace=False)]), held_out)
        called = (adjusted(p) if adjust else p) <= fdr
        shares[draw] = called[:NORMAL].sum() / max(1, called.sum())
        found[draw] = called[NORMAL:].mean()
    return shares, found


@pytest.mark.parametrize("fdr", [0.05, 0.1, 0.2])
def test_of_the_images_called_no_larger_share_is_normal_than_was_asked_for(scores, fdr: float) -> None:
    shares, found = mistakes(scores, fdr, adjust=True)
    noise = 3 * shares.std() / DRAWS**0.5
    bound = fdr * NORMAL / (NORMAL + ANOMALOUS)  # the theorem's
    assert 0.9 * bound <= shares.mean() <= bound + noise
    assert found.mean() > 0.8


def test_without_the_adjustment_the_share_is_far_beyond(scores: tuple[ndarray, ndarray]) -> None:
    """So the test above can fail."""
    shares, _ = mistakes(scores, 0.1, adjust=False)
    assert shares.mean() > 1.5 * 0.1 * NORMAL / (NORMAL + ANOMALOUS)


def predictions(p: list[float | None]) -> list[Prediction]:
    return [
        Prediction(
            i, None, {}, None if value is None else -value, value, None, "gone" if value is None else None
        )
        for i, value in enumerate(p)
    ]


def test_the_decisions_are_benjamini_and_hochberg_s() -> None:
    p = [0.01, 0.9, None, 0.02, 0.039, 0.06, None, 0.041]
    given = predictions(p)
    judged = [*judged_together(iter(given), 0.08)]
    ranked = sorted(value for value in p if value is not None)
    cut = max(value for rank, value in enumerate(ranked, 1) if value <= 0.08 * rank / len(ranked))
    assert [found.anomalous for found in judged] == [None if v is None else v <= cut for v in p]
    for found, before in zip(judged, given, strict=True):
        assert replace(found, anomalous=None, adjusted_p_value=None) == before
        assert found.p_value is None or found.adjusted_p_value >= found.p_value
    assert [*judged_together([], 0.1)] == []


def test_what_cannot_be_promised_is_refused(trained: Path) -> None:
    for fdr in (0, 1, -0.1, True, "a"):
        with pytest.raises(UserError, match="above 0 and below 1"):
            next(judged_together([], fdr))
    detector = Detector.load(trained)
    bare = Detector(detector.scorer, detector.form)
    with pytest.raises(UserError, match="no calibration"):
        next(judged_together(bare.examine(np.zeros((2, 16, 16, 1), dtype=np.uint8)), 0.1))


def test_the_example_of_its_documentation_runs(trained: Path) -> None:
    detector = Detector.load(trained)
    extra = {"detector": detector, "path": np.zeros((16, 16), dtype=np.uint8)}
    (test,) = doctest.DocTestFinder().find(together.judged_together, "judged_together", extraglobs=extra)
    assert doctest.DocTestRunner().run(test).failed == 0
