"""The notebooks of docs/notebooks run, as a reader would run them, from an empty folder."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def test_there_are_two_which_show_what_they_print_and_draw() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["own_folder", "quickstart"]
    for path in NOTEBOOKS:
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        kinds = [kind for cell in cells for output in cell.outputs for kind in output.get("data", {})]
        assert "image/png" in kinds
        assert str(Path.home()) not in path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = tmp_path / "bin"  # the command of this checkout, whichever is installed
    scripts.mkdir()
    command = scripts / "anomaly-gan"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m anomaly_gan "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scripts}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = tmp_path / "reader"
    folder.mkdir()
    book = nbformat.read(path, as_version=4)
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    said = "".join(output.get("text", "") for cell in book.cells for output in cell.get("outputs", []))
    assert "anomalous" in said
    assert len(list(folder.glob("runs/*/*/report.html"))) == 1
