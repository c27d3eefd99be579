"""Which mask is whose, and masks over the pictures as a detector sees them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_gan import evaluation
from anomaly_gan.data.decode import CorruptImage
from anomaly_gan.data.folder import Folder
from anomaly_gan.data.masks import masks_of, read_mask
from anomaly_gan.scoring.base import Scorer


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        ("test/crack/000.png", "ground_truth/crack/000_mask.png"),  # MVTec AD
        ("Data/Images/Anomaly/000.JPG", "Data/Masks/Anomaly/000.png"),  # VisA
        ("bad/x.jpg", "bad/x_mask.png"),
        ("bad/x.jpg", "masks/x.bmp"),
        ("x.jpg", "x-mask.png"),
    ],
)
def test_a_mask_is_known_by_the_name_of_its_picture(picture: str, mask: str) -> None:
    other = ["ground_truth/hole/001_mask.png", "masks/y.png"]
    assert masks_of([picture, "test/hole/001.png"], [mask, *other])[picture] == mask


def test_pictures_of_one_name_have_the_mask_in_a_folder_like_theirs_or_none() -> None:
    pictures = ["test/crack/0.png", "test/hole/0.png", "test/scratch/0.png"]
    masks = ["gt/crack/0_mask.png", "gt/hole/0_mask.png"]
    assert masks_of(pictures, masks) == dict(zip(pictures[:2], masks, strict=True))
    assert masks_of(pictures, ["masks/0.png"]) == {}


def test_a_mask_is_resized_like_its_picture(tmp_path: Path) -> None:
    pixels = np.zeros((40, 80), dtype=np.uint8)
    pixels[10:20, 60:80] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    stretched = read_mask(tmp_path / "mask.png", 20, "stretch")
    assert stretched.dtype == torch.bool
    rows, columns = stretched.nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 9, 15, 19)
    assert read_mask(tmp_path / "mask.png", 20, "crop").sum() == 0  # it lies outside of the middle


def test_masks_that_number_their_defects_are_masks(tmp_path: Path) -> None:
    pixels = np.zeros((20, 20), dtype=np.uint8)
    pixels[2:6, 2:6], pixels[10:14, 10:18] = 1, 3
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    assert torch.equal(read_mask(tmp_path / "mask.png", 20, "stretch"), torch.from_numpy(pixels > 0))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_not_marked(tmp_path: Path, mode: str) -> None:
    alpha = np.zeros((20, 20), dtype=np.uint8)
    alpha[5:10, 5:10] = 255
    image = Image.new(mode, (20, 20), "white")
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "mask.png")
    assert torch.equal(read_mask(tmp_path / "mask.png", 20, "stretch"), torch.from_numpy(alpha > 0))


def test_a_defect_of_less_than_half_a_pixel_is_not_lost(tmp_path: Path) -> None:
    pixels = np.zeros((200, 200), dtype=np.uint8)
    pixels[104, 20:180] = 255  # a crack
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    rows, columns = read_mask(tmp_path / "mask.png", 20, "stretch").nonzero(as_tuple=True)
    assert set(rows.tolist()) == {10}
    assert len(set(columns.tolist())) > 12


def test_an_empty_mask_marks_nothing(tmp_path: Path) -> None:
    Image.new("L", (20, 20)).save(tmp_path / "mask.png")
    assert not read_mask(tmp_path / "mask.png", 10, "stretch").any()


class Brightness(Scorer):
    """Every place is as anomalous as it is bright."""

    primary = "brightness"
    scores_places = True

    def fit(self, normal: object) -> None: ...

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=1)

    def scores(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"brightness": self.maps(images).amax(dim=(1, 2))}

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")


def tree(root: Path, with_masks: bool = True) -> Folder:
    """Dark pictures; the defects of half of the bad ones are bright, and exactly where their masks say."""
    random = np.random.default_rng(0)
    for folder, count in (("train/good", 4), ("test/good", 3), ("test/hole", 4)):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 60, (32, 32), dtype=np.uint8)
            if folder == "test/hole":
                pixels[4:12, 8:16] = 255
                mask = np.zeros((32, 32), dtype=np.uint8)
                mask[4:12, 8:16] = 255
                (root / "ground_truth/hole").mkdir(parents=True, exist_ok=True)
                if with_masks and number < 3:
                    Image.fromarray(mask).save(root / f"ground_truth/hole/{number}_mask.png")
            Image.fromarray(pixels).save(root / folder / f"{number}.png")
    data = Folder(
        root=root, image_size=32, batch_size=2, total_images=2, calibration_fraction=0, seed=0, name="tree"
    )
    data.setup()
    return data


def test_places_are_measured_where_masks_say_what_is_right(tmp_path: Path) -> None:
    data = tree(tmp_path)
    scorer = Brightness(image_size=32, channels=1)
    scored = evaluation.score_test_set(scorer, data)
    assert scored is not None
    found = evaluation.localise(scorer, data, scored)
    assert found == {"pixel_auroc": 1.0, "aupro": pytest.approx(1.0), "regions": 3}
    scorer.scores_places = False
    assert evaluation.localise(scorer, data, scored) is None


def test_without_masks_nothing_is_said_of_places(tmp_path: Path) -> None:
    data = tree(tmp_path, with_masks=False)
    scorer = Brightness(image_size=32, channels=1)
    scored = evaluation.score_test_set(scorer, data)
    assert scored is not None
    assert evaluation.localise(scorer, data, scored) is None


def test_a_mask_that_cannot_be_read_costs_its_picture_alone(tmp_path: Path) -> None:
    data = tree(tmp_path)
    (tmp_path / "ground_truth/hole/1_mask.png").write_bytes(b"no mask")
    scorer = Brightness(image_size=32, channels=1)
    scored = evaluation.score_test_set(scorer, data)
    assert scored is not None
    found = evaluation.localise(scorer, data, scored)
    assert found is not None
    assert found["regions"] == 2
    assert any("1_mask.png" in note for note in data.notes)


@pytest.mark.parametrize("kind", ["pipe", "postscript", "cut", "no numbers"])
def test_a_mask_that_cannot_be_read_is_said_to_be_one(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "0_mask.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "postscript":
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n")
    elif kind == "cut":
        Image.new("L", (64, 64)).save(path)
        path.write_bytes(path.read_bytes()[:-30])
    else:
        Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)).save(path, "TIFF")
    with pytest.raises(CorruptImage, match=r"0_mask\.png: this mask"):
        read_mask(path, 8, "stretch")
