"""Everything that a program may call an image becomes what its file would."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anomaly_gan.data.decode import CorruptImage, decode
from anomaly_gan.data.inputs import read, read_ahead, separate
from anomaly_gan.errors import UserError

FORM = {"image_size": 16, "channels": 3, "resize": "stretch"}


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3), (20, 30, 4), (16, 16, 3), (40, 9)])
def test_an_array_of_a_file_gives_what_the_file_gives(
    tmp_path: Path, shape: tuple[int, ...], resize: str, channels: int
) -> None:
    array = pixels(*shape)
    path = tmp_path / "image.png"
    Image.fromarray(array).save(path)
    form = {"image_size": 16, "channels": channels, "resize": resize}
    expected = decode(path, **form)
    planes = array[:, :, None] if array.ndim == 2 else array
    tensor = torch.from_numpy(planes).permute(2, 0, 1)
    for image in (
        str(path), path, Image.open(path), array, planes, array / 255, (array / 255).astype(np.float32),
        tensor, tensor / 255, (tensor.double() / 255).requires_grad_(), array[:, ::-1][:, ::-1],
    ):  # fmt: skip
        assert torch.equal(read(image, **form), expected)


def test_batches_and_sequences_come_apart_in_order(tmp_path: Path) -> None:
    one, batch = pixels(5, 6, 3), pixels(2, 5, 6, 3)
    tensors = torch.zeros(3, 1, 5, 5)
    image = Image.fromarray(one)
    mixed = ["a.png", one, [image, batch], (tensors, tmp_path), iter([one])]
    found = list(separate(mixed))
    assert len(found) == 1 + 1 + 1 + 2 + 3 + 1 + 1
    assert found[0] == "a.png"
    assert np.array_equal(found[4], batch[1])
    for alone in ("a.png", tmp_path, image, one, tensors[0]):
        assert len(list(separate(alone))) == 1
    for names in (np.array(["a.png", "b.png"]), np.array(["a.png", "b.png"], dtype=object)):
        assert list(separate(names)) == ["a.png", "b.png"]
    assert list(separate([])) == list(separate(np.zeros((0, 5, 5, 3), np.uint8))) == []


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((10, 28, 28), np.uint8), ["[10, 28, 28]", "[N, H, W, 1]"]),
        (np.zeros((5, 5, 2), np.uint8), ["[5, 5, 2]", "C = 1, 3 or 4"]),
        (np.zeros((5,), np.uint8), ["[5]"]),
        (np.zeros((0, 5), np.uint8), ["[0, 5]"]),
        (np.zeros((5, 5), np.int64), ["int64", "uint8"]),
        (np.zeros((5, 5), bool), ["bool"]),
        (np.full((5, 5), 255.0), ["from 255 to 255", "[0, 1]"]),
        (np.full((5, 5), -0.1), ["-0.1"]),
        (np.full((5, 5), np.nan), ["nan"]),
        (torch.zeros(5, 5), ["tensor", "[5, 5]", "[C, H, W]"]),
        (torch.zeros(5, 5, 3), ["[5, 5, 3]"]),
        (torch.zeros(1, 5, 5, dtype=torch.int32), ["int32"]),
        (torch.full((1, 5, 5), 2.0), ["from 2 to 2"]),
        (3, ["type int", "paths, PIL images"]),
        (None, ["type NoneType"]),
        (b"bytes", ["type bytes"]),
        ({"image": 1}, ["type dict"]),
        (np.zeros((1, 1, 5, 5, 3), np.uint8), ["[1, 1, 5, 5, 3]"]),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused_with_what_it_is_and_what_is_accepted(image, words: list[str]) -> None:
    for given_as in (image, [pixels(5, 5), image]):
        with pytest.raises(UserError) as refused:
            [read(one, **FORM) for one in separate(given_as)]
        assert all(word in str(refused.value) for word in [*words, "accepted: "]), refused.value
        assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptImage, match=r"nowhere\.png"):
        read(tmp_path / "nowhere.png", **FORM)


@given(st.integers(0, 200), st.integers(1, 70))
def test_batches_read_ahead_are_whole_and_in_order(count: int, batch_size: int) -> None:
    batches = list(read_ahead(range(count), lambda item: item * item, batch_size))
    assert [pair for batch in batches for pair in batch] == [(i, i * i) for i in range(count)]
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert all(batches)


def test_no_more_than_a_few_batches_are_read_ahead() -> None:
    drawn = []

    def items():
        for i in range(10_000):
            drawn.append(i)
            yield i

    batches = read_ahead(items(), lambda item: item, 10)
    next(batches)
    time.sleep(0.05)
    assert len(drawn) <= 5 * 10
    batches.close()
    assert not any(thread.name.startswith("read_ahead") for thread in threading.enumerate())


def test_what_goes_wrong_while_reading_ahead_is_raised() -> None:
    def fail(item: int) -> int:
        raise UserError(f"item {item}")

    with pytest.raises(UserError, match="item 0"):
        list(read_ahead(range(100), fail, 8))
