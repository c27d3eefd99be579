"""docs/data.md shows what is made of folders as people have them: by running it."""

import re
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from anomaly_gan.data.folder import Folder
from anomaly_gan.errors import UserError
from anomaly_gan.own_files import mark

PAGE = Path(__file__).parents[2] / "docs" / "data.md"

LOOK = re.compile(
    r"### (?P<title>.+)\n\n(?:[^`#].*\n\n)?```\n(?P<layout>(?:\S.*\n)+?)\n(?P<told>(?:\S.*\n)+)```"
)
"""A heading, a sentence perhaps, and a block: the files, an empty line, what a training prints."""

LOOKS = {look["title"]: look for look in LOOK.finditer(PAGE.read_text())}


def lay_out(layout: str) -> None:
    """Lines such as `parts/OK/*.png 40`, perhaps with a word in brackets, as files in the current folder."""
    for line in layout.splitlines():
        pattern, count, word = re.fullmatch(r"(\S+) +(\d+)(?: \((.+)\))?", line).groups()
        for i in range(int(count)):
            path = Path(pattern.replace("*", f"{i:03d}"))
            path.parent.mkdir(parents=True, exist_ok=True)
            seed = crc32(path.as_posix().encode())
            pixels = np.random.default_rng(seed).integers(0, 4096 if word == "12 bits" else 256, (40, 60, 3))
            if word == "12 bits":
                Image.fromarray(pixels[..., 0].astype(np.uint16)).save(path)
            elif path.suffix in (".png", ".jpg", ".tif"):
                Image.fromarray(pixels.astype(np.uint8)).save(path)
            else:
                path.touch()
        if word == "drawn by a run":
            mark(Path(pattern).parent)


def told(arguments: str) -> str:
    """What a training says of the folder `parts` before it starts."""
    given = dict(word.split("=") for word in arguments.split())
    try:
        return "\n".join(
            Folder(root="parts", image_size=None, batch_size=2, total_images=2, **given).preview()
        )
    except UserError as refused:
        return f"anomaly-gan: {refused}"


def test_at_least_eight_layouts_are_shown_and_every_block_is_one() -> None:
    assert len(LOOKS) >= 8
    assert PAGE.read_text().count("```") == 2 * len(LOOKS)


@pytest.mark.parametrize("title", LOOKS)
def test_the_page_shows_what_is_printed(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(LOOKS[title]["layout"])
    asked = re.search(r"`(normal_class=\S+)`", title)
    assert told(asked[1] if asked else "") == LOOKS[title]["told"].strip()
