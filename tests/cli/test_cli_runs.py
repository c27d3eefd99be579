"""What the commands do and leave behind."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from PIL import Image
from sklearn.metrics import roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from anomaly_gan import checkpoint
from anomaly_gan.build import build_method
from anomaly_gan.cli.installed import config_folder, program
from anomaly_gan.cli.main import COMMANDS
from anomaly_gan.config import build
from anomaly_gan.data.image_set import Batch
from anomaly_gan.inference import Detector
from anomaly_gan.reporting import figures
from anomaly_gan.results import RunResult
from anomaly_gan.runs import draw
from anomaly_gan.training.loop import PhasedTraining


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_config_result_scores_pictures_log_and_detector(trained: Path) -> None:
    left = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    assert left == {
        "config.yaml",
        "detector.ckpt",
        "result.json",
        "report.html",
        "checkpoints/last.ckpt",
        "checkpoints/previous.ckpt",
        "scores.csv",
        "held_out.csv",
        "thresholds.csv",
        "log/metrics.csv",
        "log/hparams.yaml",
        "figures/.drawn_by_anomaly_gan",
        "figures/losses.png",
        "figures/roc.png",
        "figures/explanation.png",
        "figures/scores_by_class.png",
        "figures/thresholds.png",
        "figures/most_anomalous.png",
        "figures/least_anomalous.png",
    }


def test_a_result_has_the_whole_schema(trained: Path, tmp_path: Path) -> None:
    result = json.loads((trained / "result.json").read_text())
    RunResult.read(trained).write(tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert set(result["auroc"]) == {"paper", "csi", "paper_ens", "csi_ens"}
    assert all(0 <= value <= 1 for value in result["auroc"].values())
    for of in ("auroc", "auroc_parts"):
        assert set(result[f"{of}_interval"]) == set(result[of])
        for name, (low, high) in result[f"{of}_interval"].items():
            assert low <= result[of][name] <= high
    assert set(result["auroc_parts"]) == {
        part + form for part in ("contrastive", "shift", "cosine") for form in ("", "_ens")
    }
    assert result["primary"] == "csi_ens"
    assert (result["dataset"], result["normal_class"], result["method"]) == ("digits", "0", "csi")
    assert result["counts"]["test_normal"] + result["counts"]["test_anomalous"] == result["counts"]["test"]
    assert result["curve"][0]["iteration"] == 2
    assert {"paper_ens", "csi_ens", "contrastive_ens"} < result["curve"][0]["auroc"].keys()
    assert {"train", "fit_scorer", "score", "total"} <= result["seconds"].keys()
    assert result["versions"].keys() >= {"anomaly-gan", "torch", "python"}
    assert result["command"].startswith("anomaly-gan train debug=fast")


def test_the_aurocs_are_those_of_the_scores_written(trained: Path) -> None:
    result = json.loads((trained / "result.json").read_text())
    rows = rows_of(trained / "scores.csv")
    anomalous = [int(row["anomalous"]) for row in rows]
    assert anomalous == [int(row["class"] != "0") for row in rows]
    for name, value in (result["auroc"] | result["auroc_parts"]).items():
        assert roc_auc_score(anomalous, [float(row[name]) for row in rows]) == pytest.approx(value, abs=1e-6)
    raw = roc_auc_score(anomalous, [float(row["raw_pixels"]) for row in rows])
    assert raw == pytest.approx(result["auroc_raw_pixels"], abs=1e-6)


def test_the_resolved_config_is_the_one_in_the_result(trained: Path) -> None:
    result = json.loads((trained / "result.json").read_text())
    assert OmegaConf.to_container(OmegaConf.load(trained / "config.yaml")) == result["config"]


def test_the_log_has_every_term_of_every_phase(trained: Path) -> None:
    header = (trained / "log" / "metrics.csv").read_text().splitlines()[0].split(",")
    terms = {"contrastive", "shift_classification", "total"}
    assert {f"train/feature/{term}" for term in terms} <= set(header)
    assert {"curve/csi_ens", "test/auroc_csi_ens"} <= set(header)
    assert b"\r" not in (trained / "log" / "metrics.csv").read_bytes()  # as in every other table


def test_evaluating_a_finished_run_gives_its_scores_again(command, trained: Path, tmp_path: Path) -> None:
    outcome = command("evaluate", f"checkpoint={trained}", "paths.runs=again", "primary=paper")
    assert outcome.code == 0, outcome.err
    (folder,) = (tmp_path / "again" / "evaluate").iterdir()
    again, before = (json.loads((f / "result.json").read_text()) for f in (folder, trained))
    assert again["primary"] == "paper_ens"
    assert again["auroc"] == pytest.approx(before["auroc"], abs=1e-6)
    first, second = rows_of(trained / "scores.csv"), rows_of(folder / "scores.csv")
    assert [row["name"] for row in first] == [row["name"] for row in second]
    assert [float(r["csi"]) for r in first] == pytest.approx([float(r["csi"]) for r in second], abs=1e-4)


def test_prediction_gives_one_row_a_file_and_says_which_it_could_not_read(
    command, trained: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (20 + i, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG not really")
    outcome = command("predict", f"checkpoint={trained}", "inputs=images", "output=found")
    assert outcome.code == 3
    table = rows_of(tmp_path / "found.csv")
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [Path(row["file"]).name for row in table] == ["0.png", "1.png", "2.png", "broken.png"]
    assert [row["file"] for row in lines] == [row["file"] for row in table]
    assert lines[3]["score"] is None
    assert "broken.png" in lines[3]["error"]
    for row, line in zip(table[:3], lines, strict=False):
        assert float(row["score"]) == pytest.approx(line["csi_ens"])
    assert not list(tmp_path.glob("[!if]*"))  # nothing but images and found.*


def test_predicting_the_test_files_gives_their_test_scores(command, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (24, 16, 16), dtype=np.uint8)
    for i, image in enumerate(images):
        split = ["train/good", "train/good", "test/good", "test/dent"][i % 4]
        (tmp_path / "set" / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "set" / split / f"{i:02d}.png")
    trained = command(
        "train", "data=folder", "data.root=set", "data.image_size=16", "debug=fast", "name=mine"
    )
    assert trained.code == 0, trained.err
    (folder,) = (path.parent for path in (tmp_path / "runs" / "mine").glob("*/result.json"))
    assert json.loads((folder / "result.json").read_text())["classes"] == ["good"]  # a dent is never normal
    written = {row["name"]: float(row["csi_ens"]) for row in rows_of(folder / "scores.csv")}
    detector = Detector.load(folder)
    paths = [tmp_path / "set" / name for name in written]
    predictions = list(detector.examine(paths, batch_size=5))
    scores = [prediction.scores[detector.primary] for prediction in predictions]
    assert scores == pytest.approx(list(written.values()), rel=1e-3, abs=1e-3)


def test_the_held_out_images_stand_in_a_table_the_least_normal_first(trained: Path) -> None:
    """Also where there is a test part; their scores are those that the detector's file keeps."""
    rows = rows_of(trained / "held_out.csv")
    kept = checkpoint.read(trained).calibration
    assert kept is not None
    assert list(rows[0])[:3] == ["name", "p_value", "csi_ens"]
    assert set(rows[0]) == {"name", "p_value", *kept.scores}
    for name, scores in kept.scores.items():
        assert sorted(float(row[name]) for row in rows) == pytest.approx(scores.tolist(), abs=1e-3)
    assert [float(row["csi_ens"]) for row in rows] == pytest.approx(
        kept.scores["csi_ens"][::-1].tolist(), abs=1e-3
    )
    assert [float(row["p_value"]) for row in rows] == [0.25, 0.5, 0.75, 1]
    assert len({row["name"] for row in rows}) == 4
    assert all(row["name"].startswith("train/") for row in rows)


