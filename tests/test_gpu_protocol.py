"""The protocol of a stay on a GPU machine, as far as it needs none."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from anomaly_gan.results import RunResult

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def protocol(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_protocol

    return gpu_protocol


@pytest.mark.slow
def test_it_trains_and_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    digits = load_digits()
    for split, rows in (("train", range(60)), ("test", range(60, 120))):
        for row in rows:
            folder = tmp_path / "data" / "cifar10-jpeg" / split / f"digit_{digits.target[row] % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = torch.from_numpy(digits.images[row] * 15).to(torch.uint8).numpy()
            Image.fromarray(pixels).resize((32, 32)).save(folder / f"{row}.png")
    tiny = "ablation=csi batch_size=8 width=8 scoring.ensemble=0 schedule.total_images=16"
    classes = [f"data=cifar10_jpeg normal_class={name}" for name in ("digit_0", "digit_1")]
    groups = [
        {"name": "tiny", "settings": tiny, "of": classes},
        {"name": "other", "settings": "", "of": classes},
    ]
    (tmp_path / "trainings.yaml").write_text(json.dumps({"groups": groups}))
    command = [
        sys.executable, str(BENCHMARKS / "gpu_protocol.py"), "--minutes", "5",
        "--only", "trainings", "--trainings", str(tmp_path / "trainings.yaml"), "--groups", "tiny",
        "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"),
        "--workers", "2", "--override", "seed=3",
    ]  # fmt: skip
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # two threads in bf16 suffer from any neighbour
    done = subprocess.run(command, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "out").iterdir()
    found = json.loads(path.read_text())
    assert set(found["runs"]) == {f"tiny, cifar10_jpeg, {name}" for name in ("digit_0", "digit_1")}
    for run in found["runs"].values():
        assert 0 <= run["auroc"]["csi"] <= 1, run
        assert (run["iterations"], run["seed"]) == (2, 3)
        assert "width=8" in run["settings"]
    assert str(tmp_path) not in path.read_text()
    again = subprocess.run(command, env=alone, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert json.loads(path.read_text())["runs"] == found["runs"]


def test_a_part_that_fails_is_noted_and_one_that_is_cut_short_is_done_again(
    protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stay = protocol.Stay.open(tmp_path, minutes=10, width=8)
    stay.part("bad", [sys.executable, "-c", "print('its last words'); raise SystemExit(1)"])
    stay.part("good", [sys.executable, "-c", "print('noise'); print('{\"seconds\": 1}')"])
    stay.part("dumb", [sys.executable, "-c", "print('no JSON')"])
    with monkeypatch.context() as patch:

        def run_to_the_end(*_: object) -> tuple[None, str]:
            stay.deadline = time.monotonic()
            return None, ""

        patch.setattr(protocol, "run", run_to_the_end)
        for name in ("long", "longer", "longer"):
            stay.deadline = time.monotonic() + 600
            stay.part(name, ["whatever"])
    stay.deadline = time.monotonic() + 600
    monkeypatch.setitem(protocol.LIMIT, "slow", 1)
    stay.part("slow", [sys.executable, "-c", "import time; time.sleep(60)"])
    assert "long" not in stay.found["parts"]
    stay.part("long", [sys.executable, "-c", "print('{}')"])
    with pytest.raises(SystemExit, match="is of width 8: give another --out for --width 64"):
        protocol.Stay.open(tmp_path, minutes=10, width=64)
    parts = protocol.Stay.open(tmp_path, minutes=10, width=8).found["parts"]
    assert all("git" in part for part in parts.values())
    assert parts["bad"]["failed"][0] == "its last words"
    assert parts["dumb"]["failed"][0] == "no JSON"
    assert parts["longer"]["failed"] == ["cut short twice"]
    assert parts["slow"]["failed"] == ["over 1 s"]
    assert parts["good"]["seconds"] == 1
    assert parts["long"].keys() == {"git"}
    stay.deadline = time.monotonic()  # the minutes are over
    stay.part("late", [sys.executable, "-c", "print('{}')"])
    assert "late" not in stay.found["parts"]


def test_a_command_past_its_time_is_ended_with_all_that_it_started(protocol, tmp_path: Path) -> None:
    write_pid = f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))"
    child = f"import os, pathlib, time; {write_pid}; time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    code, _ = protocol.run([sys.executable, "-c", parent], timeout=3)
    assert code is None
    pid = int((tmp_path / "pid").read_text())
    time.sleep(0.5)
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


@pytest.mark.parametrize(
    ("parts", "right"),
    [
        ({"check captured": {"passed": True}}, True),
        ({"check captured": {"passed": False}}, False),
        ({"check captured": {"failed": ["out of memory"]}}, False),
        ({}, False),
    ],
)
def test_trainings_replay_graphs_where_these_passed_their_check(protocol, parts: dict, right: bool) -> None:
    assert protocol.graphs_are_right(parts) == right


def test_what_was_brought_back_can_be_reported_on_as_runs(protocol, tmp_path: Path) -> None:
    import gpu_page

    runs = {}
    for name in ("ship", "truck"):
        settings = ["width=16", "batch_size=32", "budget=minutes", "schedule.total_images=64", "seed=2"]
        settings += ["data=cifar10_jpeg", f"normal_class={name}"]
        of_run = {key: None for key in RunResult.__dataclass_fields__ if key not in gpu_page.NOT_MEASURED}
        of_run |= {"dataset": "cifar10-jpeg", "normal_class": name, "method": "csi", "seed": 2, "curve": []}
        of_run |= {"primary": "csi", "auroc": {"csi": 0.5}, "auroc_interval": {"csi": [0.4, 0.6]}}
        of_run |= {"counts": {"train": 5}, "iterations": 2, "auroc_parts": {}, "auroc_parts_interval": {}}
        of_run |= {"seconds": {}, "images_per_second": {}, "classes": ["ship", "truck"], "notes": []}
        runs[f"some, cifar10_jpeg, {name}"] = of_run | {"settings": settings, "git": "abc"}
    runs["some, cifar10_jpeg, horse"] = {"failed": ["out of memory"], "git": "abc"}
    found = {"runs": runs, "versions": {"torch": "2"}, "machine": "a GPU"}
    made = gpu_page.results(found, "some")
    assert [result.normal_class for result in made.values()] == ["ship", "truck"]
    ship = made["some, cifar10_jpeg, ship"]
    assert (ship.config["width"], ship.config["data"]["calibration_fraction"]) == (16, 0)
    assert ship.command.startswith("anomaly-gan train width=16 batch_size=32 budget=minutes")
    assert (ship.machine, ship.versions) == ("a GPU", {"torch": "2", "git": "abc"})
    ship.write(tmp_path)
    assert RunResult.read(tmp_path) == ship
    with pytest.raises(SystemExit, match="no run of 'so' is in the file"):
        gpu_page.results(found, "so")


def test_every_training_of_the_list_is_a_configuration(protocol, tmp_path: Path) -> None:
    from common import compose_config

    groups: dict[str, list[str]] = {}
    every = list(protocol.trainings(BENCHMARKS / "gpu_trainings.yaml", []))
    for name, settings in every:
        groups.setdefault(name.rsplit(", ", 2)[0], settings)
    for name, settings in groups.items():
        config = compose_config(settings)
        assert config["schedule"]["total_images"] % config["batch_size"] == 0, name
    assert len({name for name, _ in every}) == len(every)
