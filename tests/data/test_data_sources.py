import gzip
import pickle
import shutil
import struct
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_digits

from anomaly_gan.data.cifar import CIFAR10, CIFAR100, COARSE, SUPERCLASSES
from anomaly_gan.data.digits import Digits
from anomaly_gan.data.fashion_mnist import FILES, FashionMNIST
from anomaly_gan.data.image_set import ImageSet
from anomaly_gan.data.module import OneClassData
from anomaly_gan.errors import UserError

SHARED: dict[str, Any] = {"normal_class": 3, "batch_size": 2, "total_images": 8, "calibration_fraction": 0.0}


def ready(data: OneClassData) -> OneClassData:
    data.setup()
    return data


def everything(images: ImageSet) -> torch.Tensor:
    return images[range(len(images))].images


def test_digits_are_split_60_40_within_each_class_whatever_the_seed_and_class() -> None:
    parts = [ready(Digits(**SHARED | {"normal_class": digit, "seed": digit})) for digit in range(10)]
    whole = Counter(load_digits().target.tolist())
    tested = Counter(parts[0].test.labels.tolist())
    trained = [set(part.train.names) for part in parts]
    assert sum(tested.values()) == 719
    for digit in range(10):
        assert len(trained[digit]) + tested[digit] == whole[digit]
        assert abs(tested[digit] - 0.4 * whole[digit]) <= 1
        assert parts[digit].test.names == parts[0].test.names
    rows = [name.split("/")[1] for part in trained for name in part] + [
        name.split("/")[1] for name in parts[0].test.names
    ]
    assert sorted(rows) == [f"{row:05d}" for row in range(1797)]


def test_digits_are_scikit_learns_scaled_to_0_255_and_doubled() -> None:
    data = ready(Digits(**SHARED))
    source = load_digits()
    rows = [int(name.split("/")[1]) for name in data.test.names]
    images = everything(data.test)
    assert images.shape == (719, 1, 16, 16)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(source.images[rows]).float()[:, None] * (255 / 16), scale_factor=2, mode="bilinear"
    )
    assert (images - expected).abs().max() <= 1.01
    assert data.test.labels.tolist() == source.target[rows].tolist()
    assert images.max() == 255


