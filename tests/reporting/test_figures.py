"""Captions of pictures: names of any length and letters, that do not run into each other."""

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt

from anomaly_gan.reporting import figures
from anomaly_gan.reporting.figures import fitted

NAMES = [
    "0.png",
    "train/good/000.png",
    "a_folder_with_a_name/that is long/IMG_20260131_120000_0001.png",
    "W" * 200 + ".png",
    "i" * 200 + ".png",
    "図" * 80 + ".png",
    "new\nline\r.png",
    "\udcff\udcfe.png",
    "$x^2$.png",
]


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_captions_of_a_gallery_do_not_touch_those_beside_them(lines: int) -> None:
    count = 3 * len(NAMES)
    images = np.zeros((count, 1, 8, 8), dtype=np.uint8)
    captions = [
        [NAMES[i % len(NAMES)], "a class of a long name " * 3, "-1.234"][:lines] for i in range(count)
    ]
    figure = figures.gallery(images, captions, [False] * count, "title")
    figure.set_dpi(figures.SHARPNESS)
    with pytest.warns(UserWarning, match=figures.MISSING):
        figure.draw_without_rendering()
    (axes,) = figure.axes
    assert len(axes.texts) == count
    rows = defaultdict(list)
    for text in axes.texts:
        box = text.get_window_extent()
        rows[text.get_position()[1]].append((box.x0, box.x1))
    assert len(rows) == 4
    for row in rows.values():
        assert all(right < left for (_, right), (left, _) in pairwise(row))
    plt.close(figure)


@given(st.text(max_size=60), st.floats(0.3, 3))
def test_a_text_is_shown_whole_or_its_end_after_a_mark(text: str, width: float) -> None:
    shown = fitted(text, width, 7)
    whole = fitted(text, 1e9, 7)
    assert shown.isprintable()
    assert shown == whole or (shown[0] == "…" and whole.endswith(shown[1:]) and len(shown) <= len(whole))


def test_the_end_of_a_path_is_what_is_left() -> None:
    shown = fitted("session_of_tuesday/camera 1/IMG_0012.png", 1.15, 7)
    assert shown.startswith("…")
    assert shown.endswith("/IMG_0012.png")
    assert fitted("good/0012.png", 1.15, 7) == "good/0012.png"
