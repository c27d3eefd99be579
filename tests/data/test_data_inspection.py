"""A folder is looked at before the training: what is there, and what is done about it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_gan.data.folder import Folder
from anomaly_gan.data.inspection import Inspection, choose_side
from anomaly_gan.errors import UserError


def image(seed: int, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part in ("train/good", "test/good", "test/dent"):
        (tmp_path / part).mkdir(parents=True)
    for i in range(6):
        image(i).save(tmp_path / "train" / "good" / f"{i}.png")
    image(6, "L", (100, 80)).save(tmp_path / "train" / "good" / "6.jpg")
    image(7, "P").save(tmp_path / "train" / "good" / "7.png")
    image(8, "RGBA").save(tmp_path / "train" / "good" / "8.png")
    Image.fromarray(np.full((20, 20), 60_000, np.uint16)).save(tmp_path / "train" / "good" / "9.tif")
    for i, copy in enumerate(["train/good/copy", "train/good/again", "test/good/leak"]):
        (tmp_path / f"{copy}.png").write_bytes((tmp_path / "train" / "good" / f"{i // 2}.png").read_bytes())
    image(20).save(tmp_path / "test" / "dent" / "20.png")
    (tmp_path / "train" / "good" / "broken.png").write_bytes(b"no image")
    return tmp_path


def folder(root: Path, **options) -> Folder:
    shared = {"batch_size": 1, "total_images": 4}
    return Folder(root=root, **shared | options)


def test_a_folder_is_told_in_a_few_lines(root: Path) -> None:
    lines = folder(root, image_size=None).preview()
    text = "\n".join(lines)
    assert len(lines) == 9
    assert lines[1:4] == [
        "learned from: train/good (13)",
        "tested on, normal: test/good (1)",
        "tested on, anomalous: test/dent (1)",
    ]
    assert "13 normal training images, 2 test images" in text
    assert "sizes: 20x20 to 100x80, in the middle 40x30; become 32x32 (by rule" in text
    assert "8 RGB, 1 grey, 1 palette, 1 RGB with alpha, 1 grey with 16 bits" in text
    assert "10 PNG, 1 JPEG, 1 TIFF" in text
    assert "exact copies: 2" in text
    assert "copies of training images: test/good/leak.png" in text
    assert "cannot be read: train/good/broken.png; the training will stop" in text
    assert "left out" in folder(root, image_size=64, on_corrupt="skip").preview()[-1]
    assert "become 64x64 (asked for" in "\n".join(folder(root, image_size=64).preview())


def test_colour_that_comes_late_is_seen_and_told(tmp_path: Path) -> None:
    for i in range(60):
        image(i).convert("L" if i < 40 else "RGB").save(tmp_path / f"{i:02d}.png")
    data = folder(tmp_path)
    assert "40 grey, 20 RGB; become RGB (by rule, from 30 of them; data.channels)" in "\n".join(
        data.preview()
    )
    assert data.channels == 3


def test_normal_images_of_one_size_are_told_so(tmp_path: Path) -> None:
    for i in range(3):
        image(i).save(tmp_path / f"{i}.png")
    lines = folder(tmp_path).preview()
    assert lines[0] == "3 normal training images, no test images"
    assert "size: all 40x30" in lines[1]
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("short_sides", "side"),
    [([28], 32), ([32, 32, 500], 32), ([33], 48), ([64], 64), ([65], 64), ([1000, 2000], 64), ([], 64)],
)
def test_the_side_follows_the_median_of_the_images(short_sides: list[int], side: int) -> None:
    assert choose_side(short_sides) == side


def test_the_side_by_rule_is_the_side_of_the_images(root: Path) -> None:
    data = folder(root, image_size=None, on_corrupt="skip")
    data.setup()
    assert data.image_size == data.describe()["image_size"] == 32
    assert data.train[[0]].images.shape[-2:] == (32, 32)


def test_a_file_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    assert Inspection.of(tmp_path, ["nowhere.png"], []).unreadable == ["nowhere.png"]


@pytest.mark.parametrize("memory_limit_gib", [1.0, 0.0])  # in memory, and streamed
@pytest.mark.parametrize("seed", range(5))
def test_copies_of_an_image_are_never_on_both_sides(
    tmp_path: Path, seed: int, memory_limit_gib: float
) -> None:
    for i in range(40):
        image(i % 25, size=(16, 16)).save(tmp_path / f"{i:02d}.png")  # 15 have a copy
    data = folder(
        tmp_path,
        image_size=16,
        calibration_fraction=0.2,
        validation_fraction=0.2,
        seed=seed,
        memory_limit_gib=memory_limit_gib,
    )
    data.setup()
    trained = {int(Path(name).stem) % 25 for name in data.train.names}
    held_out = [int(Path(name).stem) % 25 for name in data.calibration.names + data.validation.names]
    assert len(held_out) == len(set(held_out)) == 10
    assert trained.isdisjoint(held_out)
    assert trained | set(held_out) == set(range(25))
    left_out = 40 - len(data.train) - len(data.calibration) - len(data.validation)
    assert left_out == sum(number < 15 for number in held_out)
    (note,) = data.notes
    assert note.startswith(f"15 of 40 normal images are exact copies of others; {left_out} of them")


def test_images_that_are_all_alike_are_trained_on(tmp_path: Path) -> None:
    for i in range(5):
        image(0).save(tmp_path / f"{i}.png")
    data = folder(tmp_path, calibration_fraction=0.5)
    data.setup()
    assert (len(data.train), len(data.calibration)) == (5, 0)


@pytest.mark.parametrize(
    ("highest", "bits"), [(1000, 10), (4095, 12), (8000, 14), (8192, None), (60_000, None)]
)
def test_sixteen_bit_images_that_would_be_nearly_black_are_told_with_the_setting(
    tmp_path: Path, highest: int, bits: int | None
) -> None:
    for i in range(50):
        values = np.random.default_rng(i).integers(0, highest + 1, (40, 40)).astype(np.uint16)
        values[0, 0] = highest
        Image.fromarray(values).save(tmp_path / f"{i}.png")
    told = "\n".join(folder(tmp_path).preview())
    if bits is None:
        assert "black" not in told
        return
    line = f"nearly black: the highest of 25 16-bit images' values is {highest} of 65535, which is white: "
    assert f"{line}data.bits={bits} makes {2**bits - 1} white" in told
    chosen = folder(tmp_path, bits=bits, image_size=40)
    assert "black" not in "\n".join(chosen.preview())
    chosen.setup()
    assert chosen.describe()["bits"] == bits
    assert chosen.train[[0]].images.max() == round(255 * highest / (2**bits - 1))


@pytest.mark.parametrize("bits", [8, 17])
def test_bits_that_no_sixteen_bit_file_has_are_refused(root: Path, bits: int) -> None:
    with pytest.raises(UserError, match=f"data.bits={bits} must be from 9 to 16"):
        folder(root, bits=bits).setup()


def test_the_rule_says_how_many_images_it_went_by(tmp_path: Path) -> None:
    for i in range(12):
        image(i).save(tmp_path / f"{i}.png")
    assert "become RGB (by rule; data.channels)" in "\n".join(folder(tmp_path).preview())


def test_dark_pictures_of_a_camera_whose_bits_are_told_are_no_news(tmp_path: Path) -> None:
    for i in range(3):
        Image.fromarray(np.full((40, 40), 60 + i, np.uint16)).save(tmp_path / f"{i}.png")
    assert "black" in "\n".join(folder(tmp_path).preview())
    assert "black" not in "\n".join(folder(tmp_path, bits=10).preview())


def test_files_that_cannot_be_opened_are_copies_of_nothing(tmp_path: Path) -> None:
    found = Inspection.of(tmp_path, ["a.png", "b.png"], ["c.png"])
    assert (found.copies, found.tested_copies) == (0, [])
