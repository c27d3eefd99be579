import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_gan.data.decode import CorruptImage, decode
from anomaly_gan.data.folder import Folder
from anomaly_gan.data.imagenet30 import WNIDS, ImageNet30
from anomaly_gan.data.scan import scan
from anomaly_gan.data.split import likely_group
from anomaly_gan.data.tree import read_tree
from anomaly_gan.errors import UserError


def paint(path: Path, seed: int = 0, grey: bool = False, side: int = 6) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (side, side) if grey else (side, side, 3)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)


def folder(root: Path, **options: Any) -> Folder:
    options = {"batch_size": 2, "total_images": 20, "image_size": 6} | options
    data = Folder(root=root, **options)
    data.setup()
    return data


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    for index in range(4):
        for name in ("dog", "cat"):
            paint(tmp_path / "train" / name / f"{index}.png", index)
            paint(tmp_path / "test" / name / f"{index}.png", 10 + index)
    return tmp_path


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    for index in range(5):
        paint(tmp_path / "train" / "good" / f"{index:03}.png", index)
        paint(tmp_path / "test" / "good" / f"{index:03}.png", index)
    paint(tmp_path / "test" / "broken" / "000.png")
    paint(tmp_path / "test" / "a_scratch" / "000.png")
    paint(tmp_path / "ground_truth" / "broken" / "000_mask.png")
    return tmp_path


def test_a_benchmarks_training_part_is_the_normal_class_alone(benchmark: Path) -> None:
    data = folder(benchmark, normal_class="dog", calibration_fraction=0.25)
    assert data.class_names == ("cat", "dog")
    assert data.normal_index == 1
    names = data.train.names + data.calibration.names
    assert sorted(names) == [f"train/dog/{i}.png" for i in range(4)]
    assert set(data.train.labels.tolist()) == {1}
    assert data.test.names == [f"test/{name}/{i}.png" for name in ("cat", "dog") for i in range(4)]
    assert data.test.labels.tolist() == [0] * 4 + [1] * 4


def test_in_mvtecs_layout_good_comes_first_and_every_defect_is_anomalous(mvtec: Path) -> None:
    data = folder(mvtec, calibration_fraction=0)
    assert data.class_names == ("good", "a_scratch", "broken")
    assert data.normal_class == "good"
    assert len(data.train) == 5
    counts = data.describe()["counts"]
    assert (counts["test_normal"], counts["test_anomalous"]) == (5, 2)


def test_images_directly_in_train_are_good(mvtec: Path) -> None:
    before = folder(mvtec).test.names
    for path in (mvtec / "train" / "good").iterdir():
        path.rename(mvtec / "train" / path.name)
    (mvtec / "train" / "good").rmdir()
    data = folder(mvtec)
    assert data.class_names == ("good", "a_scratch", "broken")
    assert data.test.names == before


@pytest.mark.parametrize(
    ("places", "asked"),
    [
        (["a.png", "b.png"], None),
        (["x/a.png", "x/y/b.png", "z/c.png"], "good"),
        (["a.png", "cat/b.png"], "good"),
    ],
)
def test_a_tree_without_splits_is_all_normal_and_has_no_test(
    tmp_path: Path, places: list[str], asked: str | None
) -> None:
    for place in places:
        paint(tmp_path / place)
    data = folder(tmp_path, batch_size=1, calibration_fraction=0, normal_class=asked)
    assert data.train.names == places
    assert data.class_names == ("good",)
    assert data.test is None
    assert data.describe()["counts"]["test"] == 0
    with pytest.raises(UserError, match="no test images"):
        data.test_loader()


def test_a_train_folder_without_a_test_folder_has_no_test(benchmark: Path) -> None:
    shutil.rmtree(benchmark / "test")
    assert folder(benchmark, normal_class="cat").test is None


def test_suffixes_count_in_either_case_and_hidden_files_do_not(tmp_path: Path) -> None:
    kept = ["a.JPG", "b.jpeg", "c.Png", "d.bmp", "e.tif", "f.TIFF", "g.webp"]
    for name in [*kept, ".hidden.png", ".cache/h.png", "notes.gif"]:
        paint(tmp_path / name)
    (tmp_path / "readme.txt").write_text("no image")
    found = scan(tmp_path)
    assert found.images == sorted(kept)
    assert found.not_taken == {".gif": 1}


