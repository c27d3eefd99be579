"""anomaly-gan predict."""

import heapq
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from anomaly_gan.allocator import keep_memory
from anomaly_gan.checkpoint import NO_CALIBRATION
from anomaly_gan.cli.complaints import complain
from anomaly_gan.cli.labels import Labels
from anomaly_gan.data.scan import scan
from anomaly_gan.device import choose
from anomaly_gan.durable import check_writable, replacing_text
from anomaly_gan.errors import UserError
from anomaly_gan.inference import Detector, Prediction, check_batch_size
from anomaly_gan.names import LONGEST, end_in_bytes, printable
from anomaly_gan.progress import track
from anomaly_gan.results import csv_row
from anomaly_gan.scoring.calibration import DECISION, check_rate, images_needed, smallest_rate
from anomaly_gan.together import check_fdr, judged_together

SHOWN = 10
"""Images told of in the terminal."""

SHOWN_UNREAD = 5
"""Files that could not be read, told of in the terminal."""

TABLES = (".csv", ".jsonl")
"""What `output` is written as."""

LIST = ".txt"
"""How the name of a list of files ends, in either case."""


@dataclass
class Tally:
    """What has been predicted, in short."""

    top: list[Prediction]
    """The most anomalous images, first the one that is most so."""
    unread: int = 0
    """How many files could not be read."""
    first_unread: tuple[str, ...] = ()
    """Why the first of them could not."""
    anomalous: int = 0
    """How many images are called so."""


def main(config: DictConfig, folder: Path) -> int:
    """Predict as `config` (conf/predict.yaml) says; exit code 3 where images could not be read."""
    plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    keep_memory()
    inputs = plain["inputs"] if isinstance(plain["inputs"], list) else [plain["inputs"]]
    if not inputs:
        raise UserError("inputs=[]: give an image, a folder or a list of files, or [several,of,them]")
    counts, sources = zip(*map(_files, inputs), strict=True)
    check_batch_size(plain["batch_size"])
    labels = None if plain["labels"] is None else Labels(Path(os.path.expanduser(str(plain["labels"]))))
    if isinstance(plain["explain"], bool) or not isinstance(plain["explain"], int) or plain["explain"] < 0:
        raise UserError(f"explain={plain['explain']}: give how many of the most anomalous images to explain")
    output = _output(str(plain["output"]))
    rate, fdr = plain["threshold"]["false_positive_rate"], plain["fdr"]
    if fdr is not None and rate is not None:
        raise UserError(f"fdr={fdr} threshold.false_positive_rate={rate}: two ways to decide; give one")
    detector = Detector.load(
        plain["checkpoint"], choose(plain["device"]), None if rate is None else check_rate(rate)
    )
    for name, given in (("labels", labels), ("fdr", fdr)):
        if given is not None and detector.threshold is None:
            raise UserError(f"{name}: the detector has {NO_CALIBRATION}")
    explained = output.with_name(output.name + "_explained")
    if plain["explain"]:
        explained.mkdir(exist_ok=True)  # what cannot be made is refused now, not when all is scored
    total = sum(counts)
    examined = detector.examine(chain.from_iterable(sources), plain["batch_size"])
    predictions = track(examined, "scoring images", total, "images")
    if labels is not None:
        predictions = labels.noting(predictions)
    if fdr is not None:
        predictions = judged_together(predictions, check_fdr(fdr))
    found = write(predictions, detector, output, max(SHOWN, plain["explain"]), fdr is not None)
    for prediction in found.top[:SHOWN]:
        print(_line(prediction))
    print(
        f"{total - found.unread} images scored by {detector.primary}, higher = more anomalous; "
        f"{found.unread} could not be read; written: {output}.csv, {output}.jsonl"
    )
    if plain["explain"]:
        _explain(found.top[: plain["explain"]], detector, explained)
        print(f"explained: {explained}")
    print(_decided(found, total - found.unread, detector, fdr))
    if labels is not None and detector.threshold is not None:
        labels.tell(detector.threshold, output.with_name(output.name + "_thresholds"))
    for why in found.first_unread:
        complain(printable(why))
    if found.unread > SHOWN_UNREAD:
        complain(f"and {found.unread - SHOWN_UNREAD} more: column error of {output}.csv")
    return 3 if found.unread else 0


def _decided(found: Tally, scored: int, detector: Detector, fdr: float | None) -> str:
    """How many of `scored` images are called anomalous, and what that is worth."""
    threshold = detector.threshold
    if threshold is None:
        return f"no decisions: the detector has {NO_CALIBRATION}"
    called = f"{found.anomalous} called anomalous"
    if fdr is None:
        above = f"score above {threshold.value:.4f}"
        return f"{called}: {above}, which at most {threshold.rate:.2%} of normal images exceed"
    if found.anomalous or not scored:
        return (
            f"{called}: all images judged together, at most {fdr:.2%} of those called are normal, on average"
        )
    held_out = len(threshold.held_out)
    if smallest_rate(held_out) > fdr:
        return (
            f"{called}: fdr={fdr:g} takes {images_needed(fdr)} held-out images at least; there are {held_out}"
        )
    least = math.ceil(scored * smallest_rate(held_out) / fdr)
    return (
        f"{called}: at least {least} of these {scored} would have to score above all {held_out} held-out ones"
    )


