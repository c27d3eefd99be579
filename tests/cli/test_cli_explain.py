"""Explanations from the command line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def test_the_command_draws_the_most_anomalous_images(command, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 255, (20, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "found_explained").mkdir()
    for name in ("09_old.png", "mine.png"):
        (tmp_path / "found_explained" / name).touch()
    outcome = command("predict", f"checkpoint={trained}", "inputs=images", "output=found", "explain=3")
    assert outcome.code == 0, outcome.err
    assert "explained: found_explained" in outcome.out
    ranked = [Path(line.split()[-1]).stem for line in outcome.out.splitlines()[:3]]
    drawn = sorted(path.name for path in Path("found_explained").glob("*.png"))
    assert drawn == [f"{rank:02d}_{stem}.png" for rank, stem in enumerate(ranked, 1)] + ["mine.png"]
    assert all(Path("found_explained", name).stat().st_size > 5000 for name in drawn[:3])


@pytest.mark.parametrize("value", ["-1", "true", "many", "1.5"])
def test_a_number_of_explanations_that_is_none_is_refused(
    command, trained: Path, tmp_path: Path, value
) -> None:
    Image.new("L", (9, 9)).save(tmp_path / "image.png")
    outcome = command("predict", f"checkpoint={trained}", "inputs=image.png", f"explain={value}")
    assert outcome.code == 2
    assert "explain=" in outcome.err
    assert not Path("predictions.csv").exists()