def test_files_are_sorted_by_their_path_from_the_root(tmp_path: Path) -> None:
    places = ["a-b/1.png", "a/2.png", "a.png", "B/1.png", "a/10.png"]
    for place in places:
        paint(tmp_path / place)
    assert scan(tmp_path).images == sorted(places)


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "1.png")
    paint(tmp_path / "b" / "2.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "b" / "across").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    found = scan(tmp_path).images
    assert {os.path.basename(name) for name in found} == {"1.png", "2.png"}
    assert len(found) == 2


def test_a_link_to_nothing_is_an_unreadable_file_not_an_absent_one(tmp_path: Path) -> None:
    paint(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(CorruptImage, match=r"b\.png: not a readable image \(no such file\)"):
        folder(tmp_path, batch_size=1)


def test_linked_class_folders_are_read(benchmark: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("links")
    (root / "train").symlink_to(benchmark / "train")
    (root / "test").mkdir()
    (root / "test" / "cat").symlink_to(benchmark / "train" / "cat")
    tree = read_tree(root, "cat")
    assert tree.class_names == ("cat", "dog")
    assert tree.test is not None
    assert tree.test.names == [f"test/cat/{i}.png" for i in range(4)]


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["notes.txt", "sub/"], r"it holds notes\.txt, sub/; expected jpg/jpeg/png"),
        ([], "it holds nothing"),
        (["train/", "test/a/1.png"], "no images in .*/train: it holds nothing"),
        (["test/a/1.png"], "has a test folder but no train folder"),
        (["train/1.png", "train/cat/2.png"], "both images and folders of images"),
        (["train/good/1.png", "test/2.png"], "outside of any class folder"),
    ],
)
def test_a_tree_that_cannot_be_understood_says_what_was_found(
    tmp_path: Path, places: list[str], message: str
) -> None:
    for place in places:
        if place.endswith(".png"):
            paint(tmp_path / place)
        elif place.endswith("/"):
            (tmp_path / place).mkdir(parents=True)
        else:
            (tmp_path / place).touch()
    with pytest.raises(UserError, match=message) as raised:
        folder(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_missing_root_says_what_is_there_instead(tmp_path: Path) -> None:
    (tmp_path / "widgets").mkdir()
    with pytest.raises(UserError, match=r"data\.root=.*/widget is not a folder \(.* holds widgets/\)"):
        folder(tmp_path / "widget")


def test_a_class_without_training_images_names_those_that_have_some(mvtec: Path) -> None:
    with pytest.raises(UserError, match=r"normal_class=broken .*; classes with training images: good"):
        folder(mvtec, normal_class="broken")


def test_a_home_folder_is_expanded(benchmark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(benchmark.parent))
    data = folder(Path("~") / benchmark.name, normal_class="dog")
    assert data.name == benchmark.name
    assert len(data.test) == 8


@pytest.mark.parametrize("grey", [True, False])
def test_channels_follow_from_the_training_images(tmp_path: Path, grey: bool) -> None:
    for index in range(3):
        paint(tmp_path / "train" / "good" / f"{index}.png", index, grey=True)
    paint(tmp_path / "train" / "good" / "3.png", grey=grey)
    paint(tmp_path / "test" / "good" / "0.png", grey=False)
    assert folder(tmp_path).channels == (1 if grey else 3)
    assert folder(tmp_path, channels=3).train[[0]].images.shape == (1, 3, 6, 6)
    assert folder(tmp_path, channels=1).test[[0]].images.shape == (1, 1, 6, 6)


def test_grey_pictures_saved_as_colour_count_as_grey(tmp_path: Path) -> None:
    for index in range(3):
        shade = np.random.default_rng(index).integers(0, 256, (6, 6, 1), dtype=np.uint8)
        Image.fromarray(np.repeat(shade, 3, -1)).save(tmp_path / f"{index}.jpg")
    assert folder(tmp_path).channels == 1


@pytest.mark.parametrize("limit_gib", [4, 0])
def test_loaded_images_are_the_decoded_files(mvtec: Path, limit_gib: float) -> None:
    paint(mvtec / "test" / "broken" / "001.png", side=11)
    data = folder(mvtec, memory_limit_gib=limit_gib, resize="crop")
    assert data.test.streamed == (limit_gib == 0)
    expected = torch.stack([decode(mvtec / name, 6, 3, "crop") for name in data.test.names])
    assert torch.equal(data.test[range(len(data.test))].images, expected)
    with Image.open(mvtec / data.test.names[-1]) as image:
        assert torch.equal(data.to_raw(image), expected[-1])


def test_workers_stream_the_same_batches_as_memory_holds(benchmark: Path) -> None:
    memory = folder(benchmark, normal_class="cat", evaluation_batch_size=3, workers=2)
    files = folder(benchmark, normal_class="cat", evaluation_batch_size=3, workers=2, memory_limit_gib=0)
    assert memory.test_loader().num_workers == 0
    assert files.test_loader().num_workers == 2
    for ours, theirs in (
        (memory.test_loader(), files.test_loader()),
        (memory.train_dataloader(), files.train_dataloader()),
    ):
        for one, other in zip(ours, theirs, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def damage(root: Path) -> list[str]:
    whole = (root / "train/cat/2.png").read_bytes()
    (root / "train/cat/2.png").write_bytes(whole[: len(whole) // 2])
    (root / "train/cat/9.jpg").touch()
    (root / "test/dog/1.png").write_text("no image")
    return ["train/cat/2.png", "train/cat/9.jpg", "test/dog/1.png"]


@pytest.mark.parametrize("limit_gib", [4, 0])
def test_files_that_cannot_be_read_are_all_named_before_training(benchmark: Path, limit_gib: float) -> None:
    damage(benchmark)
    with pytest.raises(
        CorruptImage, match=r"cat/2\.png: not a readable.*train/cat/9\.jpg.*set data\.on_corrupt=skip"
    ):
        folder(benchmark, normal_class="cat", memory_limit_gib=limit_gib)
    with pytest.raises(CorruptImage, match=r"test/dog/1\.png"):
        folder(benchmark, normal_class="dog", memory_limit_gib=limit_gib)


@pytest.mark.parametrize("limit_gib", [4, 0])
def test_files_that_cannot_be_read_are_left_out_counted_and_listed(
    benchmark: Path, limit_gib: float, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = damage(benchmark)
    with caplog.at_level(logging.WARNING):
        data = folder(
            benchmark,
            normal_class="cat",
            memory_limit_gib=limit_gib,
            on_corrupt="skip",
            calibration_fraction=0,
        )
    assert data.skipped == damaged
    assert data.describe()["counts"]["skipped"] == 3
    assert data.train.names == ["train/cat/0.png", "train/cat/1.png", "train/cat/3.png"]
    assert len(data.test) == 7
    assert "left out 2 files that cannot be read: train/cat/2.png, train/cat/9.jpg" in caplog.text
    expected = torch.stack([decode(benchmark / name, 6, 3, "stretch") for name in data.test.names])
    batches = list(data.test_loader())
    assert torch.equal(torch.cat([batch.images for batch in batches]), expected)
    assert torch.equal(torch.cat([batch.labels for batch in batches]), data.test.labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": "strech"}, "data.resize=strech: did you mean stretch"),
        ({"on_corrupt": "skp"}, "data.on_corrupt=skp: did you mean skip"),
        ({"channels": 4}, "data.channels=4 must be 1, 3 or null"),
        ({"image_size": 0}, "data.image_size=0"),
    ],
)
def test_unknown_options_name_the_valid_ones(benchmark: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        folder(benchmark, **options)


def imagenet(root: Path) -> ImageNet30:
    data = ImageNet30(root=root, normal_class="banjo", batch_size=1, total_images=4, image_size=14)
    data.setup()
    return data


@pytest.mark.parametrize("layout", ["archive", "names", "wnids", "mixed"])
def test_imagenet30_is_read_in_each_of_its_layouts(tmp_path: Path, layout: str) -> None:
    for position, (name, wnid) in enumerate(WNIDS.items()):
        for split in ("train", "test"):
            place = {
                "archive": f"one_class_{split}/{name}/images",
                "names": f"{split}/{name}",
                "wnids": f"{split}/{wnid}",
                "mixed": f"{split}/{name if position % 2 else wnid}",
            }[layout]
            for index in range(2):
                paint(tmp_path / place / f"{index}.png", index, side=16)
    paint(tmp_path / "train" / "n00000000" / "0.png")
    data = imagenet(tmp_path)
    assert data.normal_index == 4
    assert (len(data.train) + len(data.calibration), len(data.test)) == (2, 60)
    assert data.test.labels.tolist() == sorted([*range(30)] * 2)
    with Image.open(tmp_path / data.test.names[0]) as image:
        middle = tmp_path / "middle.png"
        image.crop((1, 1, 15, 15)).save(middle)
    assert torch.equal(data.test[[0]].images[0], decode(middle, 14, 3, "stretch"))


def test_imagenet30_has_30_classes_in_alphabetical_order() -> None:
    assert len(set(WNIDS.values())) == len(WNIDS) == 30
    assert list(WNIDS) == sorted(WNIDS)


def test_imagenet30_names_the_classes_that_are_missing(tmp_path: Path) -> None:
    for name in list(WNIDS)[1:]:
        paint(tmp_path / "train" / name / "0.png")
    with pytest.raises(
        UserError, match=r"lacks train images of acorn and test images of acorn, airliner.*expected"
    ):
        imagenet(tmp_path)
    with pytest.raises(UserError, match="is not a folder; expected one_class_"):
        imagenet(tmp_path / "gone")


@pytest.mark.parametrize("seed", range(5))
def test_images_of_one_object_are_held_out_together(tmp_path: Path, seed: int) -> None:
    for index in range(24):
        paint(tmp_path / f"tile{index % 6}_shot{index // 6}.png", index)
    paint(tmp_path / "tile4_copy.png", 5)  # of a shot of tile 5: from now on they are one object
    data = folder(tmp_path, calibration_fraction=0.3, group=r"tile\d", seed=seed, batch_size=1)
    tiles = [{name[:5] for name in images.names} for images in (data.train, data.calibration)]
    assert tiles[0] | tiles[1] == {f"tile{index}" for index in range(6)}
    assert tiles[0].isdisjoint(tiles[1])
    assert len({"tile4", "tile5"} & tiles[0]) in (0, 2)
    assert len(data.calibration) >= 7  # whole objects, until there are enough
    objects = len(
        {name[:5] for name in data.calibration.names} - ({"tile5"} if "tile4" in tiles[1] else set())
    )
    held_out = f"{len(data.calibration)} held-out images ({len(data.calibration) / 24:.0%} of all, "
    assert data.notes[-1].startswith(held_out)
    assert f"are of {objects} objects" in data.notes[-1]
    assert f"below 1 in {objects + 1}" in data.notes[-1]


def test_names_that_look_like_pictures_of_the_same_objects_are_told_of(tmp_path: Path) -> None:
    for index in range(12):
        paint(tmp_path / f"tile{index % 4}_exp{index // 4}.png", index)
    (note,) = folder(tmp_path, calibration_fraction=0.3, batch_size=1).notes
    assert note.endswith(r"data.group='tile\d+' keeps each object's pictures on one side")
    assert "look like several pictures" not in str(folder(tmp_path, calibration_fraction=0).notes)
    told = folder(tmp_path, calibration_fraction=0.3, batch_size=1, group=r"tile\d+").notes
    assert "look like several pictures" not in str(told)


@pytest.mark.parametrize(
    ("names", "group"),
    [
        (
            [
                "good/tile01_a.png",
                "good/tile01_b.png",
                "tile2_a.png",
                "tile2_b.png",
                "tile3-a.png",
                "tile3-b.png",
            ],
            r"tile\d+",
        ),
        ([f"part{number} {side}.jpg" for number in range(3) for side in "ab"], r"part\d+"),
        ([f"IMG_{number:04}.jpg" for number in range(9)], None),
        ([f"{number:03}.png" for number in range(9)], None),
        ([f"DSC{number:05}.jpg" for number in range(9)], None),
        ([f"cam{number % 2}_{number}.jpg" for number in range(9)], None),
        ([f"tile{number}_0.jpg" for number in range(9)], None),
        ([f"20240501_{number}.jpg" for number in range(9)], None),
        ([f"tile{number // 3}_{number}.jpg" for number in range(9)] + ["other.png"], None),
        ([], None),
    ],
)
def test_a_group_is_suggested_by_words_with_numbers_that_repeat(names: list[str], group: str | None) -> None:
    assert likely_group(names) == group


@pytest.mark.parametrize(
    ("group", "complaint"),
    [
        ("tile(", "no regular expression"),
        ("cup", "is nowhere in tile0.png"),
        ("tile", "all 4 normal images are of one object"),
    ],
)
def test_a_group_that_cannot_be_found_is_said(tmp_path: Path, group: str, complaint: str) -> None:
    for index in range(4):
        paint(tmp_path / f"tile{index}.png", index)
    with pytest.raises(UserError, match=complaint):
        folder(tmp_path, group=group)
