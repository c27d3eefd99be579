"""anomaly-gan predict."""

import os
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from anomaly_gan.allocator import keep_memory
from anomaly_gan.checkpoint import NO_CALIBRATION
from anomaly_gan.cli.complaints import complain
from anomaly_gan.cli.decided import doubt, in_a_line
from anomaly_gan.cli.inputs import files
from anomaly_gan.cli.labels import CURVE_FILE, Labels
from anomaly_gan.cli.predict_page import Beside, write_page
from anomaly_gan.cli.tally import TABLES, tables, write
from anomaly_gan.device import choose
from anomaly_gan.durable import check_writable
from anomaly_gan.errors import UserError, probability
from anomaly_gan.inference import Detector, Prediction, check_batch_size
from anomaly_gan.metrics.rates import AtRate
from anomaly_gan.names import LONGEST, end_in_bytes, printable
from anomaly_gan.progress import track
from anomaly_gan.scoring.calibration import DECISION, check_rate
from anomaly_gan.together import judged_together

SHOWN = 10
"""Images told of in the terminal."""

SHOWN_UNREAD = 5
"""Files that could not be read, told of in the terminal."""

PAGE = ".html"
"""How the name of the page ends."""

MOST_PICTURES = 1000
"""Of a page; more would be too small to look at."""


def main(config: DictConfig, folder: Path) -> int:
    """Predict as `config` (conf/predict.yaml) says; exit code 3 where images could not be read."""
    plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    keep_memory()
    inputs = plain["inputs"] if isinstance(plain["inputs"], list) else [plain["inputs"]]
    if not inputs:
        raise UserError("inputs=[]: give an image, a folder or a list of files, or [several,of,them]")
    counts, sources = zip(*map(files, inputs), strict=True)
    check_batch_size(plain["batch_size"])
    labels = None if plain["labels"] is None else Labels(Path(os.path.expanduser(str(plain["labels"]))))
    explain = _count("explain", plain["explain"], "how many of the most anomalous images to explain")
    pictures = _count("page", plain["page"], "how many of the most anomalous images the page shows")
    if pictures > MOST_PICTURES:
        raise UserError(f"page={pictures}: {MOST_PICTURES:,} pictures at most; the tables have all images")
    output = _output(str(plain["output"]))
    page = output.with_name(output.name + PAGE)
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
    if explain:
        explained.mkdir(exist_ok=True)  # what cannot be made is refused now, not when all is scored
    total = sum(counts)
    examined = detector.examine(chain.from_iterable(sources), plain["batch_size"])
    predictions = track(examined, "scoring images", total, "images")
    if labels is not None:
        predictions = labels.noting(predictions)
    if fdr is not None:
        predictions = judged_together(predictions, probability("fdr", fdr))
    found = write(predictions, detector, output, max(SHOWN, explain, pictures), fdr is not None)
    for prediction in found.top[:SHOWN]:
        print(_line(prediction))
    print(
        f"{found.scored} images scored by {detector.primary}, higher = more anomalous; "
        f"{found.unread} could not be read; written: {output}.csv, {output}.jsonl"
    )
    drawn = _explain(found.top[:explain], detector, explained, fdr is not None) if explain else []
    if explain:
        print(f"explained: {explained}")
    print(in_a_line(found, detector, fdr))
    if (doubted := doubt(found)) is not None:
        print(doubted)
    told: list[AtRate] = []
    thresholds = output.with_name(output.name + "_thresholds")
    if labels is not None and detector.threshold is not None:
        told = labels.tell(detector.threshold, thresholds)
    if pictures:
        curve = thresholds / CURVE_FILE if told else None
        beside = Beside(str(plain["checkpoint"]), fdr, drawn, told, curve)
        write_page(page, found, pictures, detector, beside)
        print(f"page: {page}")
    for why in found.first_unread[:SHOWN_UNREAD]:
        complain(printable(why))
    if found.unread > SHOWN_UNREAD:
        complain(f"and {found.unread - SHOWN_UNREAD} more: column error of {output}.csv")
    return 3 if found.unread else 0


def _count(name: str, given: Any, what: str) -> int:
    """A setting that says how many.

    Raises:
        UserError: it is no whole number of at least 0.
    """
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise UserError(f"{name}={given}: give {what}")
    return given


def _explain(predictions: list[Prediction], detector: Detector, folder: Path, together: bool) -> list[Path]:
    """Draw one picture of each prediction into `folder`, numbered; their paths.

    Where images were judged together, no threshold decided: none is shown.
    """
    from anomaly_gan.reporting import explanations, figures  # a second for matplotlib: for who wants pictures

    for before in folder.glob("[0-9][0-9]*_*.png"):  # of an earlier prediction
        before.unlink()
    drawn = []
    for rank, prediction in enumerate(track(predictions, "explaining images", len(predictions), "images"), 1):
        assert prediction.path is not None
        why = detector.explain(prediction.path)
        if together:
            why = replace(why, anomalous=prediction.anomalous, threshold=None)
        picture = explanations.page(why)
        drawn.append(folder / picture_name(rank, prediction.path))
        figures.save(picture, drawn[-1])
    return drawn


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
    if output.suffix.lower() in (*TABLES, PAGE):
        output = output.with_suffix("")
    for path in (*tables(output), output.with_name(output.name + PAGE)):
        try:
            check_writable(path)
        except OSError as error:
            raise UserError(f"output={output}: {path} cannot be written ({error.strerror})") from error
    return output


def _line(prediction: Prediction) -> str:
    """What the terminal says of an image."""
    said = f"{prediction.score:10.4f}"
    if prediction.anomalous is not None:
        said += f"  p = {prediction.p_value:6.4f}  {DECISION[prediction.anomalous]:<9}"
    return f"{said}  {printable(str(prediction.path))}"
