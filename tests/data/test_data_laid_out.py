"""Images of a program as a folder: what is learned from it is what the images are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_gan.data.folder import Folder
from anomaly_gan.data.inputs import read, separate
from anomaly_gan.data.laid_out import laid_out
from anomaly_gan.errors import UserError

FORM: dict[str, Any] = {"image_size": 9, "channels": 3, "resize": "stretch"}


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def turned(path: Path) -> Path:
    """A file whose camera was held upside down."""
    image = Image.fromarray(pixels(1, 14, 11, 3))
    exif = image.getexif()
    exif[0x0112] = 3
    image.save(path, exif=exif)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Iterator[list[Any]]:
    """One of each kind, and of modes that PNG files do not have."""
    png, tiff = tmp_path / "a photo.png", tmp_path / "deep.tif"
    Image.fromarray(pixels(2, 12, 10, 3)).save(png)
    Image.fromarray(np.arange(120, dtype=np.uint16).reshape(12, 10) * 500).save(tiff)
    palette = Image.fromarray(pixels(3, 12, 10, 3)).quantize(16)
    palette.info["transparency"] = 0
    upside_down = Image.open(turned(tmp_path / "again.jpg"))
    deep = Image.open(tiff)
    yield [
        png,
        png.read_bytes(),
        str(turned(tmp_path / "turned.jpeg")),
        upside_down,
        deep,
        Image.fromarray(pixels(4, 12, 10, 4), "CMYK"),
        palette,
        pixels(5, 12, 10),
        pixels(6, 12, 10, 4),
        pixels(7, 12, 10, 3) / 255,
        torch.from_numpy(pixels(8, 1, 12, 10)),
    ]
    upside_down.close()
    deep.close()


def test_what_is_learned_from_is_to_the_bit_what_would_be_scored(images: list[Any], tmp_path: Path) -> None:
    folder = laid_out(images, tmp_path / "pictures")
    data = Folder(root=folder, batch_size=1, total_images=1, calibration_fraction=0.0, **FORM)
    data.setup()
    assert data.name == "images"
    assert len(data.train) == len(images)
    learned = data.train[range(len(images))].images
    for image, given in zip(learned, images, strict=True):
        assert torch.equal(image, read(given, **FORM))


def test_the_same_images_give_the_same_folder_and_others_another(images: list[Any], tmp_path: Path) -> None:
    place = tmp_path / "pictures"
    folder = laid_out(iter(images), place)
    before = {path: path.lstat().st_mtime_ns for path in folder.iterdir()}
    assert laid_out(images, place) == folder
    assert {path: path.lstat().st_mtime_ns for path in folder.iterdir()} == before
    others = {
        laid_out(other, place) for other in (images[1:], images[::-1], [*images[:-1], pixels(9, 12, 10)])
    }
    assert len(others | {folder}) == 4
    assert len([*place.iterdir()]) == 4  # and nothing half-written


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert laid_out(tmp_path, tmp_path / "pictures") == laid_out(str(tmp_path), tmp_path) == tmp_path
    assert not (tmp_path / "pictures").exists()


def test_a_batch_is_its_images_and_a_name_without_suffix_is_found(tmp_path: Path) -> None:
    batch = pixels(1, 5, 8, 8, 1)
    assert laid_out(batch, tmp_path) == laid_out([*separate(batch)], tmp_path)
    (tmp_path / ("long" * 62)).write_bytes(b"")
    Image.fromarray(pixels(1, 8, 8)).save(tmp_path / ("long" * 62), "PNG")
    (link,) = laid_out([tmp_path / ("long" * 62)], tmp_path).iterdir()
    assert link.suffix == ".png"
    assert len(link.name) == 255


def test_what_is_no_image_leaves_nothing(images: list[Any], tmp_path: Path) -> None:
    def broken() -> Iterator[Any]:
        yield images[0]
        raise OSError("camera unplugged")

    place = tmp_path / "pictures"
    for wrong, why in (([], "no images"), ([tmp_path], "a folder among"), ([images[0], 3], "type int")):
        with pytest.raises(UserError, match=why):
            laid_out(wrong, place)
    Image.fromarray(pixels(1, 24, 24)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-400])
    with (
        Image.open(tmp_path / "cut.png") as cut,
        pytest.raises(UserError, match=r"cut\.png: not a readable image"),
    ):
        laid_out([images[0], cut], place)
    with pytest.raises(OSError, match="unplugged"):
        laid_out(broken(), place)
    assert not any(place.iterdir())
