"""anomaly-gan predict: what it takes for files to score, and what it says of them."""

import csv
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_gan.cli.inputs import listed


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, (16, 16), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def files_in(table: Path) -> list[str]:
    with table.open(newline="", encoding="utf-8") as file:
        return [row["file"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_list_names_a_file_a_line_whatever_wrote_it(tmp_path: Path, start: str, end: str) -> None:
    names = [
        "a.png",
        " with spaces .png",
        "ünï/☃.png",
        "in\rside.png",
        "in\u2028side.png",
        os.fsdecode(b"\xff.png"),
    ]
    for last in ("", end, end + end):
        text = start + (end + end + "  " + end).join(names) + last
        (tmp_path / "list").write_bytes(os.fsencode(text))
        assert list(map(str, listed(tmp_path / "list"))) == names


def test_a_list_takes_the_same_memory_however_many_lines_it_has(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("images/some_name.png\n" * 20_000)
    tracemalloc.start()
    count = sum(1 for _ in listed(tmp_path / "list"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_000
    assert most < 200_000


def test_lists_folders_and_images_are_scored_in_the_order_given(
    command, trained: Path, tmp_path: Path
) -> None:
    for name in ("in/0.png", "in/1.png", "other/2.png", "3.png"):
        image(tmp_path / name)
    Path("some.txt").write_bytes(b"\xef\xbb\xbfother/2.png\r\n\r\nnowhere.png\r\n3.png")
    Path("MORE.TXT").write_text("in/1.png\nin\nsome.txt\n")
    outcome = command(
        "predict", f"checkpoint={trained}", "inputs=[some.txt,in,MORE.TXT,3.png]", "output=found"
    )
    assert files_in(Path("found.csv")) == [
        *("other/2.png", "nowhere.png", "3.png"),
        *("in/0.png", "in/1.png"),
        *("in/1.png", "in", "some.txt"),
        "3.png",
    ]
    assert outcome.code == 3
    assert "6 images scored" in outcome.out
    errors = {
        row["file"]: row["error"] for row in map(json.loads, Path("found.jsonl").read_text().splitlines())
    }
    assert "no such file" in errors["nowhere.png"]
    assert "no regular file" in errors["in"]  # its images may be in the list as well
    assert "neither JPEG" in errors["some.txt"]
    assert errors["3.png"] is None
    outcome = command("predict", f"checkpoint={trained}", "inputs=some.txt", "output=alone")
    assert "2 images scored" in outcome.out


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (b"", ["list.txt", "names no file", "one path a line"]),
        (b"\n \r\n", ["names no file"]),
        (b"a.png\nb.png\n", ["none of the 2 files", "the first is a.png", "from the current folder"]),
        (bytes(range(256)) * 9, ["none of the"]),
        (b"x" * 10_000, ["none of the 1 files"]),
    ],
)
def test_a_list_that_is_of_no_use_is_refused_in_a_line(
    command, trained: Path, lines: bytes, words: list[str]
) -> None:
    Path("list.txt").write_bytes(lines)
    outcome = command("predict", f"checkpoint={trained}", "inputs=list.txt")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err
    assert not Path("predictions.csv").exists()


def test_a_pipe_called_a_list_is_not_waited_for(command, trained: Path) -> None:
    os.mkfifo("list.txt")
    outcome = command("predict", f"checkpoint={trained}", "inputs=list.txt")
    assert outcome.code == 3
    assert "no regular file" in outcome.err


@pytest.mark.parametrize(
    "given", ["preds", "preds.csv", "preds.jsonl", "preds.CSV", "preds.Jsonl", "preds.html"]
)
def test_the_tables_have_the_suffixes_that_they_have_whether_given_or_not(
    command, trained: Path, given: str
) -> None:
    image(Path("0.png"))
    outcome = command("predict", f"checkpoint={trained}", "inputs=0.png", f"output={given}", "explain=1")
    assert outcome.code == 0, outcome.err
    assert "written: preds.csv, preds.jsonl" in outcome.out
    assert {path.name for path in Path().iterdir()} == {
        "0.png",
        "preds.csv",
        "preds.jsonl",
        "preds.html",
        "preds_explained",
    }


@pytest.mark.parametrize(
    "output", ["nowhere/preds", "x" * 255, "taken.csv", "~nobody_of_this_name/preds", "x" * 249]
)
def test_an_output_that_cannot_be_made_is_refused_before_anything_is_scored(
    command, trained: Path, output: str
) -> None:
    image(Path("0.png"))
    Path("taken.jsonl").mkdir()
    outcome = command("predict", f"checkpoint={trained}", "inputs=0.png", f"output={output}", "explain=1")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("\n") == 1
    assert {path.name for path in Path().iterdir()} == {"0.png", "taken.jsonl"}


@pytest.mark.parametrize(("count", "named"), [(1, 1), (5, 5), (12, 5)])
def test_what_could_not_be_read_is_told_with_its_reason_and_where_the_rest_is(
    command, trained: Path, tmp_path: Path, count: int, named: int
) -> None:
    image(tmp_path / "in" / "whole.png")
    for i in range(count):
        (tmp_path / "in" / f"bad{i:02d}\n.png").write_bytes(b"no image" if i else b"")
    outcome = command("predict", f"checkpoint={trained}", "inputs=in", "output=found")
    assert outcome.code == 3
    assert f"{count} could not be read" in outcome.out
    told = outcome.err.splitlines()
    assert told[0] == "anomaly-gan: in/bad00\\n.png: not a readable image (the file is empty)"
    assert [f"bad{i:02d}" in line for i, line in enumerate(told[:named])] == [True] * named
    assert told[named:] == (
        [f"anomaly-gan: and {count - 5} more: column error of found.csv"] if count > 5 else []
    )


@pytest.mark.parametrize("letter", ["x", "図", os.fsdecode(b"\xff")])
def test_images_with_the_longest_names_are_explained_each_in_a_picture(
    command, trained: Path, letter: str
) -> None:
    room = (255 - len("1.png")) // len(os.fsencode(letter))
    for i in range(3):
        image(Path("in") / f"{letter * room}{i}.png")
    outcome = command("predict", f"checkpoint={trained}", "inputs=in", "output=found", "explain=3")
    assert outcome.code == 0, outcome.err
    pictures = sorted(path.name for path in Path("found_explained").glob("*.png"))
    assert [name[:3] for name in pictures] == ["01_", "02_", "03_"]
    assert {name[-6:] for name in pictures} == {f"{letter}{i}.png" for i in range(3)}


@pytest.mark.parametrize("end", list("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"))
def test_any_end_of_a_line_in_a_name_leaves_tables_and_terminal_whole(
    command, trained: Path, end: str
) -> None:
    for name in (f"a{end}b.png", f"{end}.png", "c.png"):
        image(Path("in") / name)
    outcome = command("predict", f"checkpoint={trained}", "inputs=in", "output=found")
    assert outcome.code == 0, outcome.err
    expected = sorted([f"in/a{end}b.png", f"in/{end}.png", "in/c.png"])
    assert files_in(Path("found.csv")) == expected
    assert b"\r\n" not in Path("found.csv").read_bytes()
    lines = Path("found.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines] == expected
    assert len(outcome.out.splitlines()) == 6
