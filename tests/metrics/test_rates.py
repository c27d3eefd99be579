"""What thresholds cost: counts, and intervals that hold the share as often as they say."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import beta, binom

from anomaly_gan.metrics.rates import at_rates, share
from anomaly_gan.reporting import rates
from anomaly_gan.scoring.calibration import Threshold, rates_to_compare, threshold


@pytest.mark.parametrize(("above", "tested"), [(0, 10), (3, 10), (10, 10), (1, 1000)])
def test_the_interval_is_clopper_and_pearson_s(above: int, tested: int) -> None:
    found = share(above, tested)
    assert found is not None
    low = beta.ppf(0.025, above, tested - above + 1) if above else 0
    high = beta.ppf(0.975, above + 1, tested - above) if above < tested else 1
    np.testing.assert_allclose([found.low, found.high], [low, high], rtol=1e-7)
    assert found.value == above / tested


@pytest.mark.parametrize("truth", [0.01, 0.1, 0.5])
def test_the_interval_holds_the_share_in_at_least_95_percent_of_tests(truth: float) -> None:
    holding = 0.0
    for above in range(41):
        found = share(above, 40)
        assert found is not None
        holding += binom.pmf(above, 40, truth) * (found.low <= truth <= found.high)
    assert 0.95 <= holding <= 1


def test_each_threshold_counts_what_lies_above_it_and_of_nothing_there_is_no_share() -> None:
    scores, anomalous = np.array([0.0, 1, 2, 3, 4]), np.array([False, False, True, False, True])
    first, second = at_rates({0.1: 2.5, 0.5: 0.5}, scores, anomalous)
    assert (first.rate, first.threshold) == (0.1, 2.5)
    assert (first.false_alarms[:2], first.found[:2]) == ((1, 3), (1, 2))
    assert (second.false_alarms[:2], second.found[:2]) == ((2, 3), (2, 2))
    (only,) = at_rates({0.1: 2.5}, scores[anomalous], anomalous[anomalous])
    assert only.false_alarms is None
    assert only.found[:2] == (1, 2)


def test_the_rates_to_choose_from_can_all_be_promised_and_have_the_one_asked_for() -> None:
    held_out = np.sort(np.random.default_rng(0).normal(size=99))
    for asked in (0.01, 0.033, 0.3):
        chosen = Threshold(asked, threshold(held_out, asked), held_out).at_other_rates()
        assert asked in chosen
        assert min(chosen) == 0.01
        assert list(chosen) == rates_to_compare(asked, 99) == sorted(chosen)
        values = list(chosen.values())
        assert values == sorted(values, reverse=True)


def test_table_and_picture_say_what_was_counted(tmp_path: Path) -> None:
    scores = np.arange(20.0)
    entries = at_rates({0.1: 15.5, 0.5: 3.5}, scores, scores > 11)
    header, *lines = rates.lines(entries)
    assert len(header) == len(lines[0]) == len(lines[1])
    assert "0/12 (0.0% to 26.5%)" in lines[0]
    assert "8/8 (63.1% to 100.0%)" in lines[1]
    rates.write(tmp_path / "thresholds.csv", entries)
    with (tmp_path / "thresholds.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["false_alarms"], first["false_alarms_of"], first["found"], first["found_of"]) == (
        "0",
        "12",
        "4",
        "8",
    )
    assert float(second["found_low"]) == pytest.approx(entries[1].found.low)
    only_defects = at_rates({0.1: 15.5}, scores, scores >= 0)
    rates.write(tmp_path / "thresholds.csv", only_defects)
    assert ",,,,,4,20," in (tmp_path / "thresholds.csv").read_text()
    for some in (entries, only_defects):
        rates.draw(tmp_path / "drawn" / "thresholds.png", some, "20 images")
        with Image.open(tmp_path / "drawn" / "thresholds.png") as picture:
            assert picture.size == (660, 495)