def test_a_bad_image_among_the_good_is_found_by_its_name(command, tmp_path: Path) -> None:
    """In the table, in the page, above its picture, and from the command's last lines."""
    names = [f"day 1/a\r{i}.png" if i % 2 else f"day 1/{'long_name_' * 20}{i}.png" for i in range(14)]
    for i, name in enumerate(names):
        path = tmp_path / "good" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 255, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    shown: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            figures,
            "gallery",
            lambda images, captions, *_: (shown.extend(c[0] for c in captions), Figure())[1],
        )
        outcome = command(
            *("train", "data=folder", "data.root=good", "data.image_size=16", "debug=fast", "name=mine"),
            "data.calibration_fraction=0.3",
        )
    assert outcome.code == 0, outcome.err
    (folder,) = Path("runs/mine").iterdir()
    assert f"held out:  {folder / 'held_out.csv'}" in outcome.out
    with (folder / "held_out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    held_out = [row["name"] for row in rows]
    assert len(held_out) == json.loads((folder / "result.json").read_text())["counts"]["calibration"]
    assert set(held_out) < set(names)
    assert shown == held_out + held_out[::-1]
    data = re.search('id="data">(.*?)</script>', (folder / "report.html").read_text(), re.DOTALL)
    assert data is not None
    (run,) = json.loads(data[1])["runs"]
    assert run["held_out"] == [
        ["name", "p_value", "csi_ens"],
        *([row["name"], row["p_value"], row["csi_ens"]] for row in rows),
    ]


@pytest.mark.parametrize(("seconds", "left_out"), [(0.0, True), (1e9, False)])
def test_explanations_left_out_because_they_take_long_are_said_with_the_remedy(
    command, trained: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, left_out: bool
) -> None:
    monkeypatch.setattr(draw, "SECONDS_TO_EXPLAIN", seconds)
    outcome = command("evaluate", f"checkpoint={trained}")
    assert outcome.code == 0, outcome.err
    (folder,) = Path("runs/evaluate").iterdir()
    assert (folder / "figures" / "explanation.png").exists() is not left_out
    notes = [
        note for note in json.loads((folder / "result.json").read_text())["notes"] if "explanations" in note
    ]
    assert len(notes) == left_out
    for note in notes:
        assert f"note: {note}" in outcome.out
        assert re.fullmatch(
            r"explanations left out: 8 would take about (\d+) s; `predict explain=10` explains the 10 most "
            r"anomalous of the images that it is given, in about (\d+) s",
            note,
        )


def test_normal_images_alone_train_a_detector_without_auroc(command, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for i in range(14):
        pixels = np.random.default_rng(i).integers(0, 255, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "good" / f"{i}.png")
    outcome = command(
        "train", "data=folder", "data.root=good", "data.image_size=16", "debug=fast", "name=mine"
    )
    assert outcome.code == 0, outcome.err
    (folder,) = (path.parent for path in (tmp_path / "runs" / "mine").glob("*/result.json"))
    result = json.loads((folder / "result.json").read_text())
    assert result["auroc"] == dict.fromkeys(["paper", "csi", "paper_ens", "csi_ens"])
    assert result["auroc_interval"] == result["auroc"]
    assert result["auroc_absent_because"] == "there is no test set"
    assert (folder / "detector.ckpt").exists()
    assert "absent" in outcome.out
    # Its pictures and page are of the held-out images, where a bad one among the good would show.
    figures = {path.name for path in (folder / "figures").glob("*.png")}
    assert {"most_anomalous.png", "least_anomalous.png", "scores_by_class.png"} <= figures
    assert "roc.png" not in figures
    page = (folder / "report.html").read_text()
    assert "<h1>A picture looks defective where its score is above" in page
    assert "no AUROC, there is no test set" not in page
    assert f"page:      {folder.relative_to(tmp_path) / 'report.html'}" in outcome.out
    # The side by rule would be 32; the detector's holds.
    again = command("evaluate", f"checkpoint={folder}", "data=folder", "data.root=good", "paths.runs=again")
    assert again.code == 0, again.err


def test_new_data_with_fewer_normal_images_are_explained_by_those_that_were_learned_from(
    command, tmp_path: Path
) -> None:
    for root, count in (("old", 30), ("new", 3)):
        for part, number in (("train/good", count), ("test/good", 4), ("test/bad", 4)):
            (tmp_path / root / part).mkdir(parents=True)
            for i in range(number):
                pixels = np.random.default_rng([len(part), i]).integers(0, 255, (16, 16), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / root / part / f"{i}.png")
    data = ("data=folder", "data.image_size=16")
    outcome = command("train", "method=raw_pixels", *data, "data.root=old", "name=mine")
    assert outcome.code == 0, outcome.err
    (folder,) = (path.parent for path in (tmp_path / "runs" / "mine").glob("*/result.json"))
    outcome = command("evaluate", f"checkpoint={folder}", *data, "data.root=new", "paths.runs=again")
    assert outcome.code == 0, outcome.err
    (again,) = (path.parent for path in (tmp_path / "again" / "evaluate").glob("*/result.json"))
    assert (again / "figures" / "explanation.png").exists()


@pytest.mark.slow
def test_a_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(
    command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = (
        "train",
        "debug=fast",
        "schedule.total_images=40",
        "callbacks.checkpoint.every_minutes=0.0001",
    )
    settings += ("optimizer=csi_sgd",)  # its learning rate moves, and its momentum must travel
    settings += ("optimizer.learning_rate=0.001", "ablation=full", "method.generator_average=0.9")
    assert command(*settings, "name=whole").code == 0
    step = PhasedTraining.training_step

    def killed(self: PhasedTraining, batch: Batch, batch_idx: int) -> None:
        if self.iteration == 3:
            raise RuntimeError("killed")
        step(self, batch, batch_idx)

    monkeypatch.setattr(PhasedTraining, "training_step", killed)
    with pytest.raises(RuntimeError, match="killed"):
        command(*settings, "name=half")
    monkeypatch.setattr(PhasedTraining, "training_step", step)
    (half,) = (tmp_path / "runs" / "half").iterdir()
    assert not (half / "result.json").exists()
    outcome = command(*settings, "name=rest", f"resume={half / 'checkpoints' / 'last.ckpt'}")
    assert outcome.code == 0, outcome.err
    states = []
    for name in ("whole", "rest"):
        (folder,) = (tmp_path / "runs" / name).iterdir()
        state = torch.load(folder / "detector.ckpt", weights_only=True)
        states.append(state["state_dict"])
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["tensorboard", "wandb"])
def test_dashboards_get_the_numbers_without_a_network(
    command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, logger: str
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    outcome = command("train", "debug=fast", "ablation=full", f"logger={logger}", "name=mine")
    assert outcome.code == 0, outcome.err
    (folder,) = (path.parent for path in (tmp_path / "runs" / "mine").glob("*/result.json"))
    patterns = {
        "tensorboard": "tensorboard/events.out.tfevents.*",
        "wandb": "../wandb/offline-run-*/run-*.wandb",
    }
    if logger == "tensorboard":
        events = EventAccumulator(str(folder / "tensorboard"))
        events.Reload()
        pictures = events.Tags()["images"]
        assert len(events.Images("pictures/synthetic")) == 2  # on the way and at the end
    else:
        pictures = [
            f"pictures/{path.stem.rsplit('_', 2)[0]}"
            for path in folder.parent.glob("wandb/offline-run-*/files/media/images/pictures/*.png")
        ]
    assert {"pictures/synthetic", "pictures/reconstructions", "pictures/losses"} <= set(pictures)
    written = list(folder.glob(patterns[logger]))
    assert written
    assert all(file.stat().st_size > 0 for file in written)
    assert (folder / "log" / "metrics.csv").exists()


@pytest.mark.parametrize(
    "experiment", sorted(p.stem for p in (config_folder() / "experiment").glob("*.yaml"))
)
def test_every_experiment_composes_with_objects_that_can_be_built(command, experiment: str) -> None:
    outcome = command("train", f"experiment={experiment}", "width=16", "--cfg", "job", "--resolve")
    assert outcome.code == 0, outcome.err
    config = OmegaConf.to_container(OmegaConf.create(outcome.out))
    header = (config_folder() / "experiment" / f"{experiment}.yaml").read_text()
    assert f"anomaly-gan train experiment={experiment}" in header  # a header says the command
    description = {"image_size": 32, "channels": 3, "iterations": 1}
    scorer = build_method(config, description).scorer
    assert scorer.primary.startswith({"mvtec": "patchcore", "visa": "patchcore"}.get(experiment, "csi"))
    build(config["callbacks"], "callbacks", ("callbacks",))


@pytest.mark.slow
@pytest.mark.parametrize(
    "choice",
    [
        "optimizer=adam",
        "optimizer=csi_lars",
        "optimizer=csi_sgd",
        "trainer=cpu",
        "score=paper",
        "ablation=csi_g",
        "method=csi_g",
    ],
)
def test_every_choice_of_a_group_runs(command, choice: str) -> None:
    outcome = command("train", "debug=fast", choice)
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("name", list(COMMANDS))
def test_help_shows_settings_and_examples(command, name: str) -> None:
    outcome = command(name, "--help")
    assert outcome.code == 0
    assert f"anomaly-gan {name}" in outcome.out
    assert "Examples" in outcome.out


def test_the_commands_and_the_version_are_told(command) -> None:
    assert all(name in command().out for name in COMMANDS)
    assert command("--version").out.strip().count(".") == 2


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("anomaly-gan tr", "train"),
        ("anomaly-gan train data=fa", "data=fashion_mnist"),
        ("anomaly-gan train schedule.tot", "schedule.total_images="),
        ("anomaly-gan predict chec", "checkpoint="),
    ],
)
def test_overrides_complete_on_tab(
    command, monkeypatch: pytest.MonkeyPatch, line: str, expected: str
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert expected in command("-sc", "query=bash").out.split()


def test_what_to_do_next_can_be_typed_where_no_environment_is_active(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scripts = tmp_path / ".venv" / "bin"
    scripts.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    monkeypatch.setenv("PATH", "")
    assert program() == ".venv/bin/python -m anomaly_gan"
    (scripts / "anomaly-gan").touch(mode=0o755)
    assert program() == ".venv/bin/anomaly-gan"
    monkeypatch.setenv("PATH", str(scripts))
    assert program() == "anomaly-gan"


def test_help_answers_without_importing_torch() -> None:
    probe = (
        "import sys\n"
        "from anomaly_gan.cli.main import main\n"
        "sys.argv = ['anomaly-gan', 'train', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True)
