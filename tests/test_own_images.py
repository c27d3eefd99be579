"""The examples of docs/own_images.md and docs/start.md run as they are written."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from documentation import blocks
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def folders(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples find in the current folder."""
    shutil.copytree(trained, tmp_path / "runs" / "my_run")
    for folder, count in (("new/images", 3), ("my/good/images", 20)):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(count):
            pixels = np.random.default_rng(i).integers(0, 255, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
    (tmp_path / "new" / "images" / "broken.png").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)


def run(page: Path) -> dict:
    """Run the blocks of a page one after the other; the names that they leave."""
    names: dict = {}
    for example in blocks(page, "python"):
        exec(example, names)
    return names


@pytest.mark.slow
@pytest.mark.usefixtures("folders")
def test_the_examples_of_one_s_own_images_run(capsys: pytest.CaptureFixture[str]) -> None:
    names = run(DOCS / "own_images.md")
    assert "broken.png" in capsys.readouterr().out
    assert names["why"].heat.shape == (16, 16)
    assert (names["small"].result_.folder / "report.html").exists()
    assert names["result"].dataset == "digits"


@pytest.mark.usefixtures("folders")
def test_the_first_program_has_a_line_for_every_picture(capsys: pytest.CaptureFixture[str]) -> None:
    run(DOCS / "start.md")
    assert len(capsys.readouterr().out.splitlines()) == 4
