"""The examples of docs/own_images.md run as they are written."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PAGE = Path(__file__).parents[1] / "docs" / "own_images.md"


def test_the_examples_of_the_page_run(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "runs" / "my_run")
    (tmp_path / "new" / "images").mkdir(parents=True)
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "new" / "images" / f"{i}.png")
    (tmp_path / "new" / "images" / "broken.png").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) == 5
    names: dict = {}
    for example in examples:
        exec(example, names)
    assert "broken.png" in capsys.readouterr().out
    assert names["why"].heat.shape == (16, 16)