def write_fashion(folder: Path, gzipped: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    written = {}
    for split, count in (("train", 40), ("test", 20)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        written[split] = images, labels
        for name, values in zip(FILES[split], (images, labels), strict=True):
            content = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()
            path = folder / f"{name}.gz" if gzipped else folder / name
            path.write_bytes(gzip.compress(content) if gzipped else content)
    return written


@pytest.mark.parametrize("place", ["FashionMNIST/raw", "dataset"])
@pytest.mark.parametrize("gzipped", [False, True])
def test_fashion_mnist_is_read_gzipped_or_not_and_padded(tmp_path: Path, place: str, gzipped: bool) -> None:
    written = write_fashion(tmp_path / place, gzipped)
    root = tmp_path if place.startswith("Fashion") else tmp_path / place
    data = ready(FashionMNIST(root=root, **SHARED))
    images, labels = written["train"]
    assert np.array_equal(everything(data.train)[:, 0, 2:30, 2:30], images[labels == 3])
    images, labels = written["test"]
    padded = everything(data.test)
    assert np.array_equal(padded[:, 0], np.pad(images, ((0, 0), (2, 2), (2, 2))))
    assert data.test.labels.tolist() == labels.tolist()
    assert data.normal_class == "dress"
    assert torch.equal(data.to_raw(Image.fromarray(images[0])), padded[0])


def test_our_reader_agrees_with_torchvisions(tmp_path: Path) -> None:
    write_fashion(tmp_path / "FashionMNIST/raw", gzipped=False)
    theirs = torchvision.datasets.FashionMNIST(tmp_path, train=False)
    ours = ready(FashionMNIST(root=tmp_path, **SHARED)).test
    assert torch.equal(everything(ours)[:, 0, 2:30, 2:30], theirs.data)
    assert torch.equal(ours.labels, theirs.targets)


def test_missing_fashion_mnist_names_file_folder_and_remedies(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        ready(FashionMNIST(root=tmp_path, **SHARED))
    for word in (
        *(f"{name}[.gz]" for names in FILES.values() for name in names),
        f"{tmp_path}/FashionMNIST/raw",
        "data.download=true",
        "dataset-fashion-mnist",
    ):
        assert word in str(raised.value)


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("kept", [0, 2, 9, 500])
def test_a_truncated_fashion_mnist_file_is_named(tmp_path: Path, gzipped: bool, kept: int) -> None:
    write_fashion(tmp_path / "FashionMNIST/raw", gzipped)
    path = tmp_path / "FashionMNIST/raw" / (FILES["train"][0] + (".gz" if gzipped else ""))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.* is damaged"):
        ready(FashionMNIST(root=tmp_path, **SHARED))


def test_download_is_asked_of_torchvision_only_where_files_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(self: torchvision.datasets.FashionMNIST) -> None:
        write_fashion(Path(self.raw_folder), gzipped=False)

    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "download", fetch)
    for _ in range(2):  # a second fetch would fail on the existing folder
        assert len(ready(FashionMNIST(root=tmp_path, download=True, **SHARED)).test) == 20


def test_a_download_is_waited_for_by_others_that_ask_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, asked = Event(), Event()

    def fetch(self: torchvision.datasets.FashionMNIST) -> None:
        begun.set()
        raw = Path(self.raw_folder)
        raw.mkdir(parents=True)  # a second fetch would fail on it
        (raw / FILES["train"][0]).write_bytes(b"half of a file")
        asked.wait(60)
        time.sleep(0.2)
        shutil.rmtree(raw)
        write_fashion(raw, gzipped=False)

    def count(_: int) -> int:
        return len(ready(FashionMNIST(root=tmp_path / "new", download=True, **SHARED)).test)

    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "download", fetch)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(count, 0)
        assert begun.wait(60)
        second = pool.submit(count, 1)
        asked.set()
        assert [first.result(), second.result()] == [20, 20]


def test_where_no_lock_can_be_had_files_that_are_there_are_read(tmp_path: Path) -> None:
    write_fashion(tmp_path / "FashionMNIST/raw", gzipped=False)
    (tmp_path / ".locks").write_text("in the way")
    assert len(ready(FashionMNIST(root=tmp_path, download=True, **SHARED)).test) == 20


def test_a_failed_download_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(self: object) -> None:
        raise OSError("network is\nunreachable")

    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "download", unreachable)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", unreachable)
    for source in (FashionMNIST, CIFAR10):
        with pytest.raises(UserError, match="network is unreachable"):
            ready(source(root=tmp_path, download=True, **SHARED))


def write_cifar(
    root: Path, source: type[torchvision.datasets.CIFAR10], classes: int, monkeypatch: pytest.MonkeyPatch
) -> dict[str, tuple[np.ndarray, list[int]]]:
    """Small files in torchvision's layout; its checksums are those of the real ones, so they are lifted."""
    folder = root / source.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    written: dict[str, Any] = {"train": ([], []), "test": ([], [])}
    key = "labels" if classes == 10 else "fine_labels"
    for split, files in (("train", source.train_list), ("test", source.test_list)):
        for name, _ in files:
            pixels = rng.integers(0, 256, (2 * classes, 3072), dtype=np.uint8)
            labels = [*range(classes)] * 2
            (folder / name).write_bytes(pickle.dumps({"data": pixels, key: labels}))
            written[split][0].append(pixels.reshape(-1, 3, 32, 32))
            written[split][1].extend(labels)
    names = [f"class {i}" for i in range(classes)]
    (folder / source.meta["filename"]).write_bytes(pickle.dumps({source.meta["key"]: names}))
    monkeypatch.setattr(source, "train_list", [[name, None] for name, _ in source.train_list])
    monkeypatch.setattr(source, "test_list", [[name, None] for name, _ in source.test_list])
    monkeypatch.setattr(source, "meta", source.meta | {"md5": None})
    return {split: (np.concatenate(pixels), labels) for split, (pixels, labels) in written.items()}


