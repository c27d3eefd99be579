"""Runs' folders as a training leaves them, made up."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anomaly_gan.results import RunResult, write_csv

MakeRun = Callable[..., Path]


def make(
    folder: Path,
    auroc: float | None = 0.9,
    *,
    dataset: str = "toys",
    normal_class: str = "ball",
    method: str = "csi",
    seed: int = 0,
    classes: Sequence[str] = ("ball", "doll"),
    config: dict[str, Any] | None = None,
    lift: float | None = None,
    images: int = 60,
    figures: Sequence[str] = (),
    **more: Any,
) -> Path:
    """Write a run into `folder`; with `lift`, also test scores, those of anomalous images so much higher."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {
        "normal_class": normal_class,
        "seed": seed,
        "width": 16,
        "paths": {"runs": str(folder)},
        "data": {"seed": seed, "normal_class": normal_class, "root": "data"},
        "method": {"name": method, "seed": seed},
        "scoring": {"width": 16, "seed": seed},
    } | (config or {})
    fields: dict[str, Any] = {
        "dataset": dataset,
        "normal_class": normal_class,
        "method": method,
        "seed": seed,
        "primary": "csi",
        "auroc": {"csi": auroc, "paper": 0.5},
        "auroc_interval": {"csi": None if auroc is None else [auroc - 0.01, auroc + 0.01], "paper": None},
        "auroc_parts": {"shift": 0.6},
        "auroc_raw_pixels": 0.7,
        "auroc_raw_pixels_interval": None,
        "auroc_absent_because": None if auroc is not None else "there are no anomalous images",
        "curve": [{"iteration": i, "images": 8 * i, "auroc": {"csi": 0.5 + i / 10}} for i in (1, 2)],
        "counts": {"train": 8},
        "iterations": 4,
        "seconds": {"train": 30.0, "total": 40.0},
        "images_per_second": {},
        "config": whole,
        "versions": {"anomaly-gan": "0"},
        "machine": "a machine",
        "command": "anomaly-gan train",
        "classes": list(classes),
    }
    RunResult(**(fields | more)).write(folder)
    if lift is not None:
        random = np.random.default_rng([seed, images])
        anomalous = np.arange(images) % 3 > 0
        scores = random.normal(size=images) + lift * anomalous
        columns: dict[str, Any] = {"name": [f"test/{i}" for i in range(images)], "class": ["x"] * images}
        columns |= {"anomalous": anomalous.astype(int).tolist(), "csi": scores.tolist()}
        write_csv(folder / "scores.csv", columns)
    for name in figures:
        path = folder / "figures" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)).save(path)
    return folder
