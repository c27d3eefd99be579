"""anomaly-gan predict."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from anomaly_gan.allocator import keep_memory
from anomaly_gan.data.folder import image_files
from anomaly_gan.device import choose
from anomaly_gan.errors import UserError
from anomaly_gan.inference import Detector, Prediction
from anomaly_gan.progress import track
from anomaly_gan.results import write_atomically, write_csv


def main(config: DictConfig, folder: Path) -> int:
    """Predict as `config` (conf/predict.yaml) says; exit code 3 where images could not be read."""
    plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    keep_memory()
    paths = list(_files(plain["inputs"]))
    if not paths:
        raise UserError("inputs=[]: give an image or a folder, or [several,of,them]")
    if not isinstance(plain["batch_size"], int) or plain["batch_size"] < 1:
        raise UserError(f"batch_size={plain['batch_size']}: expected a whole number of at least 1")
    output = Path(str(plain["output"])).expanduser()
    _check_writable(output)
    detector = Detector.load(plain["checkpoint"], choose(plain["device"]))
    predictions = list(
        track(detector.predict(paths, plain["batch_size"]), "scoring images", len(paths), "images")
    )
    names = list(next((p.scores for p in predictions if p.scores), {}))
    rows = [_row(prediction, detector.primary, names) for prediction in predictions]
    write_csv(output.with_name(output.name + ".csv"), {key: [row[key] for row in rows] for key in rows[0]})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    write_atomically(output.with_name(output.name + ".jsonl"), lines)
    unread = [prediction for prediction in predictions if prediction.error]
    for prediction in sorted(predictions, key=lambda p: -p.scores.get(detector.primary, -float("inf")))[:10]:
        print(f"{prediction.scores.get(detector.primary, float('nan')):10.4f}  {prediction.path}")
    print(
        f"{len(predictions) - len(unread)} images scored by {detector.primary}, higher = more anomalous; "
        f"{len(unread)} could not be read; written: {output}.csv, {output}.jsonl"
    )
    return 3 if unread else 0


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
            found = image_files(path)
            if not found:
                raise UserError(f"inputs={path}: no images in this folder")
            yield from found
        elif path.exists():
            yield path
        else:
            raise UserError(f"inputs={path}: no such file or folder")


def _row(prediction: Prediction, primary: str, names: list[str]) -> dict[str, Any]:
    scores: dict[str, float | None] = {name: prediction.scores.get(name) for name in names}
    return {"file": str(prediction.path), "score": scores.get(primary), **scores, "error": prediction.error}
