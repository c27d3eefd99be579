"""What has arrived in a folder, and rows that stay: each picture once."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomaly_gan import Detector, UserError
from anomaly_gan.data.scan import scan
from anomaly_gan.watching.arrivals import Arrivals
from anomaly_gan.watching.journal import Journal
from anomaly_gan.watching.stream import Stream


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16), dtype=np.uint8)).save(path, "PNG")
    return path


def names(arrivals: Arrivals) -> list[str]:
    return [arrival.name for arrival in arrivals.look()]


def test_a_file_has_arrived_when_it_is_the_same_in_two_looks(tmp_path: Path) -> None:
    arrivals = Arrivals(tmp_path, 10.0)
    path = tmp_path / "a.png"
    path.write_bytes(b"half")
    assert names(arrivals) == []
    path.write_bytes(b"half and more")
    assert names(arrivals) == []
    assert arrivals.waiting
    assert names(arrivals) == ["a.png"]
    assert names(arrivals) == ["a.png"]  # until it is dealt with
    (arrival,) = arrivals.look()
    arrivals.finish(arrival)
    assert names(arrivals) == []
    assert not arrivals.waiting


def test_a_file_that_is_written_anew_arrives_again_and_one_that_is_renamed_too(tmp_path: Path) -> None:
    arrivals = Arrivals(tmp_path, 10.0)
    path = picture(tmp_path / "latest.png")
    for change in (
        lambda: None,
        lambda: os.utime(path, ns=(1, 1)),
        lambda: os.rename(path, tmp_path / "b.png"),
    ):
        change()
        assert names(arrivals) == []
        (arrival,) = arrivals.look()
        arrivals.finish(arrival)
        assert names(arrivals) == []


def test_the_oldest_comes_first_and_hidden_and_other_files_never(tmp_path: Path) -> None:
    arrivals = Arrivals(tmp_path, 10.0)
    for i, name in enumerate(("z.png", "in/y.jpg", "x.tif")):
        os.utime(picture(tmp_path / name), ns=(i, i))
    for name in (".hidden.png", "notes.txt", ".upload/a.png"):
        picture(tmp_path / name)
    arrivals.look()
    assert names(arrivals) == ["z.png", "in/y.jpg", "x.tif"]


def test_what_has_been_read_stands_unless_the_file_has_changed_or_is_no_picture_yet(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"half")
    for patience, stands in ((1000.0, False), (1e-9, True)):
        arrivals = Arrivals(tmp_path, patience)
        arrivals.look()
        (arrival,) = arrivals.look()
        assert arrivals.is_final(arrival, readable=True)
        assert arrivals.is_final(arrival, readable=False) is stands
    picture(path)
    assert not arrivals.is_final(arrival, readable=True)
    path.unlink()
    assert not arrivals.is_final(arrival, readable=True)
    assert names(arrivals) == []
    assert not arrivals.waiting


def test_what_is_left_out_is_said_and_a_folder_that_cannot_be_read_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "lost+found/b.png", "mask/c.png"):
        picture(tmp_path / name)
    (tmp_path / "d.heic").touch()
    scandir = os.scandir

    def refused(path: str) -> Any:
        if os.path.basename(path) == "lost+found":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    arrivals = Arrivals(tmp_path, 10.0)
    arrivals.look()
    assert names(arrivals) == ["a.png"]
    said = "\n".join(arrivals.left_out)
    assert all(
        word in said for word in ("masks: 1 in mask", "1 .heic", "lost+found: this folder cannot be read")
    )
    with pytest.raises(UserError, match=r"lost\+found"):
        scan(tmp_path)


def test_a_shared_disk_that_comes_back_empty_for_a_while_repeats_nothing(tmp_path: Path) -> None:
    folder, away = tmp_path / "camera", tmp_path / "away"
    picture(folder / "a.png")
    arrivals = Arrivals(folder, 10.0)
    arrivals.look()
    arrivals.finish(*arrivals.look())
    folder.rename(away)
    with pytest.raises(UserError):
        arrivals.look()
    folder.mkdir()
    assert names(arrivals) == []
    folder.rmdir()
    away.rename(folder)
    assert names(arrivals) == names(arrivals) == []


ROW = {"file": "ünï\n.png", "modified": 1, "size": 2, "score": 0.1, "p_value": 0.5, "rank": 0.4}
ROW |= {"alarm": False, "test": 1, "detector": "a"}


def test_a_row_that_was_cut_off_anywhere_is_taken_away_and_all_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    journal = Journal(path)
    journal.append([ROW, ROW])
    journal.close()
    two = path.read_bytes()
    assert two.count(b"\n") == 2
    for cut in range(len(two) // 2, len(two)):
        path.write_bytes(two[:cut])
        journal = Journal(path)
        assert [*journal.rows()] == [ROW]
        journal.append([ROW])
        journal.close()
        assert path.read_bytes() == two
    path.write_bytes(two + bytes(4096))  # what a machine that loses its power may leave
    journal = Journal(path)
    assert [*journal.rows()] == [ROW, ROW]
    journal.close()
    assert path.read_bytes() == two


@pytest.mark.parametrize(
    "content",
    [
        "image,label\na,b\n",
        "{}\n",
        "[1]\n",
        '{"file": 1}\n{"file": 2}\n',
        '{"precious": [1, 2]}',
        "words",
        '{"file": "a", "precious": 1}',
    ],
)
def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    journal = Journal(path)
    with pytest.raises(UserError, match="line 1 is no row"):
        list(journal.rows())
    journal.close()
    assert path.read_text() == content


def test_what_a_kill_left_of_the_very_first_row_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    whole = (json.dumps(ROW) + "\n").encode()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        journal = Journal(path)
        assert [*journal.rows()] == []
        journal.close()
        assert path.read_bytes() == b""


def test_rows_have_one_writer_at_a_time(tmp_path: Path) -> None:
    first = Journal(tmp_path / "rows.jsonl")
    with pytest.raises(UserError, match="another process writes it"):
        Journal(tmp_path / "rows.jsonl")
    first.close()
    Journal(tmp_path / "rows.jsonl").close()


def test_where_the_disk_is_full_no_half_row_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "rows.jsonl")
    journal.append([ROW])

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space.*rows\.jsonl"):
        journal.append([ROW, ROW])
    journal.close()
    assert json.loads(journal.path.read_text()) == ROW


@pytest.fixture
def detector(trained: Path) -> Detector:
    return Detector.load(trained)


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, 16, 16, 1), dtype=np.uint8)


def known(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"file": f"{i}.png", "modified": i, "size": 1} for i in range(first, first + count)]


def test_a_stream_that_is_opened_again_goes_on_as_if_it_had_never_ended(detector, tmp_path: Path) -> None:
    found = [*detector.examine(images(30))]
    path, whole = tmp_path / "rows.jsonl", Stream(detector, 0.5)
    expected = whole.add(known(30), found)
    for first in range(0, 30, 7):
        journal = Journal(path)
        stream = Stream(detector, 0.5, journal)
        assert len(stream.done) == first
        stream.add(known(30)[first : first + 7], found[first : first + 7])
        journal.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row | {"at": None} for row in rows] == [row | {"at": None} for row in expected]
    assert stream.state() == whole.state()


def test_an_alarm_stands_until_a_new_test_is_asked_for_or_the_detector_is_another(
    detector, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    assert detector.threshold is not None
    found = [
        replace(prediction, score=100.0 + i, p_value=float(detector.threshold.p_values(np.array([100.0]))[0]))
        for i, prediction in enumerate(detector.examine(images(60)))
    ]

    def opened(detector: Detector, **settings: Any) -> Stream:
        journal = Journal(path)
        stream = Stream(detector, 0.05, journal, **settings)
        journal.close()
        stream.journal = None
        return stream

    assert not opened(detector, restart=True).test.alarmed
    stream = Stream(detector, 0.05, journal := Journal(path))
    rows = stream.add(known(60), found)
    journal.close()
    assert sum(row["alarm"] for row in rows) == 1
    first = next(row["log10_martingale"] for row in rows if row["alarm"])
    assert first >= stream.test.log10_limit
    at = next(i for i, row in enumerate(rows, 1) if row["alarm"])
    assert f"At image {at} of test 1 scores had become higher" in stream.alarm()
    assert opened(detector).test.alarmed
    assert opened(detector).alarm() == stream.alarm()
    again = opened(detector, restart=True)
    assert (again.number, again.test.count, again.test.alarmed, len(again.done)) == (2, 0, False, 60)
    detector.threshold.held_out[0] -= 1e-6
    other = opened(detector)
    assert (other.number, other.test.count, len(other.done)) == (2, 0, 60)


def test_an_alarm_says_which_way_the_scores_went_whatever_the_few_held_out_scores_are(detector) -> None:
    """Ranks are uniform without a change; p-values among few held-out images are not."""
    scores = np.random.default_rng(0).normal(size=300)
    few = replace(detector.threshold, held_out=np.array([-2.0, -1.0]))
    detector = Detector(detector.scorer, detector.form, few)
    (pattern,) = detector.examine(images(1))
    for shift, way in ((-3, "lower"), (3, "higher")):
        stream = Stream(detector, 0.01)
        moved = np.concatenate([scores[:150], scores[150:] + shift])
        stream.add(known(300), [replace(pattern, score=float(score), p_value=0.1) for score in moved])
        assert stream.test.alarmed
        assert f"scores had become {way}" in stream.alarm()


def test_scores_that_are_all_alike_are_no_change(detector) -> None:
    """The held-out ones count as higher for thresholds; for the test they are what the others are."""
    equal = replace(detector.threshold, held_out=np.full(100, 1.0 + 1e-6), raised_by=1e-6)
    (pattern,) = detector.examine(images(1))
    stream = Stream(Detector(detector.scorer, detector.form, equal), 0.01)
    stream.add(known(300), [replace(pattern, score=1.0, p_value=1.0)] * 300)
    assert not stream.test.alarmed


def test_what_the_held_out_scores_are_raised_by_is_in_the_file(detector) -> None:
    held_out, raised_by = detector.threshold.held_out, detector.threshold.raised_by
    assert 0 < raised_by <= 1e-3 * np.ptp(held_out)


def test_a_picture_that_cannot_be_read_has_a_row_and_no_part_in_the_test(detector) -> None:
    stream = Stream(detector, 0.01)
    rows = stream.add(known(2), [*detector.examine([b"", images(1)])])
    assert rows[0]["score"] is rows[0]["rank"] is rows[0]["decision"] is None
    assert "the file is empty" in rows[0]["error"]
    assert stream.test.count == 1


def test_without_held_out_images_there_is_nothing_to_compare_with(detector) -> None:
    with pytest.raises(UserError, match="nothing to compare with"):
        Stream(Detector(detector.scorer, detector.form), 0.01)
