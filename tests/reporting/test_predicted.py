"""The page of a prediction, as a file and in a browser without a screen."""

import base64
import csv
import io
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from browser import assert_readable, dom, measured
from PIL import Image

from anomaly_gan.metrics.rates import at_rates
from anomaly_gan.reporting import figures, rates
from anomaly_gan.reporting.pictures import LARGEST, Picture, embed, heat
from anomaly_gan.reporting.predicted import BUDGET, Card, Layer, Predicted, page, shown_names
from anomaly_gan.reporting.wording import as_high, looks
from anomaly_gan.scoring.calibration import p_values

HOSTILE = "in/<img src=x onerror=document.title=1>'\"&,.png"


def decoded(webp: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(webp)))


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8))


def card(number: int, file: str | None = None, size: tuple[int, int] = (90, 60)) -> Card:
    """The picture of a rank: the first four look defective."""
    scores = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    return Card(
        file=file or f"in/{number:02d}.png",
        score=10.0 - number,
        p_value=(1 + number) / 20,
        adjusted_p_value=None,
        anomalous=number < 4,
        scores={"inner_name": 10.0 - number},
        at_random=number > 8,
        picture=Picture.of(noise(*size, number), 50_000),
        layer=Layer(heat(scores, None), (0.0, 0.0, 1.0, 1.0)),
        explanation=None,
    )


