"""anomaly-gan watch: every picture that arrives has one row, whatever ends the program."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomaly_gan import Detector, UserError
from anomaly_gan.cli.watch import alarm, kind_of, watch
from anomaly_gan.drift import DriftTest
from anomaly_gan.watching.arrivals import Arrivals
from anomaly_gan.watching.stream import Stream

QUICK = ("interval=0.05", "patience=0.2")


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16), dtype=np.uint8)
    partial = path.with_name(f".{path.name}")
    Image.fromarray(pixels).save(partial, "PNG")
    partial.rename(path)
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_picture_has_one_row_and_the_same_command_goes_on(
    command, trained: Path, tmp_path: Path
) -> None:
    for i in range(5):
        picture(tmp_path / "camera" / f"{i}.png", i)
    (tmp_path / "camera" / "broken.png").write_bytes(b"no picture")
    words = ("watch", f"checkpoint={trained}", "inputs=camera", "once=true", *QUICK)
    first = command(*words)
    assert first.code == 3
    assert "broken.png: not a readable image" in first.err
    found = rows(tmp_path / "watched.jsonl")
    assert Counter(row["file"] for row in found) == Counter([*(f"{i}.png" for i in range(5)), "broken.png"])
    again = command(*words)
    assert again.code == 0
    assert "6 rows from before" in again.out
    assert rows(tmp_path / "watched.jsonl") == found
    picture(tmp_path / "camera" / "in" / "new.png", 7)
    picture(tmp_path / "camera" / "0.png", 8)  # written anew
    assert command(*words).code == 0
    assert [row["file"] for row in rows(tmp_path / "watched.jsonl")[6:]] == ["in/new.png", "0.png"]


def test_what_is_left_out_is_said_once(command, trained: Path, tmp_path: Path) -> None:
    picture(tmp_path / "camera" / "a.png")
    (tmp_path / "camera" / "b.heic").touch()
    outcome = command("watch", f"checkpoint={trained}", "inputs=camera", "once=true", *QUICK)
    assert outcome.code == 0
    assert outcome.err.count("left out: 1 .heic") == 1


def test_a_watch_that_looks_once_does_not_wait_for_a_folder_that_is_away(
    trained: Path, tmp_path: Path
) -> None:
    stream = Stream(Detector.load(trained), 0.01)
    with pytest.raises(UserError, match="cannot be read"):
        watch(stream, Arrivals(tmp_path / "away", 1.0), 0.01, {"once": True, "batch_size": 8})


def test_what_is_said_of_a_picture_is_what_predict_says(command, trained: Path, tmp_path: Path) -> None:
    paths = [picture(tmp_path / "camera" / f"{i}.png", i) for i in range(3)]
    assert command("watch", f"checkpoint={trained}", "inputs=camera", "once=true", *QUICK).code == 0
    detector = Detector.load(trained)
    for row, prediction in zip(rows(tmp_path / "watched.jsonl"), detector.examine(paths), strict=True):
        assert (row["score"], row["p_value"]) == (prediction.score, prediction.p_value)
        assert row["decision"] == ("anomalous" if prediction.anomalous else "normal")
        assert (row["size"], row["modified"]) == (
            (status := prediction.path.stat()).st_size,  # type: ignore[union-attr]
            status.st_mtime_ns,
        )


def test_an_alarm_is_said_and_a_command_is_told(command, trained: Path, tmp_path: Path) -> None:
    for i in range(
        60
    ):  # black, where the detector has learned digits; all the same, which no stream of digits is
        path = picture(tmp_path / "camera" / f"{i}.png", i)
        Image.fromarray(np.full((16, 16), 0, dtype=np.uint8)).save(path)
    words = ("watch", f"checkpoint={trained}", "inputs=camera", "once=true", "alpha=0.2", *QUICK)
    hook = 'on_alarm=echo "$ANOMALY_GAN_ALARM" >> told; exit 3'
    for times in (1, 2):  # also when the program is started again, for it may have been killed before
        outcome = command(*words, hook)
        assert outcome.code == 0
        assert "alarm: the images no longer look like those before" in outcome.err
        assert "on_alarm: exit code 3" in outcome.err
        assert (tmp_path / "told").read_text().count("alarm: ") == times
    assert sum(row["alarm"] for row in rows(tmp_path / "watched.jsonl")) == 1
    assert "alarm" not in command(*words, "restart=true").err


def test_each_folder_that_cannot_be_read_is_told_and_no_number_twice() -> None:
    unread = "left out: cam{}: this folder cannot be read (Permission denied)"
    assert kind_of(unread.format(1)) != kind_of(unread.format(2))
    assert kind_of("left out: 1 .heic, 12 .gif: convert") == kind_of("left out: 3 .heic, 13 .gif: convert")


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_has_started(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("anomaly_gan.cli.watch.HOOK_SECONDS", 0.5)
    marker = tmp_path / "alive"
    alarm(Stream(Detector.load(trained), 0.01), f"(sleep 3; touch {marker}) & wait")
    assert "on_alarm: ended after 0.5 seconds" in capsys.readouterr().err
    time.sleep(4)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("inputs=nowhere", "no such folder"),
        ("inputs=file.png", "no such folder"),
        ("alpha=2", "above 0 and below 1"),
        ("interval=0", "more than 0"),
        ("patience=a", "more than 0"),
        ("batch_size=0", "at least 1"),
        ("output=nowhere/rows", "cannot be written"),
        ("output=/", "a folder"),
        ("output=null", "give a name"),
        ("restart=no", "write true or false"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_line(
    command, trained: Path, tmp_path: Path, argument: str, said: str
) -> None:
    picture(tmp_path / "file.png")
    (tmp_path / "camera").mkdir()
    outcome = command("watch", f"checkpoint={trained}", "inputs=camera", "once=true", argument)
    assert outcome.code == 2
    assert said in outcome.err
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.slow
def test_killed_at_any_moment_it_loses_and_repeats_no_row(trained: Path, tmp_path: Path) -> None:
    """Pictures come in bursts, some in pieces, some are deleted, while the program is killed again."""
    camera, drawn = tmp_path / "camera", random.Random(0)
    camera.mkdir()
    command = [sys.executable, "-m", "anomaly_gan", "watch", f"checkpoint={trained}", "inputs=camera"]
    command += ["batch_size=3", *QUICK, "patience=60"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    stay, gone, made = set(), set(), 0
    for _ in range(6):
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        ) as watch:
            assert watch.stdout is not None
            assert watch.stdout.readline().startswith("watching")
            for _ in range(20):
                name = f"{made}.png"
                path = picture(camera / name, made)
                if made % 7 == 3:  # a copy that takes its time
                    whole = path.read_bytes()
                    path.write_bytes(whole[: len(whole) // 2])
                    time.sleep(0.1)
                    with path.open("ab") as file:
                        file.write(whole[len(whole) // 2 :])
                if made % 11 == 5:
                    path.unlink()
                    gone.add(name)
                else:
                    stay.add(name)
                made += 1
            time.sleep(drawn.random())
            watch.kill()
    last = subprocess.run(
        [*command, "once=true"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert last.returncode == 0, last.stderr
    found = rows(tmp_path / "watched.jsonl")
    names = Counter(row["file"] for row in found if row["file"] not in gone)
    assert names == Counter(stay)
    assert all(row["error"] is None for row in found)
    threshold = Detector.load(trained).threshold
    assert threshold is not None
    test = DriftTest(threshold.held_out, 0.01)
    for row in found:  # as if it had never been killed
        assert test.add(row["score"]) == row["rank"]
        assert round(test.log10_martingale, 6) == row["log10_martingale"]
