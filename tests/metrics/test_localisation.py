"""Pixel AUROC against scikit-learn, AUPRO against a naive transcription of its definition."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label
from sklearn.metrics import roc_auc_score

from anomaly_gan.metrics.localisation import LIMIT, Localisation


def pictures(seed: int, count: int = 6) -> list[tuple[np.ndarray, np.ndarray]]:
    """Maps, some places below 0, that are higher inside of masks of several regions; the last is normal."""
    random = np.random.default_rng(seed)
    found = []
    for picture in range(count):
        mask = gaussian_filter(random.normal(size=(48, 40)), 3) > 0.12
        if picture == count - 1:
            mask[:] = False
        scores = gaussian_filter(random.random((48, 40)) + 0.3 * mask, 1)
        found.append((scores / 2 - 0.25, mask))
    return found


def measured(given: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    counts = Localisation(min(scores.min() for scores, _ in given), max(scores.max() for scores, _ in given))
    for scores, mask in given:
        counts.add(scores, mask)
    result = counts.result()
    assert result is not None
    return result


@pytest.mark.parametrize("seed", range(4))
def test_pixel_auroc_is_scikit_learns(seed: int) -> None:
    given = pictures(seed)
    scores = np.concatenate([s.ravel() for s, _ in given])
    mask = np.concatenate([m.ravel() for _, m in given])
    assert measured(given)["pixel_auroc"] == pytest.approx(roc_auc_score(mask, scores), abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_aupro_is_the_area_under_the_mean_overlap_of_regions(seed: int) -> None:
    """At each of many thresholds: of every connected region the share found, and of normal pixels the share
    that is coloured."""
    given = pictures(seed)
    normal = np.sort(np.concatenate([s[~m] for s, m in given]))
    regions = []
    for scores, mask in given:
        named, count = label(mask, structure=np.ones((3, 3)))
        regions += [scores[named == one] for one in range(1, count + 1)]
    rates, overlaps = [0.0], [0.0]
    for threshold in normal[::-1][: int(0.35 * len(normal))]:
        rates.append(np.mean(normal >= threshold))
        overlaps.append(np.mean([np.mean(region >= threshold) for region in regions]))
    at = np.linspace(0, LIMIT, 4001)
    expected = np.trapezoid(np.interp(at, rates, overlaps), at) / LIMIT
    found = measured(given)
    assert found["aupro"] == pytest.approx(expected, abs=2e-3)
    assert found["regions"] == len(regions) > 6


def test_a_map_that_is_the_mask_is_perfect_and_one_that_says_nothing_is_worth_half_of_the_limit() -> None:
    given = [(mask.astype(float), mask) for _, mask in pictures(0)]
    assert measured(given)["pixel_auroc"] == 1
    assert measured(given)["aupro"] == pytest.approx(1)
    flat = [(np.ones_like(scores), mask) for scores, mask in pictures(0)]
    assert measured(flat)["pixel_auroc"] == 0.5
    assert measured(flat)["aupro"] == pytest.approx(LIMIT / 2)


def test_small_regions_count_as_much_as_large_ones() -> None:
    mask = np.zeros((20, 20), dtype=bool)
    mask[:10, :10] = True
    mask[15, 15] = True
    scores = np.zeros((20, 20))
    scores[:10, :10] = 1  # the large one is found, the small one is not
    found = measured([(scores, mask)])
    assert found["aupro"] == pytest.approx(0.5 + 0.5 * LIMIT / 2)
    assert found["pixel_auroc"] > 0.99


def test_without_masks_or_without_anything_outside_of_them_there_is_no_figure() -> None:
    for mask in (np.zeros((4, 4), dtype=bool), np.ones((4, 4), dtype=bool)):
        counts = Localisation(0.0, 1.0)
        counts.add(np.full((4, 4), 0.5), mask)
        assert counts.result() is None
