"""Pictures of one run: its scores, its test images, its losses, and what its generator makes."""

import warnings
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # pictures go to files, also where there is no screen

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.spines import Spine
from matplotlib.text import Text
from numpy import ndarray
from sklearn.metrics import roc_curve

from anomaly_gan.names import printable
from anomaly_gan.own_files import mark

NORMAL, ANOMALOUS = "#2a7f62", "#c1440e"

INK = "#767676"
"""Of letters and lines: as legible on white as on a dark page, for a picture's own paper is clear."""

SHARPNESS = 110
"""Of pictures, dots per inch."""

MISSING = "Glyph .* missing"
"""A warning: a box is drawn in a letter's place."""


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
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
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
    threshold: float | None,
) -> Figure:
    """How each class's anomaly scores are spread: one ridge a class, the normal one first.

    A line marks the threshold, where there is one.
    """
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
        if threshold is not None:
            axes.axvline(np.clip(threshold, *axes.get_xlim()), color="0.5", linestyle="--", linewidth=1)
    line = "" if threshold is None else "; dashed: the threshold"
    rows[-1, 0].set_xlabel(f"anomaly score (higher = more anomalous{line})")
    figure.suptitle(title)
    return figure


def gallery(
    images: UInt8[ndarray, "n channels height width"],
    captions: Sequence[Sequence[str]],
    anomalous: Sequence[bool],
    title: str,
    columns: int = 8,
) -> Figure:
    """Images in a grid, framed green where normal and red where anomalous.

    Above each are the lines of its caption; of one that is wider than the image, the end, which tells paths
    apart.
    """
    rows = -(-len(images) // columns)
    width, side = 1.25, 1.15  # of a cell and of its image, inches
    height = side + 0.06 + 0.12 * max(map(len, captions))
    figure, axes = plt.subplots(figsize=(width * columns, height * rows + 0.35), layout="constrained")
    # All in one Axes: one for each image takes more than twice as long to draw.
    for i, (image, caption, is_anomalous) in enumerate(zip(images, captions, anomalous, strict=True)):
        color = ANOMALOUS if is_anomalous else NORMAL
        left, bottom = i % columns * width, (i // columns + 1) * height
        extent = (left, left + side, bottom, bottom - side)
        axes.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255, extent=extent)
        axes.add_patch(Rectangle((left, bottom - side), side, side, fill=False, edgecolor=color, linewidth=2))
        text = "\n".join(fitted(line, side, 7) for line in caption)
        axes.text(left + side / 2, bottom - side - 0.03, text, fontsize=7, color=color, ha="center")
    axes.set(xlim=(-0.02, width * columns), ylim=(height * rows + 0.02, 0))
    axes.axis("off")
    figure.suptitle(title, fontsize=11)
    return figure


def fitted(text: str, width: float, size: int) -> str:
    """`text` as it can be shown in `width` inches: the end of it after a mark, where all would be wider.

    Args:
        text: of any letters, in one line.
        width: inches.
        size: of the letters, points.
    """
    text = printable(text)
    widths = [_width(letter, size) for letter in text]
    if sum(widths) <= width:
        return text
    kept = bisect_right(list(accumulate(reversed(widths))), width - _width("…", size))
    return f"…{text[len(text) - kept :]}"


@lru_cache(maxsize=4096)
def _width(letter: str, size: int) -> float:
    """Of a letter within a word, inches."""
    renderer, font = RendererAgg(1, 1, SHARPNESS), FontProperties(size=size)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", MISSING)
        without, within = (
            renderer.get_text_width_height_descent(word, font, ismath=False)[0]
            for word in ("xx", f"x{letter}x")
        )
    return (within - without) / SHARPNESS


def grid(images: Float[ndarray, "n channels height width"], title: str, columns: int = 16) -> Figure:
    """Images in [0, 1] side by side."""
    figure, axes = plt.subplots(figsize=_mosaic_size(len(images), columns), layout="constrained")
    _show(axes, _mosaic(images, columns))
    figure.suptitle(title, fontsize=11)
    return figure


def reconstructions(
    pairs: dict[
        str, tuple[Float[ndarray, "n channels height width"], Float[ndarray, "n channels height width"]]
    ],
    title: str,
) -> Figure:
    """Images in [0, 1] above what was made of them, one panel a kind of image."""
    columns = max(len(images) for images, _ in pairs.values())
    width, height = _mosaic_size(2 * columns, columns)
    figure, panels = plt.subplots(
        len(pairs),
        squeeze=False,
        figsize=(width, len(pairs) * height),
        layout="constrained",
    )
    for axes, (name, (images, made)) in zip(panels[:, 0], pairs.items(), strict=True):
        _show(axes, np.concatenate([_mosaic(images, columns), _mosaic(made, columns)]))
        axes.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def losses(history: Sequence[dict[str, int | float]], title: str) -> Figure:
    """Each phase's total over the iterations, a panel each; names are `train/<phase>/total`."""
    phases = list(dict.fromkeys(name for point in history for name in point if name != "iteration"))
    columns = min(3, len(phases))
    rows = -(-len(phases) // columns)
    figure, panels = plt.subplots(
        rows,
        columns,
        squeeze=False,
        sharex=True,
        figsize=(3.2 * columns, 2 * rows + 0.6),
        layout="constrained",
    )
    for axes in panels.flat[len(phases) :]:
        axes.set_visible(False)
    for axes, name in zip(panels.flat, phases, strict=False):
        points = [(point["iteration"], point[name]) for point in history if name in point]
        axes.plot(*zip(*points, strict=True), color=NORMAL, linewidth=1)
        axes.set_title(name.split("/")[1].replace("_", " "), fontsize=9)
        axes.tick_params(labelsize=7)
    figure.supxlabel("iteration", fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def _mosaic(
    images: Float[ndarray, "n channels height width"], columns: int
) -> Float[ndarray, "rows columns channels"]:
    """Tiles with a line of white between; [rows * (H + 1), columns * (W + 1), C]."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    tiles = np.ones((rows * columns, channels, height + 1, width + 1))
    tiles[:count, :, :height, :width] = images
    tiles = tiles.reshape(rows, columns, channels, height + 1, width + 1)
    return tiles.transpose(0, 3, 1, 4, 2).reshape(rows * (height + 1), columns * (width + 1), channels)


def _mosaic_size(count: int, columns: int) -> tuple[float, float]:
    return 0.6 * columns + 0.2, 0.6 * -(-count // columns) + 0.5


def _show(axes: Axes, mosaic: Float[ndarray, "height width channels"]) -> None:
    axes.imshow(mosaic.clip(0, 1).squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.axis("off")


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG, without paper, and let go of it; mark its folder as one of such pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mark(path.parent)
    as_written(figure)
    _ink(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", MISSING)
        figure.savefig(path, dpi=SHARPNESS, transparent=True)
    plt.close(figure)


def as_written(figure: Figure) -> None:
    """Let the texts of `figure` be drawn letter by letter: files and classes are named by any bytes."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)  # a dollar is one
        text.set_text(text.get_text().encode(errors="backslashreplace").decode())


def _ink(figure: Figure) -> None:
    """Letters and lines that nobody gave a colour, which are black, in `INK`."""
    for axes in figure.axes:
        axes.tick_params(which="both", color=INK, labelcolor=INK)
    for artist in figure.findobj():
        if isinstance(artist, Spine):
            if same_color(artist.get_edgecolor(), "black"):
                artist.set_edgecolor(INK)
        elif isinstance(artist, Text | Line2D) and same_color(artist.get_color(), "black"):
            artist.set_color(INK)