def predicted(folder: Path) -> Predicted:
    """With labels, a file that cannot be read and inner parts."""
    scores, anomalous = np.arange(40.0), np.arange(40) > 20
    entries = at_rates({0.01: 30.0, 0.1: 20.0}, scores, anomalous)
    rates.draw(folder / "thresholds.png", entries, "images with labels")
    return Predicted(
        scored=340,
        called=4,
        unread=2,
        first_unread=["in/<b>broken</b>.png: no image"],
        headline=looks(4, 340),
        promise="At most 1 % of good pictures would be called so.",
        held_out=19,
        others=330,
        table="predictions.csv",
        thresholds=entries,
        curve=embed([folder / "thresholds.png"], 100_000)[0],
        inner={"a_very_long_setting.of_the_method." * 4: "value" * 40},
        made="today",
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "predictions.html"
    cards = [card(number) for number in range(12)]
    cards[2] = replace(cards[2], file=HOSTILE)
    path.write_text(page(predicted(tmp_path), cards))
    return path


def text_of(html: str) -> str:
    """What people read."""
    html = re.sub("<script.*?</script>|<style.*?</style>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub("<[^>]*>", " ", html)))


def test_the_page_says_first_what_was_decided_then_what_could_not_be_read_then_shows_pictures(
    written: Path,
) -> None:
    said = text_of(written.read_text())
    order = [
        "4 of 340 pictures look defective",
        "At most 1 % of good pictures would be called so.",
        "2 files could not be read",
        "in/<b>broken</b>.png: no image",
        "and 1 more: column error of predictions.csv",
        "The 9 with the highest scores, and 3 of the 330 below the first 10, drawn at random.",
        "looks defective 00.png score 10 none of 19 good pictures scores as high",
        "looks defective 01.png score 9 1 of 19 good pictures scores as high",
        "looks good 04.png score 6 4 of 19 good pictures score as high",
        "What other thresholds would cost and find",
        "Inner parts of the method",
    ]
    places = [said.index(words) for words in order]
    assert places == sorted(places)
    assert "inner_name" not in said


@pytest.mark.parametrize(("width", "dark"), [(390, True), (390, False), (1280, True), (1280, False)])
@pytest.mark.parametrize("state", ["", "open=2"])
def test_on_a_phone_and_in_the_dark_nothing_of_a_prediction_is_cut_or_light(
    written: Path, tmp_path: Path, width: int, dark: bool, state: str
) -> None:
    found = measured(written, state, tmp_path, width, dark)
    assert_readable(found, width, dark)
    assert found["scrolled"] == []


def test_names_of_files_are_text_also_where_a_picture_is_opened(written: Path, tmp_path: Path) -> None:
    assert "<img src=x" not in written.read_text()
    found = dom(written, "open=2", tmp_path / "profile")
    assert "<img src=x" not in found
    (name,) = re.findall('id="opened-name">(.*?)</span>', found)
    assert unescape(name) == HOSTILE
    assert "<dialog" in found
    assert re.search("<dialog[^>]* open", found)
    assert "inner_name" in text_of(found)


def test_the_address_sorts_filters_and_hides(written: Path, tmp_path: Path) -> None:
    found = dom(written, "sort=name&show=defective&where=off&theme=dark", tmp_path / "profile")
    root = re.search("<html[^>]*>", found)[0]
    assert {'data-shown="4"', 'data-where="off"', 'data-theme="dark"'} <= set(root[:-1].split())
    assert "4 of 12 pictures" in found
    cards = re.findall('<li class="card" data-id="(\\d+)"( hidden="")?>', found)
    assert [number for number, hidden in cards if not hidden] == ["2", "0", "1", "3"]


CLICKS = """
<script>
const files = [];
URL.createObjectURL = (blob) => {
  blob.text().then((text) => { files.push(text); document.body.dataset.saved = JSON.stringify(files); });
  return "#";
};
HTMLAnchorElement.prototype.click = () => {};
const mark = (id, value) => document.querySelector(`.card[data-id="${id}"] .mark[value="${value}"]`).click();
mark(2, "defective"); mark(0, "good"); mark(0, "defective");
mark(5, "good"); mark(6, "good"); mark(6, "good");
document.querySelector('.chip[value="marked"]').click();
document.getElementById("save").click();
document.getElementById("save-marks").click();
document.body.dataset.address = location.hash;
</script>
"""


def test_marks_and_what_is_shown_are_saved_as_tables(written: Path, tmp_path: Path) -> None:
    written.write_text(written.read_text().replace("</body>", f"{CLICKS}</body>"))
    found = dom(written, "", tmp_path / "profile")
    shown, labels = json.loads(unescape(re.search('data-saved="([^"]*)"', found)[1]))
    assert list(csv.DictReader(io.StringIO(labels))) == [
        {"image": "in/00.png", "label": "defective"},
        {"image": HOSTILE, "label": "defective"},
        {"image": "in/05.png", "label": "good"},
    ]
    rows = list(csv.DictReader(io.StringIO(shown)))
    assert [row["file"] for row in rows] == ["in/00.png", HOSTILE, "in/05.png"]
    assert rows[2] == {"file": "in/05.png", "score": "5", "p_value": "0.3", "looks": "good", "marked": "good"}
    assert 'data-address="#defective=2.0&amp;good=5&amp;show=marked"' in found


def test_a_picture_keeps_its_own_resolution_up_to_a_limit() -> None:
    own = Picture.of(noise(700, 300), 2_000_000)
    assert (own.width, own.height) == decoded(own.large).size == (700, 300)
    large = Picture.of(Image.new("L", (4000, 1000), 90), 2_000_000)
    assert (large.width, large.height) == (4000, 1000)
    assert decoded(large.large).size == (LARGEST, LARGEST // 4)


def test_a_page_of_large_pictures_stays_below_twenty_megabytes(tmp_path: Path) -> None:
    one = card(0, size=(1600, 1200))
    count = 120
    share = replace(one, picture=Picture.of(noise(1600, 1200), BUDGET // count))
    assert len(page(predicted(tmp_path), [share] * count)) < 20_000_000


def test_heat_is_clear_where_a_map_is_at_its_median_and_faint_where_it_stays_below_the_threshold() -> None:
    scores = np.zeros((64, 64))
    scores[20:40, 20:40] = 2.0

    def opacity(threshold: float | None) -> np.ndarray:
        layer = decoded(heat(scores, threshold))
        assert layer.mode == "RGBA"
        return np.asarray(layer)[..., 3]

    alone, above, below = opacity(None), opacity(1.0), opacity(8.0)
    assert alone[30, 30] > 190
    assert alone[5, 5] == 0
    assert above[30, 30] > 190
    assert 0 < below[30, 30] < 0.2 * alone[30, 30]
    assert not np.asarray(decoded(heat(np.ones((8, 8)), None)))[..., 3].any()


def test_a_folder_is_shown_only_where_names_repeat() -> None:
    assert shown_names(["in/a/1.png", "in/b/2.png"]) == [("", "1.png"), ("", "2.png")]
    assert shown_names(["in/a/1.png", "in/b/1.png", "in/2.png"]) == [
        ("a/", "1.png"),
        ("b/", "1.png"),
        ("", "2.png"),
    ]
    assert shown_names(["/tmp/a\n/1.png", "b/1.png"]) == [("/tmp/a\\n/", "1.png"), ("b/", "1.png")]


@pytest.mark.parametrize("held_out", [1, 9, 184, 5000])
def test_a_p_value_in_words_counts_the_good_pictures_that_score_as_high(held_out: int) -> None:
    good = np.arange(float(held_out))
    for above in (0, 1, held_out):
        (p,) = p_values(np.array([held_out - above - 0.5]), good)
        count = "none" if not above else f"{above:,}"
        assert as_high(float(p), held_out).startswith(f"{count} of {held_out:,} good pictures")


def test_figures_have_no_paper_and_letters_that_both_papers_bear(tmp_path: Path) -> None:
    figure, axes = figures.plt.subplots()
    axes.set_title("title")
    figures.save(figure, tmp_path / "figure.png")
    pixels = np.asarray(Image.open(tmp_path / "figure.png")).astype(int)
    assert pixels[0, 0, 3] == 0
    drawn = pixels[pixels[..., 3] > 250]
    assert len(drawn)
    assert ((drawn[:, :3] > 90) & (drawn[:, :3] < 150)).all()
