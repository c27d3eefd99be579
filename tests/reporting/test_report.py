"""The files of a report: whole, escaped, of bounded size, and needing no network."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_runs import MakeRun

from anomaly_gan.reporting.collect import collect
from anomaly_gan.reporting.contents import contents
from anomaly_gan.reporting.pictures import embed, shrink
from anomaly_gan.reporting.plain import tex
from anomaly_gan.reporting.report import write

HOSTILE = '<script>alert("x")</script>\n|&_%#'


def report(tmp_path: Path, score: str | None = None) -> dict[str, str]:
    """The texts of a report on all below `tmp_path`, by the ending of their files."""
    paths = write(contents(collect([tmp_path]), score, tmp_path / "out"))
    return {path.suffix[1:]: path.read_text() for path in paths}


def embedded(page: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_hostile_names_stay_text(run: MakeRun, tmp_path: Path) -> None:
    run("a", normal_class=HOSTILE, dataset=HOSTILE, notes=[HOSTILE], command=HOSTILE, lift=1)
    run("b", normal_class=HOSTILE, dataset=HOSTILE, method=HOSTILE, lift=2, config={HOSTILE: HOSTILE})
    page = report(tmp_path)["html"]
    assert "<script>alert" not in page
    # The script, the data and nothing else.
    assert len(re.findall("<script", page)) == len(re.findall("</script>", page)) == 2
    assert "&lt;wbr" not in page
    assert embedded(page)["runs"][0]["notes"] == [HOSTILE]


def test_the_page_needs_no_network(run: MakeRun, tmp_path: Path) -> None:
    run("a", lift=1, figures=["synthetic"])
    page = report(tmp_path)["html"]
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["']?\s*(?:https?:|//)""", page)
    assert not re.findall(r"@import|url\(", page)
    assert set(re.findall(r"https?://[^\s\"'<)]*", page)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page


def test_a_run_carries_its_curves_pictures_and_configuration(run: MakeRun, tmp_path: Path) -> None:
    run("a", lift=1, figures=["roc", "synthetic"])
    run("b", seed=1, lift=1)
    page = report(tmp_path)["html"]
    data = embedded(page)
    first = data["runs"][0]
    assert first["pictures"] == [[0, "synthetic"]]  # the page draws the ROC curve itself
    assert 'id="picture-0"' in page
    assert len(first["roc"]) > 10
    assert first["curve"][0]["auroc"] == {"csi": 0.6}
    config = data["common"][first["config"]["common"]] | first["config"]["own"]
    assert config["width"] == "16"
    assert config["paths.runs"].endswith("/a")


def test_markdown_and_latex_hold_the_tables(run: MakeRun, tmp_path: Path) -> None:
    run("a", 0.8765, normal_class="soft_ball", classes=["soft_ball", "doll"], lift=1)
    run("b", 0.9, normal_class="soft_ball", classes=["soft_ball", "doll"], method="csi_g", lift=2)
    texts = report(tmp_path)
    assert "| csi | 87.6 (1) | — | 87.6 (1 of 2 classes) |" in texts["md"]
    assert "| csi\\_g | **90.0 (1)** |" in texts["md"]
    assert "Missing: csi: doll" in texts["md"]
    assert re.search(r"\| csi\\_g − csi \| [+−]\d+\.\d\d \(", texts["md"])
    assert r"csi\_g & \textbf{90.0 (1)} & --- &" in texts["tex"]
    assert r"\toprule" in texts["tex"]
    assert re.search(r"csi\\_g \$-\$ csi & \+", texts["tex"])
    # No special character is left bare, but where the tables need it.
    assert not re.search(r"(?<!\\)[_#]", texts["tex"])
    rows = [line for line in texts["tex"].splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in rows} == {2, 3}


def test_latex_escapes_what_it_would_read() -> None:
    assert tex("a_b\n%&#${}~^\\") == (r"a\_b \%\&\#\$\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}")


def test_the_csv_has_a_row_a_run(run: MakeRun, tmp_path: Path) -> None:
    generator = {"generated": {"kid": 0.1, "frechet_x": 2.5}, "floor": None}
    run("a", 0.9, generator=generator)
    run("b", None, seed=1, config={"width": 64})
    rows = list(csv.DictReader(report(tmp_path)["csv"].splitlines()))
    assert [row["auroc"] for row in rows] == ["0.9", ""]
    assert rows[0] | {"path": ""} == {
        "dataset": "toys", "class": "ball", "method": "csi", "variant": "width=16",
        "seed": "0", "score": "csi", "auroc": "0.9", "low": "0.89", "high": "0.91", "seconds": "30",
        "frechet": "2.5", "path": "",
    }  # fmt: skip
    assert rows[1]["variant"] == "width=64"
    assert (tmp_path / "out" / rows[0]["path"]).resolve() == tmp_path / "runs" / "a" / "result.json"


def test_three_hundred_runs_make_a_page_below_fifteen_megabytes(run: MakeRun, tmp_path: Path) -> None:
    classes = [f"class_{i}" for i in range(10)]
    for method in ("csi", "csi_g", "full"):
        for seed in range(10):
            for name in classes:
                toy = {"normal_class": name, "method": method, "seed": seed, "classes": classes}
                pictures = ["synthetic", "most_anomalous"]
                run(f"{method}_{name}_{seed}", lift=1, figures=pictures, **toy)
    page = report(tmp_path)["html"]
    assert len(page.encode()) < 15_000_000
    assert page.count('class="run"') == 300
    assert page.count('id="picture-') == 60  # of the first seeds
    assert "Pictures are shown for the first seed" in page


def test_pictures_keep_to_their_budget(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (900, 1400, 3), np.uint8))
    assert len(shrink(noise, 20_000)) <= 20_000
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    noise.save(paths[0])
    noise.save(paths[1])
    paths[2].write_text("no picture")
    found = embed(paths, 90_000)
    assert found[2] is None
    assert all(0 < len(text or "") <= 30_000 for text in found[:2])


@pytest.mark.parametrize("score", ["paper", "shift"])
def test_a_report_on_another_score_says_so(run: MakeRun, tmp_path: Path, score: str) -> None:
    run("a", lift=1)
    texts = report(tmp_path, score)
    assert f"Score: {score}." in texts["md"]
    assert f",{score},0." in texts["csv"]


def test_a_hostile_name_stays_in_its_cell_of_markdown(run: MakeRun, tmp_path: Path) -> None:
    run("a", normal_class=HOSTILE, classes=[HOSTILE, "doll"])
    (header,) = (line for line in report(tmp_path)["md"].splitlines() if line.endswith("| doll | mean |"))
    assert len(re.findall(r"(?<!\\)\|", header)) == 5
