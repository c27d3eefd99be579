"""Pictures of one run: ROC, score histogram, the most and the least anomalous test images."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # pictures go to files, also where there is no screen

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy import ndarray
from sklearn.metrics import roc_curve

NORMAL, ANOMALOUS = "#2a7f62", "#c1440e"


def roc(
    scores: dict[str, Float[ndarray, " n"]],
    aurocs: dict[str, float | None],
    anomalous: Bool[ndarray, " n"],
    title: str,
) -> Figure:
    """ROC curves of several scores over the same images; the first is drawn strongest."""
    figure, axes = plt.subplots(figsize=(5, 5), layout="constrained")
    for i, (name, values) in enumerate(scores.items()):
        false_positives, true_positives, _ = roc_curve(anomalous, values)
        label = f"{name.replace('_', ' ')}: {aurocs[name]:.1%}"
        axes.plot(false_positives, true_positives, label=label, linewidth=2.5 if i == 0 else 1, zorder=9 - i)
    axes.plot([0, 1], [0, 1], color="0.8", linestyle="--", linewidth=1)
    axes.set(xlabel="normal images called anomalous", ylabel="anomalous images found", title=title)
    axes.set_aspect("equal")
    axes.legend(title="AUROC", loc="lower right", frameon=False)
    return figure


def histogram(
    scores: Float[ndarray, " n"],
    labels: Int64[ndarray, " n"],
    class_names: Sequence[str],
    normal_index: int,
    title: str,
) -> Figure:
    """How each class's anomaly scores are spread: one ridge a class, the normal one first."""
    present = [int(c) for c in np.unique(labels)]
    # The classes hardest to tell from the normal one come next to it.
    order = sorted(present, key=lambda c: (c != normal_index, np.median(scores[labels == c])))
    low, high = np.quantile(scores, [0.001, 0.999])
    bins = np.linspace(low, high, 60) if high > low else 10
    figure, rows = plt.subplots(
        len(order), sharex=True, squeeze=False, figsize=(6, 0.6 * len(order) + 1.2), layout="constrained"
    )
    for axes, c in zip(rows[:, 0], order, strict=True):
        color = NORMAL if c == normal_index else ANOMALOUS
        axes.hist(np.clip(scores[labels == c], low, high), bins=bins, density=True, color=color, alpha=0.8)
        axes.set_ylabel(class_names[c], rotation=0, ha="right", va="center", color=color)
        axes.set_yticks([])
        axes.spines[["left", "top", "right"]].set_visible(False)
    rows[-1, 0].set_xlabel("anomaly score (higher = more anomalous)")
    figure.suptitle(title)
    return figure


def gallery(
    images: UInt8[ndarray, "n channels height width"],
    captions: Sequence[str],
    anomalous: Sequence[bool],
    title: str,
    columns: int = 8,
) -> Figure:
    """Images in a grid, framed green where normal and red where anomalous."""
    rows = -(-len(images) // columns)
    figure, grid = plt.subplots(
        rows, columns, squeeze=False, figsize=(1.25 * columns, 1.45 * rows + 0.5), layout="constrained"
    )
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, caption, is_anomalous in zip(grid.flat, images, captions, anomalous, strict=False):
        color = ANOMALOUS if is_anomalous else NORMAL
        axes.axis("on")
        axes.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255)
        axes.set_title(caption, fontsize=7, color=color, pad=2)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(edgecolor=color, linewidth=2)
    figure.suptitle(title, fontsize=11)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG and let go of it."""
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
