"""A detector is found by name where the user said that detectors are, and nowhere else."""

import os
import shutil
from pathlib import Path

import pytest
from documentation import ROOT, blocks

from anomaly_gan import Detector
from anomaly_gan.errors import UserError
from anomaly_gan.released import FOLDERS

RECORDED = Path(__file__).with_name("recorded") / "before" / "detector.ckpt"


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "shelf"
    folder.mkdir()
    shutil.copy(RECORDED, folder / "digits-4.ckpt")
    return folder


def test_a_name_is_the_file_in_the_first_folder_that_has_it(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDERS, os.pathsep.join(["", str(tmp_path / "nowhere"), str(shelf)]))
    named, by_path = Detector.load("digits-4"), Detector.load(shelf / "digits-4.ckpt")
    assert named.score_names == by_path.score_names
    (shelf / "digits-4.ckpt").write_text("no detector")
    with pytest.raises(UserError, match="damaged, or not a checkpoint"):
        Detector.load("digits-4")


def test_the_example_of_the_documentation_runs(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDERS, str(shelf))
    (block,) = blocks(ROOT / "docs" / "detectors.md", "python")
    found: dict[str, object] = {}
    exec(block, found)
    assert isinstance(found["detector"], Detector)


def test_what_lies_in_the_current_folder_comes_before_any_name(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDERS, str(shelf))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits-4").mkdir()
    with pytest.raises(UserError, match=r"checkpoint=digits-4/detector.ckpt: no such file"):
        Detector.load("digits-4")


def test_an_unknown_name_says_where_it_was_sought(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDERS, raising=False)
    with pytest.raises(UserError, match="nor is there a detector of this name by ANOMALY_GAN_DETECTORS, for"):
        Detector.load("digits-4")
    monkeypatch.setenv(FOLDERS, str(shelf))
    with pytest.raises(UserError, match=f"by ANOMALY_GAN_DETECTORS, in {shelf}$"):
        Detector.load("digits-5")
    with pytest.raises(UserError, match=r"give a run's folder or its detector.ckpt$"):
        Detector.load("../digits-4")
