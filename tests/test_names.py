"""Names of files as they are shown, cut, and written into tables."""

import csv
import io
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_gan.cli.predict import picture_name
from anomaly_gan.durable import check_writable, remove_partial, replacing, replacing_text
from anomaly_gan.names import LONGEST, end_in_bytes, printable
from anomaly_gan.results import csv_row

LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""All at which `str.splitlines` ends a line."""

NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from(LINE_ENDS + ',"')
)


@given(st.lists(st.lists(NAMES, min_size=3, max_size=3), min_size=1))
def test_any_name_comes_back_from_a_csv_whose_rows_end_with_a_line_feed(rows: list[list[str]]) -> None:
    text = "".join(map(csv_row, rows))
    assert list(csv.reader(io.StringIO(text, newline=""))) == rows
    # To a reader that takes any end of a line for one, outside of quotes, there are as many rows.
    bare = re.sub('"(?:[^"]|"")*"', "", text)
    assert bare.splitlines() == bare.removesuffix("\n").split("\n")
    assert len(bare.splitlines()) == len(rows)


def test_numbers_and_nothing_in_a_csv() -> None:
    assert csv_row([1, 0.1, 1 / 3, None, "a b", True]) == "1,0.1,0.333333333,,a b,True\n"
    assert csv_row([None]) == '""\n'  # and not an empty line, which readers leave out


@given(NAMES)
def test_what_is_shown_is_one_line_without_controls(name: str) -> None:
    shown = printable(name)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    assert not name.isprintable() or shown == name


@pytest.mark.parametrize("letter", ["x", "ü", "図", "𝕏", os.fsdecode(b"\xff")])
@pytest.mark.parametrize("count", [10, 62, 84, 126, 249, 251, 255])
def test_the_picture_of_an_explanation_has_a_name_that_fits(tmp_path: Path, letter: str, count: int) -> None:
    """In bytes, of whole letters, the end of the image's name, each its own."""
    path = Path(letter * count + "1.png")
    names = [picture_name(rank, path) for rank in (1, 2, 10, 1000)]
    assert len(set(names)) == 4
    for name in names:
        assert len(os.fsencode(name)) <= LONGEST
        (tmp_path / name).touch()
        rank, _, rest = name.partition("_")
        assert rank.isdecimal()
        assert path.name.endswith(rest)
        room = LONGEST - len(os.fsencode(name))
        assert rest == path.name or room < len(os.fsencode(letter))  # no more is cut than must be


@given(NAMES, st.integers(0, LONGEST))
def test_the_end_of_a_name_is_cut_between_letters(name: str, room: int) -> None:
    end = end_in_bytes(name, room)
    assert name.endswith(end)
    assert len(os.fsencode(end)) <= room
    longer = name[len(name) - len(end) - 1 :]
    assert end == name or len(os.fsencode(longer)) > room


@pytest.mark.parametrize("name", ["x" * LONGEST, "図" * 85, "x"])
def test_a_file_with_the_longest_name_is_written_whole_or_not_at_all(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    check_writable(path)
    with replacing_text(path) as file:
        file.write("text")
        (partial,) = tmp_path.iterdir()
        assert len(os.fsencode(partial.name)) <= LONGEST
    assert path.read_text() == "text"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(KeyError), replacing(path):
        raise KeyError
    assert list(tmp_path.iterdir()) == [path]
    partial.touch()  # as a killed process leaves it
    remove_partial(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x" * 256, "too long"),
        ("nowhere/x", "No such file"),
        ("folder", "directory"),
        ("file/x", "ot a directory"),
    ],
)
def test_a_file_that_cannot_be_made_is_known_before_the_work(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=reason) as error:
        check_writable(tmp_path / name)
    assert error.value.filename == str(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
