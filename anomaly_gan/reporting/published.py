"""Published AUROCs, to be shown beneath ours: `published_auroc.csv`, with where each comes from."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("published_auroc.csv")

SHOWN_BESIDE = {
    "cifar10-jpeg": (
        "cifar10",
        "Published figures are of CIFAR-10 itself; ours are of JPEG versions of its images (cifar10-jpeg),"
        " which are not the same data.",
    ),
    "cifar100-csi": (
        "cifar100",
        "Ours follow the shifted superclass map (cifar100-csi); which map a published figure follows, its"
        " source says where it is known.",
    ),
}
"""Data sets of ours without published figures of their own: whose to show, and what must be said."""

OUR_CLASS = {("fashion_mnist", "t-shirt_top"): "t_shirt"}
"""Published class names that we spell otherwise."""

LABELS = {"csi_g": "csi_g", "full": "full (all of Algorithm 1)"}
"""Of methods whose names say little."""

CONFIDENCE = {
    "looked up": "read in the source",
    "recalled, mean agrees": "from memory; the mean over classes agrees with the published one",
    "recalled": "from memory",
    "seed": "as quoted in the description this work began with",
}


@dataclass(frozen=True)
class Published:
    """A method's figures, in percent."""

    method: str
    auroc: dict[str, float]
    """By class, in our spelling; empty where only the mean is published."""
    mean: float | None
    source: str
    """Of the classes, or where there are none of the mean."""
    mean_source: str
    """Of the mean; "" where it is computed here from the classes."""

    @property
    def label(self) -> str:
        """For a person."""
        return LABELS.get(self.method, self.method.replace("_", " "))


@cache
def published(dataset: str) -> tuple[list[Published], str]:
    """What is published on `dataset`, best mean last, and a sentence that must stand beside it."""
    of, sentence = SHOWN_BESIDE.get(dataset, (dataset, ""))
    with FILE.open(newline="") as file:
        lines = csv.DictReader(line for line in file if not line.startswith("#"))
        rows = [row for row in lines if row["dataset"] == of]
    found = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        means = [row for row in own if row["normal_class"] == "mean"]
        classes = [row for row in own if row["normal_class"] != "mean"]
        auroc = {
            OUR_CLASS.get((of, row["normal_class"]), row["normal_class"]): float(row["auroc_percent"])
            for row in classes
        }
        mean = float(means[0]["auroc_percent"]) if means else round(sum(auroc.values()) / len(auroc), 1)
        source, mean_source = _source((classes or means)[0]), _source(means[0]) if means else ""
        found.append(Published(method, auroc, mean, source, mean_source))
    return sorted(found, key=lambda row: row.mean or 0), sentence


def class_order(dataset: str) -> list[str]:
    """The classes of a known data set in its order, from the figures; empty where there are none."""
    rows, _ = published(dataset)
    return next((list(row.auroc) for row in rows if row.auroc), [])


def _source(row: dict[str, str]) -> str:
    return f"{row['source']} ({CONFIDENCE[row['confidence']]})"
