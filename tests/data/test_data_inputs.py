"""Everything that a program may call an image becomes what its file would."""

import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from anomaly_gan.data.decode import CorruptImage, decode
from anomaly_gan.data.inputs import read, read_ahead, read_batches, separate
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
        str(path), path, path.read_bytes(), Image.open(path), array, planes, array / 255,
        (array / 255).astype(np.float32), tensor, tensor / 255,
        (tensor.double() / 255).requires_grad_(), array[:, ::-1][:, ::-1],
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
        (3, ["type int", "paths, contents of files"]),
        (None, ["type NoneType"]),
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


def test_content_that_is_no_image_is_told_apart_from_a_file(tmp_path: Path) -> None:
    for content, why in ((b"", "the file is empty"), (b"bytes", "neither JPEG")):
        with pytest.raises(CorruptImage, match=f"^not a readable image .*{why}"):
            read(content, **FORM)


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


def test_what_comes_before_a_failure_of_the_items_is_handed_out_first() -> None:
    def items():
        yield from range(37)
        raise UserError("the camera is gone")

    batches = read_ahead(items(), lambda item: item, 8)
    assert [item for batch in islice(batches, 5) for item, _ in batch] == list(range(37))
    with pytest.raises(UserError, match="camera"):
        next(batches)


@pytest.mark.parametrize("how", ["closed by with", "closed beneath", "truncated"])
def test_a_pil_image_whose_pixels_cannot_be_had_any_more_is_said_to_be_so(tmp_path: Path, how: str) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(pixels(50, 50, 3)).save(path)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:500])
    image = Image.open(path)
    if how == "closed by with":
        with image:
            pass
    elif how == "closed beneath":
        image.fp.close()
    words = "truncated" if how == "truncated" else "its file is closed"
    with pytest.raises(CorruptImage, match=f"image.png: not a readable image .*{words}"):
        read(image, **FORM)
    image.close()


def one_buffer(arrays: list[np.ndarray]) -> Iterator[np.ndarray]:
    """As a camera gives its pictures."""
    buffer = np.empty_like(arrays[0])
    for array in arrays:
        buffer[:] = array
        yield buffer


def one_tensor(arrays: list[np.ndarray]) -> Iterator[torch.Tensor]:
    buffer = torch.empty(3, 20, 20, dtype=torch.uint8)
    for array in arrays:
        buffer.copy_(torch.from_numpy(array).permute(2, 0, 1))
        yield buffer


def batches_in_one_buffer(arrays: list[np.ndarray]) -> Iterator[np.ndarray]:
    buffer = np.empty((4, *arrays[0].shape), np.uint8)
    for start in range(0, len(arrays), 4):
        rows = arrays[start : start + 4]
        buffer[: len(rows)] = rows
        yield buffer[: len(rows)]


def one_image(arrays: list[np.ndarray]) -> Iterator[Image.Image]:
    image = Image.new("RGB", (20, 20))
    for array in arrays:
        image.paste(Image.fromarray(array))
        yield image


def pages(arrays: list[np.ndarray], path: Path) -> Path:
    first, *others = (Image.fromarray(array) for array in arrays)
    first.save(path, save_all=True, append_images=others)
    return path


def in_sequence(arrays: list[np.ndarray], path: Path) -> Iterator[Image.Image]:
    with Image.open(pages(arrays, path)) as image:
        yield from ImageSequence.Iterator(image)


def sought(arrays: list[np.ndarray], path: Path) -> Iterator[Image.Image]:
    with Image.open(pages(arrays, path)) as image:
        for page in range(len(arrays)):
            image.seek(page)
            yield image


def opened_one_by_one(arrays: list[np.ndarray], path: Path) -> Iterator[Image.Image]:
    for array in arrays:
        Image.fromarray(array).save(path.with_suffix(".png"))
        with Image.open(path.with_suffix(".png")) as image:
            yield image


CHANGING = {
    "one buffer": lambda arrays, path: one_buffer(arrays),
    "one tensor": lambda arrays, path: one_tensor(arrays),
    "batches in one buffer": lambda arrays, path: batches_in_one_buffer(arrays),
    "one PIL image": lambda arrays, path: one_image(arrays),
    "ImageSequence": in_sequence,
    "seek": sought,
    "with Image.open": opened_one_by_one,
}


@pytest.mark.parametrize("container", CHANGING)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 40), st.integers(1, 50))
def test_each_image_is_read_as_it_was_when_it_was_yielded(
    tmp_path: Path, container: str, count: int, batch_size: int
) -> None:
    arrays = [pixels(20, 20, 3, seed=seed) for seed in range(count)]
    images = CHANGING[container](arrays, tmp_path / "pages.tif")
    found = [image for batch in read_batches(images, batch_size, **FORM) for _, image in batch]
    assert len(found) == count
    for image, array in zip(found, arrays, strict=True):
        assert torch.equal(image, read(array, **FORM))


def test_one_lazily_opened_image_given_many_times_is_one_image(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(pixels(300, 300, 3)).save(path)
    expected = read(path, **FORM)
    for batch_size in (1, 7, 64):
        with Image.open(path) as image:
            batches = list(read_batches([image] * 64, batch_size, **FORM))
        assert all(torch.equal(found, expected) for batch in batches for _, found in batch)