def test_cifar10_is_the_files_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write_cifar(tmp_path, torchvision.datasets.CIFAR10, 10, monkeypatch)
    data = ready(CIFAR10(root=tmp_path, **SHARED))
    images, labels = written["train"]
    rows = np.flatnonzero(np.array(labels) == 3)
    assert np.array_equal(everything(data.train), images[rows])
    assert data.train.names == [f"train/{row:05d}" for row in rows]
    images, labels = written["test"]
    assert np.array_equal(everything(data.test), images)
    assert data.test.labels.tolist() == labels
    assert data.normal_class == "cat"


@pytest.mark.parametrize("superclass_map", ["coarse", "csi"])
def test_cifar100_groups_fine_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, superclass_map: str
) -> None:
    written = write_cifar(tmp_path, torchvision.datasets.CIFAR100, 100, monkeypatch)
    data = ready(CIFAR100(root=tmp_path, superclass_map=superclass_map, **SHARED))
    images, fine = written["train"]
    members = SUPERCLASSES[superclass_map][3]
    assert np.array_equal(everything(data.train), images[np.isin(fine, members)])
    for label, group in zip(data.test.labels.tolist(), written["test"][1], strict=True):
        assert group in SUPERCLASSES[superclass_map][label]
    assert data.describe()["dataset"] == {"coarse": "cifar100", "csi": "cifar100-csi"}[superclass_map]


@pytest.mark.parametrize("superclass_map", ["coarse", "csi"])
def test_the_superclasses_are_a_partition_into_20_times_5(superclass_map: str) -> None:
    groups = SUPERCLASSES[superclass_map]
    assert [len(group) for group in groups] == [5] * 20
    assert sorted(fine for group in groups for fine in group) == [*range(100)]
    assert len(CIFAR100.class_names) == 20
    assert list(CIFAR100.class_names) == sorted(CIFAR100.class_names)


def test_csis_superclasses_differ_in_13_of_20() -> None:
    differing = [set(ours) != set(theirs) for ours, theirs in zip(COARSE, SUPERCLASSES["csi"], strict=True)]
    assert sum(differing) == 13


def test_csis_superclasses_follow_from_a_misplaced_keyboard() -> None:
    # Sort the names, take keyboard out, put it back at 25, then read the list by its new positions.
    order = [*range(100)]
    order.remove(39)
    order.insert(25, 39)
    assert SUPERCLASSES["csi"] == tuple(tuple(order.index(fine) for fine in group) for group in COARSE)


def test_an_unknown_superclass_map_names_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.superclass_map=corse: did you mean coarse"):
        ready(CIFAR100(root=tmp_path, superclass_map="corse", **SHARED))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            CIFAR10,
            ["data_batch_1", "test_batch", "cifar-10-batches-py", "data.download=true", "data=cifar10_jpeg"],
        ),
        (CIFAR100, ["cifar100 needs train, test, meta", "cifar-100-python", "data.download=true"]),
    ],
)
def test_missing_cifar_names_files_folder_and_remedies(
    tmp_path: Path, source: type[CIFAR10], expected: list[str]
) -> None:
    with pytest.raises(UserError) as raised:
        ready(source(root=tmp_path, **SHARED))
    assert all(word in str(raised.value) for word in [*expected, str(tmp_path)])


def test_a_damaged_cifar_file_is_refused_by_its_checksum(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (
        "data_batch_1",
        "data_batch_2",
        "data_batch_3",
        "data_batch_4",
        "data_batch_5",
        "test_batch",
    ):
        (folder / name).write_bytes(pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [0]}))
    with pytest.raises(UserError, match="missing or damaged"):
        ready(CIFAR10(root=tmp_path, **SHARED))
