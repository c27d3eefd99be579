"""Pictures of explanations: where in an image its score comes from, which shifts make it, what it is like."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from numpy import ndarray

from anomaly_gan.explanation import Explanation, Picture
from anomaly_gan.reporting.figures import ANOMALOUS, NORMAL, fitted

OPAQUE = 0.75
"""How much of the picture the strongest heat covers."""

HEAT = LinearSegmentedColormap.from_list("heat", [NORMAL, "#f4f1ec", ANOMALOUS])
"""Green where the image looks normal, red where it looks anomalous."""

GREYS = ["0.45", "0.75", "0.6"]
"""Of the parts of a score."""

TURNS = ["0°", "90°", "180°", "270°"]
"""The shifts."""

HEAT_OF = {
    "occlusion": "fall of the score where blurred",
    "places": "score of a place, above their median",
}
"""What the colours of a heat map measure, in `Explanation.heat_of`."""


def page(explanation: Explanation) -> Figure:
    """All of one explanation: image, heat, reconstruction and shifts; below the nearest normal images."""
    pictures = {"the image, as scored": explanation.picture}
    if explanation.reconstruction is not None:
        pictures["what a model of\nnormal images makes of it"] = explanation.reconstruction
    columns = max(4, len(explanation.neighbours)) if explanation.neighbours else 4
    figure = plt.figure(figsize=(2.2 * columns, 5.4 if explanation.neighbours else 3), layout="constrained")
    upper, *lower = figure.subfigures(1 + bool(explanation.neighbours), squeeze=False)[:, 0]
    widths = [1, 1.25] + [1] * (len(pictures) - 1) + ([1.6] if explanation.per_shift else [])
    panels = upper.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    shown = iter(panels)
    for title, picture in list(pictures.items())[:1]:
        _show(next(shown), picture, title, _color(explanation))
    axes, scale = next(shown), float(np.abs(explanation.heat).max())
    _show_heat(axes, explanation, scale)
    axes.set_title("what the score hangs on", fontsize=8)
    bar = figure.colorbar(ScalarMappable(Normalize(-scale, scale), HEAT), ax=axes, fraction=0.05, pad=0.02)
    bar.ax.tick_params(labelsize=6)
    bar.set_label(HEAT_OF[explanation.heat_of], fontsize=6)
    for title, picture in list(pictures.items())[1:]:
        _show(next(shown), picture, title)
    if explanation.per_shift:
        _bars(next(shown), explanation)
    for below in lower:
        row = below.subplots(1, columns, squeeze=False)[0]
        for axes in row:
            axes.axis("off")
        for axes, neighbour in zip(row, explanation.neighbours, strict=False):
            name = fitted(Path(neighbour.name).name, 2.0, 7)
            _show(axes, neighbour.picture, f"{name}\n{neighbour.measure} {neighbour.likeness:.3f}")
        below.suptitle("the most similar normal images", fontsize=9)
    name = fitted(Path(explanation.name).name, 2.1 * columns, 10)
    figure.suptitle(f"{name}\n{_said(explanation)}", fontsize=10)
    return figure


def sheet(explanations: Sequence[Explanation], title: str, neighbours: int = 4) -> Figure:
    """Several explanations, a row each, with up to `neighbours` normal images."""
    made = any(explanation.reconstruction is not None for explanation in explanations)
    neighbours = min(neighbours, max(len(explanation.neighbours) for explanation in explanations))
    columns = 2 + made + neighbours
    figure, grid = plt.subplots(
        len(explanations),
        columns,
        squeeze=False,
        figsize=(1.5 * columns + 1.5, 1.62 * len(explanations) + 0.6),
        layout="constrained",
    )
    for row, explanation in zip(grid, explanations, strict=True):
        for axes in row:
            axes.axis("off")
        _show(row[0], explanation.picture, "", _color(explanation))
        name = fitted(explanation.name, 1.4, 7)
        caption = f"{name}\n" + _said(explanation).replace(", ", "\n")
        row[0].text(
            -0.08, 0.5, caption, transform=row[0].transAxes, ha="right", va="center", fontsize=7,
            color=_color(explanation),
        )  # fmt: skip
        scale = float(np.abs(explanation.heat).max())
        _show_heat(row[1], explanation, scale)
        row[1].set_title(f"up to {scale:.2g}", fontsize=7, pad=3)
        if explanation.reconstruction is not None:
            _show(row[2], explanation.reconstruction, "")
        for axes, neighbour in zip(row[2 + made :], explanation.neighbours, strict=False):
            caption = fitted(f"{Path(neighbour.name).name}, {neighbour.likeness:.3f}", 1.3, 7)
            _show(axes, neighbour.picture, caption)
    headings = ["image", "what the score\nhangs on"] + ["reconstruction"] * made
    measures = {neighbour.measure for explanation in explanations for neighbour in explanation.neighbours}
    headings += [f"most similar normal\nimages, {measure}" for measure in measures]
    for axes, heading in zip(grid[0], headings, strict=False):
        axes.set_title(f"{heading}\n{axes.get_title()}".rstrip(), fontsize=7)
    figure.suptitle(title, fontsize=11)
    return figure


def _said(explanation: Explanation) -> str:
    """Score, p-value and decision."""
    said = [f"score {explanation.score:.3f}"]
    if explanation.threshold is not None:
        said.append(f"threshold {explanation.threshold:.3f}")
    if explanation.p_value is not None:
        said.append(f"p = {explanation.p_value:.3g}")
    if explanation.anomalous is not None:
        said.append("anomalous" if explanation.anomalous else "normal")
    return ", ".join(said)


def _color(explanation: Explanation) -> str:
    return {None: "0.5", True: ANOMALOUS, False: NORMAL}[explanation.anomalous]


def _show(axes: Axes, picture: Picture | None, title: str, color: str = "0.6") -> None:
    axes.axis("on")
    if picture is None:
        axes.text(0.5, 0.5, "no picture\nkept", ha="center", va="center", fontsize=7, color="0.5")
        axes.set_aspect("equal")
    else:
        axes.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=7, pad=3)
    for spine in axes.spines.values():
        spine.set(edgecolor=color, linewidth=2 if color in (NORMAL, ANOMALOUS) else 0.8)


def _show_heat(axes: Axes, explanation: Explanation, scale: float) -> None:
    """The picture in grey under the heat, as strong as it is on `scale`."""
    grey = explanation.picture.mean(axis=2) / 255
    strength = _strength(explanation.heat, scale)
    colors = HEAT((strength + 1) / 2)[..., :3]
    opacity = OPAQUE * np.abs(strength)[..., None]
    axes.axis("on")
    axes.imshow((1 - opacity) * grey[..., None] + opacity * colors, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(edgecolor="0.6", linewidth=0.8)


def _strength(heat: Float[ndarray, "height width"], scale: float) -> Float[ndarray, "height width"]:
    """In [-1, 1]."""
    return heat / scale if scale > 0 else np.zeros_like(heat)


def _bars(axes: Axes, explanation: Explanation) -> None:
    """What each shift adds to the score, stacked by part, with a mark for a normal image."""
    shifts = np.arange(len(next(iter(explanation.per_shift.values()))))
    width = 0.8 / len(explanation.per_shift)
    for i, (part, values) in enumerate(explanation.per_shift.items()):
        at = shifts + (i - (len(explanation.per_shift) - 1) / 2) * width
        axes.bar(at, values, width, label=part, color=GREYS[i % len(GREYS)])
        for x, value in zip(at, explanation.typical[part], strict=True):
            axes.plot([x - width / 2, x + width / 2], [value] * 2, color=NORMAL, linewidth=2)
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.plot([], [], color=NORMAL, linewidth=2, label="a normal image")
    if len(shifts) == len(TURNS):
        axes.set_xticks(shifts, TURNS, fontsize=7)
    else:
        axes.tick_params(axis="x", labelsize=6)
    axes.tick_params(axis="y", labelsize=6)
    axes.set_title("what each shift adds to the score", fontsize=8)
    axes.legend(fontsize=6, frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    axes.spines[["top", "right"]].set_visible(False)
