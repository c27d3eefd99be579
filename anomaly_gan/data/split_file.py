"""Which images a table learns from and which it tests: a CSV file beside them, as VisA has it."""

import csv
from collections.abc import Iterable
from pathlib import Path

from anomaly_gan.data.places import Placed, place_of, placed_in
from anomaly_gan.data.words import TEST, TRAIN, VALIDATION, plain
from anomaly_gan.errors import UserError

COLUMNS = "image (a path), split (train or test) and, where folders do not say it, label"


def placed_by(path: Path, images: Iterable[str], root: Path) -> tuple[Placed, Placed]:
    """The images of `root` that are learned from and those that are tested, each with what is said of it.

    Lines whose image is not below `root` are left out: one file may speak of several data sets. A line of the
    validation part is left out as well.

    Args:
        path: the file; columns: image, split and, if there is one, label. Others are not read.
        images: that lie below `root`, as paths relative to it; of the file, they may also be relative to the
            folder above.
        root: the folder of the data set.

    Raises:
        UserError: the file cannot be read, says nothing of these images, or says what is not known.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [*csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as wrong:
        raise UserError(f"data.split_file={path}: cannot be read as a CSV file: {wrong}") from wrong
    if not rows or not {"image", "split"} <= rows[0].keys():
        raise UserError(f"data.split_file={path}: the first line must name the columns {COLUMNS}")
    names = set(images)
    above = f"{root.resolve().name}/"
    parts: tuple[Placed, Placed] = ({}, {})
    for number, row in enumerate(rows, start=2):
        written = (row["image"] or "").replace("\\", "/").removeprefix("./")
        name = written if written in names else written.removeprefix(above)
        if name not in names:
            continue
        split = plain(row["split"] or "")
        if split not in TRAIN | TEST | VALIDATION:
            raise UserError(
                f"data.split_file={path}: line {number} has split {row['split']!r}: train or test"
            )
        if split in VALIDATION:
            continue
        if name in parts[0] or name in parts[1]:
            raise UserError(f"data.split_file={path}: line {number} names {written} a second time")
        label = row.get("label")
        parts[split in TEST][name] = place_of(label, "", root) if label else placed_in([name], "", root)[name]
    if not parts[0]:
        raise UserError(f"data.split_file={path}: it has no image below {root} to learn from")
    return parts
