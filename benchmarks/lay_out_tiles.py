"""The magnetic tiles of docs/own_images.md, laid out to learn from, from a clone of their repository.

    git clone https://github.com/abin24/Magnetic-tile-defect-datasets. clone
    python benchmarks/lay_out_tiles.py clone tiles

Shots of one tile have numbers near to each other and lie on one side: every fourth tile is tested on.
"""

import argparse
import re
import shutil
from pathlib import Path

APART = 200
"""Good images whose numbers follow each other at less than this are of one tile."""

EVERY = 4
"""Every so-manieth tile is tested on."""


def number_of(image: Path) -> int:
    """The number in a name such as exp1_num_824.jpg."""
    found = re.search(r"num_(\d+)", image.name)
    if found is None:
        raise SystemExit(f"{image}: no number; expected a name such as exp1_num_824.jpg")
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clone", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    good = sorted((given.clone / "MT_Free" / "Imgs").glob("*.jpg"), key=lambda path: (number_of(path), path))
    if not good:
        raise SystemExit(f"{given.clone}: no MT_Free/Imgs/*.jpg; give the folder that git cloned")
    copies: list[tuple[Path, Path]] = []
    tile, before = 0, number_of(good[0])
    for image in good:
        tile += number_of(image) - before >= APART
        before = number_of(image)
        part = "test" if tile % EVERY == EVERY - 1 else "train"
        copies.append((image, given.output / part / "good" / f"tile{tile:03d}_{image.name}"))
    for image in sorted(given.clone.glob("MT_*/Imgs/*")):
        kind = image.parent.parent.name.removeprefix("MT_").lower()
        if kind == "free":
            continue
        if image.suffix == ".jpg":
            copies.append((image, given.output / "test" / kind / image.name))
        else:
            copies.append((image, given.output / "ground_truth" / kind / f"{image.stem}_mask.png"))
    for source, target in copies:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    print(f"{given.output}: {tile + 1} good tiles in {len(good)} images, {len(copies) - len(good)} others")


if __name__ == "__main__":
    main()
