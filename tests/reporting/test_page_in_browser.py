"""The page's script, in a browser without a screen."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from browser import assert_readable, dom, measured
from toy_runs import MakeRun

from anomaly_gan.reporting import figures
from anomaly_gan.reporting.collect import collect
from anomaly_gan.reporting.contents import contents
from anomaly_gan.reporting.report import write, write_page
from anomaly_gan.results import RunResult, write_csv


def test_the_script_filters_dims_and_opens_by_the_address(run: MakeRun, tmp_path: Path) -> None:
    hostile = "<b>doll</b>"
    for method in ("csi", "full"):
        for name in ("ball", hostile):
            for seed in (0, 1):
                run(f"{method}{len(name)}{seed}", normal_class=name, method=method, seed=seed, lift=1,
                    classes=["ball", hostile], figures=["synthetic"])  # fmt: skip
    page, *_ = write(contents(collect([tmp_path]), None, tmp_path / "out"))
    found = dom(page, "class=ball&method=full&seed=1&theme=dark&run=3", tmp_path / "profile")
    root = re.search("<html[^>]*>", found)[0]
    assert 'data-ready="yes"' in root
    assert 'data-shown="1"' in root
    assert 'data-theme="dark"' in root
    assert "1 of 8 runs" in found
    assert len(re.findall('<tr class="run"[^>]*hidden', found)) == 7
    # The column of the other class and the row of the other method step back.
    assert re.search(r'<td data-class="&lt;b&gt;doll&lt;/b&gt;" class="[^"]*dim', found)
    assert re.search(r'<tr data-row="csi" data-method="csi" class="dim"', found)
    # Run 3 is open: its curves are drawn, its picture is there, and names are still text.
    assert found.count("<svg") >= 3
    assert 'src="data:image/webp;base64,' in found
    assert "<b>doll" not in found


def test_the_page_of_one_run_shows_it_opened_with_its_decisions(run: MakeRun, tmp_path: Path) -> None:
    tested = {"tested": 225, "rate": 0.00444, "expected_interval": [0, 0.0267]}
    calibration = {
        "score": "csi", "threshold": 1.25, "held_out": 184, "false_positive_rate": 0.01,
        "false_alarms": tested, "found": {"tested": 392, "rate": 0.5},
    }  # fmt: skip
    folder = run("only", lift=1, classes=["ball"], calibration=calibration)
    names = [f"good/<b>{i}</b>\r.png" for i in range(12)]
    held_out = {
        "name": names,
        "p_value": [(i + 1) / 12 for i in range(12)],
        "csi": [-i / 2 for i in range(12)],
    }
    write_csv(folder / "held_out.csv", held_out | {"paper": [5.0] * 12})
    write_page(folder)
    found = dom(folder / "report.html", "", tmp_path / "profile")
    assert re.search("<nav[^>]* hidden", found)
    assert re.search('<section id="runs"[^>]* hidden', found)
    text = re.sub("<script.*?</script>|<[^>]*>", " ", found, flags=re.DOTALL)
    for words in ("1.25", "1 %", "0.444 % (95 % of such tests: 0 % to 2.67 %)", "50 %", "threshold"):
        assert words in text, words
    assert 'data-class="mean"' not in found  # of one class
    assert "A picture looks defective where its score is above 1.25" in text
    assert "0.444 % of 225 good test pictures; 50 % of 392 defective test pictures" in text
    assert "Good ones, held out, with the highest scores: is one of them bad?" in text
    shown = re.findall(r"good/&lt;b&gt;(\d+)&lt;/b&gt;\s*\.png</th><td>([^<]*)</td>", found)
    assert [int(number) for number, _ in shown] == list(range(10))
    assert [value.replace("&nbsp;", " ") for _, value in shown[:2]] == ["score 0", "score -0.5"]


def test_without_a_filter_all_runs_are_shown(run: MakeRun, tmp_path: Path) -> None:
    run("a", lift=1)
    run("b", None, seed=1)
    page, *_ = write(contents(collect([tmp_path]), None, tmp_path / "out"))
    found = dom(page, "", tmp_path / "profile")
    assert 'data-ready="yes"' in found
    assert "2 of 2 runs" in found
    assert "<svg" not in found  # charts are drawn when a run is opened


def test_clicks_sort_a_table_filter_and_open_runs(run: MakeRun, tmp_path: Path) -> None:
    for method, auroc in (("csi", 0.7), ("csi_g", 0.9), ("full", 0.8)):
        run(method, auroc, method=method)
    page, *_ = write(contents(collect([tmp_path]), None, tmp_path / "out"))
    clicks = """
        document.querySelector('.results th[data-class="ball"] .sort').click();
        document.querySelector('.chip[value="full"]').click();
        document.querySelector('tr.run:not([hidden]) .open').click();
        document.documentElement.dataset.address = location.hash;
    """
    page.write_text(page.read_text().replace("</body>", f"<script>{clicks}</script></body>"))
    found = dom(page, "", tmp_path / "profile")
    assert re.search('<th scope="col" data-class="ball" aria-sort="descending"', found)
    rows = re.findall('<tr data-row="([^"]*)"', found)
    assert rows == ["csi_g", "full", "csi", "raw pixels, nearest neighbour"]
    assert 'data-address="#method=full"' in found
    assert 'data-shown="1"' in found
    assert len(re.findall('<button[^>]*aria-expanded="true"', found)) == 1


@pytest.mark.parametrize(("width", "dark"), [(390, True), (390, False), (1280, True)])
def test_on_a_phone_and_in_the_dark_nothing_of_a_run_is_cut_or_light(
    run: MakeRun, tmp_path: Path, width: int, dark: bool
) -> None:
    calibration = {
        "score": "csi", "threshold": 1.25, "held_out": 184, "false_positive_rate": 0.01,
        "false_alarms": {"tested": 225, "rate": 0.00444, "expected_interval": [0, 0.0267]},
        "found": {"tested": 392, "rate": 0.5},
    }  # fmt: skip
    folder = run("only", lift=1, classes=["ball"], calibration=calibration, notes=["long_" * 60])
    write_csv(folder / "held_out.csv", {"name": ["a_folder/" * 20], "p_value": [1.0], "csi": [0.5]})
    losses = [{"iteration": i, "train/encode/total": 1.0 / (i + 1)} for i in range(9)]
    figures.save(figures.losses(losses, "losses"), folder / "figures" / "scores_by_class.png")
    write_page(folder)
    found = measured(folder / "report.html", "", tmp_path, width, dark)
    assert_readable(found, width, dark)


def test_the_page_of_a_run_without_a_test_part_does_not_speak_of_auroc(run: MakeRun, tmp_path: Path) -> None:
    calibration = {
        "score": "hellinger_all", "threshold": 1.25, "held_out": 184, "false_positive_rate": 0.01,
        "false_alarms": None, "found": None,
    }  # fmt: skip
    folder = run("only", None, classes=["ball"], calibration=calibration, curve=[], auroc_raw_pixels=None)
    name = "hellinger_all"
    untested = {"auroc": {name: None}, "auroc_interval": {name: None}, "auroc_parts": {}}
    untested |= {"primary": name, "auroc_absent_because": "there is no test set"}
    replace(RunResult.read(folder), **untested).write(folder)
    write_csv(folder / "held_out.csv", {"name": ["a.png"], "p_value": [1.0], "hellinger_all": [0.5]})
    write_page(folder)
    found = dom(folder / "report.html", "", tmp_path / "profile")
    hidden = '<script.*?</script>|<style.*?</style>|<section id="runs".*?</section>'
    shown = re.sub(hidden, "", found, flags=re.DOTALL)
    text = re.sub("<[^>]*>", " ", shown)
    assert "A picture looks defective where its score is above 1.25" in text
    assert "At most 1 % of good pictures would be called so" in text
    assert "a.png" in text
    assert "AUROC" not in text
    outside = re.sub("<details.*</details>", "", shown, flags=re.DOTALL)
    assert "hellinger" not in outside  # a word of the method's own
    assert "hellinger_all" in shown
