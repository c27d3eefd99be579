"""anomaly-gan predict."""

import csv
import heapq
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from anomaly_gan.allocator import keep_memory
from anomaly_gan.checkpoint import NO_CALIBRATION
from anomaly_gan.data.scan import scan
from anomaly_gan.device import choose
from anomaly_gan.durable import replacing_text
from anomaly_gan.errors import UserError
from anomaly_gan.inference import Detector, Prediction, check_batch_size
from anomaly_gan.progress import track
from anomaly_gan.results import as_cells
from anomaly_gan.scoring.calibration import DECISION, check_rate

SHOWN = 10
"""Images told of in the terminal."""


def main(config: DictConfig, folder: Path) -> int:
    """Predict as `config` (conf/predict.yaml) says; exit code 3 where images could not be read."""
    plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    keep_memory()
    paths = list(_files(plain["inputs"]))
    if not paths:
        raise UserError("inputs=[]: give an image or a folder, or [several,of,them]")
    check_batch_size(plain["batch_size"])
    if isinstance(plain["explain"], bool) or not isinstance(plain["explain"], int) or plain["explain"] < 0:
        raise UserError(f"explain={plain['explain']}: give how many of the most anomalous images to explain")
    output = Path(str(plain["output"])).expanduser()
    _check_writable(output)
    rate = plain["threshold"]["false_positive_rate"]
    detector = Detector.load(
        plain["checkpoint"], choose(plain["device"]), None if rate is None else check_rate(rate)
    )
    predictions = track(detector.examine(paths, plain["batch_size"]), "scoring images", len(paths), "images")
    top, unread, anomalous = write(predictions, detector, output, max(SHOWN, plain["explain"]))
    for prediction in top[:SHOWN]:
        print(_line(prediction))
    print(
        f"{len(paths) - unread} images scored by {detector.primary}, higher = more anomalous; "
        f"{unread} could not be read; written: {output}.csv, {output}.jsonl"
    )
    if plain["explain"]:
        print(f"explained: {_explain(top[: plain['explain']], detector, output)}")
    if detector.threshold is None:
        print(f"no decisions: the detector has {NO_CALIBRATION}")
    else:
        print(
            f"{anomalous} called anomalous: score above {detector.threshold.value:.4f}, which at most "
            f"{detector.threshold.rate:.2%} of normal images exceed"
        )
    return 3 if unread else 0


def write(
    predictions: Iterable[Prediction], detector: Detector, output: Path, kept: int
) -> tuple[list[Prediction], int, int]:
    """Write each prediction to `output`.csv and .jsonl as it comes; both appear when all are there.

    Returns:
        The `kept` most anomalous ones, how many could not be read, and how many are called anomalous.
    """
    unread = anomalous = 0
    top: list[tuple[float, int, Prediction]] = []
    with (
        replacing_text(output.with_name(output.name + ".csv")) as table,
        replacing_text(output.with_name(output.name + ".jsonl")) as lines,
    ):
        writer = csv.writer(table, lineterminator="\n")
        header = ["file", "score", "p_value", "decision", *detector.score_names, "error"]
        writer.writerow(header)
        for prediction in predictions:
            row = _row(prediction, detector.score_names)
            writer.writerow(as_cells(row[name] for name in header))
            lines.write(json.dumps(row) + "\n")
            if prediction.score is None:
                unread += 1
                continue
            anomalous += prediction.anomalous is True
            # Of equal scores the first one counts for more.
            heapq.heappush(top, (prediction.score, -prediction.index, prediction))
            if len(top) > kept:
                heapq.heappop(top)
    return [prediction for *_, prediction in sorted(top, reverse=True)], unread, anomalous


def _explain(predictions: list[Prediction], detector: Detector, output: Path) -> Path:
    """Draw one picture of each prediction into the folder `output`_explained, numbered; the folder."""
    from anomaly_gan.reporting import explanations, figures  # a second for matplotlib: for who wants pictures

    folder = output.with_name(output.name + "_explained")
    folder.mkdir(exist_ok=True)
    for before in folder.glob("[0-9][0-9]*_*.png"):  # of an earlier prediction
        before.unlink()
    for rank, prediction in enumerate(track(predictions, "explaining images", len(predictions), "images"), 1):
        assert prediction.path is not None
        picture = explanations.page(detector.explain(prediction.path))
        figures.save(picture, folder / f"{rank:02d}_{prediction.path.stem}.png")
    return folder


def _check_writable(output: Path) -> None:
    """Refuse an `output` beside which no file can be made, before anything is scored."""
    if not output.name:
        raise UserError(f"output={output}: a folder; give a name in it, such as {output / 'predictions'}")
    try:
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise UserError(
            f"output={output}: {output.parent} is no folder that can be written; choose another"
        ) from error


def _files(inputs: Any) -> Iterable[Path]:
    """The image files that `inputs`, one path or several, mean."""
    for item in inputs if isinstance(inputs, list) else [inputs]:
        path = Path(str(item)).expanduser()
        if path.is_dir():
            found = scan(path)
            left_out = found.left_out()
            if not found.images:
                raise UserError("; ".join([f"inputs={path}: no images in this folder", *left_out]))
            print("".join(f"{path}: {line}\n" for line in left_out), end="")
            yield from (path / name for name in found.images)
        elif path.exists():
            yield path
        else:
            raise UserError(f"inputs={path}: no such file or folder")


def _row(prediction: Prediction, names: list[str]) -> dict[str, Any]:
    return {
        "file": str(prediction.path),
        "score": prediction.score,
        "p_value": prediction.p_value,
        "decision": None if prediction.anomalous is None else DECISION[prediction.anomalous],
        **{name: prediction.scores.get(name) for name in names},
        "error": prediction.error,
    }


def _line(prediction: Prediction) -> str:
    """What the terminal says of an image."""
    said = f"{prediction.score:10.4f}"
    if prediction.anomalous is not None:
        said += f"  p = {prediction.p_value:6.4f}  {DECISION[prediction.anomalous]:<9}"
    return f"{said}  {prediction.path}"