def write(
    predictions: Iterable[Prediction], detector: Detector, output: Path, kept: int, together: bool = False
) -> Tally:
    """Write each prediction to `output`.csv and .jsonl as it comes; both appear when all are there.

    `together`: whether the images are judged together, so that their p-values are adjusted, too.

    Returns:
        What they say, with the `kept` most anomalous images.
    """
    tally = Tally([])
    top: list[tuple[float, int, Prediction]] = []
    csv, jsonl = _tables(output)
    with replacing_text(csv) as table, replacing_text(jsonl) as lines:
        adjusted = ["adjusted_p_value"] if together else []
        header = ["file", "score", "p_value", *adjusted, "decision", *detector.score_names, "error"]
        table.write(csv_row(header))
        for prediction in predictions:
            cells = _row(prediction, detector.score_names)
            row = {name: cells[name] for name in header}
            table.write(csv_row(row.values()))
            lines.write(json.dumps(row) + "\n")
            if prediction.score is None:
                tally.unread += 1
                tally.first_unread = (*tally.first_unread, str(prediction.error))[:SHOWN_UNREAD]
                continue
            tally.anomalous += prediction.anomalous is True
            # Of equal scores the first one counts for more.
            heapq.heappush(top, (prediction.score, -prediction.index, prediction))
            if len(top) > kept:
                heapq.heappop(top)
    tally.top = [prediction for *_, prediction in sorted(top, reverse=True)]
    return tally


def _explain(predictions: list[Prediction], detector: Detector, folder: Path) -> None:
    """Draw one picture of each prediction into `folder`, numbered."""
    from anomaly_gan.reporting import explanations, figures  # a second for matplotlib: for who wants pictures

    for before in folder.glob("[0-9][0-9]*_*.png"):  # of an earlier prediction
        before.unlink()
    for rank, prediction in enumerate(track(predictions, "explaining images", len(predictions), "images"), 1):
        assert prediction.path is not None
        picture = explanations.page(detector.explain(prediction.path))
        figures.save(picture, folder / picture_name(rank, prediction.path))


def picture_name(rank: int, path: Path) -> str:
    """Of an explanation: the rank, then the name of the image at `path` or the end of it that fits."""
    start, suffix = f"{rank:02d}_", ".png"
    return start + end_in_bytes(path.stem, LONGEST - len(start + suffix)) + suffix


def _output(given: str) -> Path:
    """The path of the tables without their suffixes, one of which a user may have given.

    Raises:
        UserError: no file can be made there.
    """
    output = Path(os.path.expanduser(given))
    if not output.name:
        raise UserError(f"output={output}: a folder; give a name in it, such as {output / 'predictions'}")
    if output.suffix.lower() in TABLES:
        output = output.with_suffix("")
    for path in _tables(output):
        try:
            check_writable(path)
        except OSError as error:
            raise UserError(f"output={output}: {path} cannot be written ({error.strerror})") from error
    return output


def _tables(output: Path) -> list[Path]:
    return [output.with_name(output.name + suffix) for suffix in TABLES]


def _files(given: Any) -> tuple[int, Iterable[Path]]:
    """How many files the path `given` means, and these: itself, the images in a folder, the lines of a list.

    Raises:
        UserError: it means none.
    """
    path = Path(os.path.expanduser(str(given)))
    if path.is_dir():
        found = scan(path)
        left_out = found.left_out()
        if not found.images:
            raise UserError("; ".join([f"inputs={path}: no images in this folder", *left_out]))
        for line in left_out:
            print(printable(f"{path}: {line}"))
        return len(found.images), (path / name for name in found.images)
    if not path.exists():
        raise UserError(f"inputs={path}: no such file or folder")
    if path.suffix.lower() == LIST and path.is_file():
        return _count_listed(path), listed(path)
    return 1, [path]


def listed(path: Path) -> Iterator[Path]:
    """The files that a list names, one a line, as they are asked for; empty lines name none."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as lines:
        for line in lines:
            name = line.removesuffix("\n").removesuffix("\r")
            if name.strip():
                yield Path(name)


def _count_listed(path: Path) -> int:
    """How many files a list names.

    Raises:
        UserError: it names none, or none that is there, as where it was made in another folder.
    """
    count, first, there = 0, Path(), False
    for file in listed(path):
        first = first if count else file
        there = there or os.path.exists(file)
        count += 1
    if not count:
        raise UserError(f"inputs={path}: it names no file; give one path a line")
    if not there:
        raise UserError(
            f"inputs={path}: none of the {count} files that it names is there, the first is "
            f"{printable(str(first))}; paths in a list count from the current folder"
        )
    return count


def _row(prediction: Prediction, names: list[str]) -> dict[str, Any]:
    return {
        "file": str(prediction.path),
        "score": prediction.score,
        "p_value": prediction.p_value,
        "adjusted_p_value": prediction.adjusted_p_value,
        "decision": None if prediction.anomalous is None else DECISION[prediction.anomalous],
        **{name: prediction.scores.get(name) for name in names},
        "error": prediction.error,
    }


def _line(prediction: Prediction) -> str:
    """What the terminal says of an image."""
    said = f"{prediction.score:10.4f}"
    if prediction.anomalous is not None:
        said += f"  p = {prediction.p_value:6.4f}  {DECISION[prediction.anomalous]:<9}"
    return f"{said}  {printable(str(prediction.path))}"
