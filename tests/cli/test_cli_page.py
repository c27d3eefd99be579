"""predict's page: made of what was predicted, and bounded whatever that is."""

import re
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from anomaly_gan.cli.tally import OTHERS, UNREAD, Tally
from anomaly_gan.inference import Prediction


def images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 255, (20, 30), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}<b>.png")


def text_of(page: Path) -> str:
    html = re.sub("<script.*?</script>|<style.*?</style>", " ", page.read_text(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub("<[^>]*>", " ", html)))


def test_predict_ends_with_a_page_of_its_decisions_pictures_and_labels(command, trained: Path) -> None:
    images(Path("in"), 6)
    Path("in/broken.png").write_bytes(b"no image")
    Path("labels.csv").write_text("image,label\nin/0<b>.png,good\nin/1<b>.png,crack\n")
    given = ["inputs=in", "labels=labels.csv", "explain=1", "page=3"]
    outcome = command("predict", f"checkpoint={trained}", *given)
    assert outcome.code == 3, outcome.err
    assert "page: predictions.html" in outcome.out
    said = text_of(Path("predictions.html"))
    called = re.search(r"(\d+) called anomalous", outcome.out)[1]
    assert f"{'None' if called == '0' else called} of 6 pictures look" in said
    assert "At most 20 % of good pictures would be called so: the promise of 4 good pictures" in said
    assert "1 file could not be read" in said
    assert "in/broken.png: not a readable image" in said
    first = outcome.out.splitlines()[0].split()[-1]
    assert said.index(Path(first).name) < said.index("How to read this")
    assert "What other thresholds would cost and find" in said
    html = Path("predictions.html").read_text()
    assert html.count('<li class="card"') == 3  # `tally` holds ten at least: none is left to be drawn
    assert html.count('id="picture-') == 3
    assert html.count('id="why-') == 1
    assert "<b>.png" not in html


def test_a_page_is_made_where_nothing_is_decided_and_where_nothing_can_be_read(
    command, trained: Path, tmp_path: Path
) -> None:
    Path("bad.png").write_bytes(b"no image")
    outcome = command("predict", f"checkpoint={trained}", "inputs=bad.png")
    assert outcome.code == 3
    assert "No picture could be read" in text_of(Path("predictions.html"))
    images(Path("in"), 3)
    outcome = command("predict", f"checkpoint={trained}", "inputs=in", "fdr=0.01")
    assert outcome.code == 0, outcome.err
    said = text_of(Path("predictions.html"))
    assert "None of 3 pictures looks defective" in said
    assert "fdr=0.01 takes 99 held-out images at least; there are 4" in said


def test_page_0_makes_none(command, trained: Path) -> None:
    images(Path("in"), 1)
    outcome = command("predict", f"checkpoint={trained}", "inputs=in", "page=0")
    assert outcome.code == 0, outcome.err
    assert "page" not in outcome.out
    assert not Path("predictions.html").exists()


@pytest.mark.parametrize("value", ["-1", "true", "many", "1.5", "1001"])
def test_a_number_of_pictures_that_is_none_is_refused(command, trained: Path, value: str) -> None:
    images(Path("in"), 1)
    outcome = command("predict", f"checkpoint={trained}", "inputs=in", f"page={value}")
    assert outcome.code == 2
    assert "page=" in outcome.err
    assert not Path("predictions.csv").exists()


def predictions(count: int, seed: int = 0) -> Iterator[Prediction]:
    """Every tenth could not be read; there are equal scores."""
    random = np.random.default_rng(seed)
    for i in range(count):
        score = float(random.integers(0, count // 2))
        if i % 10:
            yield Prediction(i, Path(f"{i}.png"), {"score": score}, score, 0.5, score > count // 4)
        else:
            yield Prediction(i, Path(f"{i}.png"), {}, None, None, None, f"{i}.png: no image")


def tallied(count: int, kept: int, random: Random | None = None) -> Tally:
    tally = Tally(kept)
    tally._random = random or tally._random
    for prediction in predictions(count):
        tally.add(prediction)
    tally.close()
    return tally


def test_a_tally_holds_the_highest_and_some_others_and_counts_all() -> None:
    read = [prediction for prediction in predictions(1000) if prediction.score is not None]
    found = tallied(1000, 30)
    ranked = sorted(read, key=lambda p: (-p.score, p.index))
    assert found.top == ranked[:30]
    assert len(found.others) == OTHERS
    assert {p.index for p in found.others} <= {p.index for p in ranked[30:]}
    assert (found.scored, found.unread, len(found.first_unread)) == (900, 100, UNREAD)
    assert found.anomalous == sum(p.anomalous for p in read)
    few = tallied(20, 30)
    assert few.top == sorted(
        (p for p in predictions(20) if p.score is not None), key=lambda p: (-p.score, p.index)
    )
    assert few.others == []


def test_the_others_of_a_tally_are_drawn_evenly() -> None:
    times = 600
    counted = Counter(p.index for seed in range(times) for p in tallied(50, 5, Random(seed)).others)
    assert len(counted) == 40
    spread = (times * 0.5 * 0.5) ** 0.5  # 20 of 40
    assert all(abs(count - times / 2) < 5 * spread for count in counted.values())


def test_a_tally_takes_the_same_memory_of_any_number_of_images() -> None:
    most = []
    for count in (500, 5_000):
        tracemalloc.start()
        tallied(count, 100)
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert most[1] < 1.2 * most[0]
