import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from anomaly_gan.data.decode import ORIENTATION, CorruptImage, decode, picture, place_in_picture, to_tensor
from anomaly_gan.errors import UserError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 6), dtype=np.uint8)
PHOTO = np.stack(np.meshgrid(np.linspace(0, 255, 90), np.linspace(255, 0, 60)), -1).mean(-1).astype(np.uint8)


def rgb(image: Image.Image, side: int = 6) -> np.ndarray:
    return to_tensor(image, side, 3, "stretch").permute(1, 2, 0).numpy()


def grey(image: Image.Image, side: int = 6) -> np.ndarray:
    return to_tensor(image, side, 1, "stretch")[0].numpy()


def test_an_image_of_the_right_size_keeps_its_pixels() -> None:
    assert np.array_equal(rgb(Image.fromarray(COLOUR)), COLOUR)
    assert np.array_equal(grey(Image.fromarray(GREY)), GREY)


def test_grey_becomes_three_equal_channels_and_colour_becomes_luma() -> None:
    assert np.array_equal(rgb(Image.fromarray(GREY)), np.repeat(GREY[..., None], 3, -1))
    luma = COLOUR @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    assert np.abs(grey(Image.fromarray(COLOUR)) - luma).max() <= 1


def test_one_bit_images_are_black_and_white() -> None:
    bits = GREY > 127
    assert np.array_equal(grey(Image.fromarray(bits)), bits * 255)


def test_palettes_are_looked_up_before_resizing() -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    image.putpalette([200, 0, 0, 0, 100, 0])
    assert np.array_equal(rgb(image.resize((2, 2)), 2)[0], [[200, 0, 0], [0, 100, 0]])
    assert rgb(image, 1).tolist() == [[[100, 50, 0]]]


def test_a_transparent_palette_entry_is_white() -> None:
    image = Image.fromarray(np.array([[0, 1], [0, 1]], np.uint8), "L").convert("P")
    image.putpalette([200, 0, 0, 0, 100, 0])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=0)
    assert rgb(Image.open(buffer), 2)[0].tolist() == [[255, 255, 255], [0, 100, 0]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composited_on_white(mode: str) -> None:
    bands = 3 if mode == "RGBA" else 1
    colour = COLOUR[..., :bands].astype(float)
    alpha = GREY[..., None] / 255
    image = Image.fromarray(np.concatenate([COLOUR[..., :bands], GREY[..., None]], -1), mode)
    expected = np.broadcast_to(colour * alpha + 255 * (1 - alpha), (6, 6, 3))
    assert np.abs(rgb(image) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_key_is_white(mode: str) -> None:
    image = Image.new(mode, (2, 1))
    image.putpixel((1, 0), 90 if mode == "L" else (90, 90, 90))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=0 if mode == "L" else (0, 0, 0))
    stretched = rgb(Image.open(buffer), 2)
    assert stretched[0].tolist() == [[255, 255, 255], [90, 90, 90]]


def test_cmyk_is_converted() -> None:
    image = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    assert rgb(image, 2)[0, 0].tolist() == [255, 0, 0]
    assert grey(image, 2)[0, 0] == 76


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
def test_sixteen_bit_values_are_scaled_by_their_full_range(mode: str) -> None:
    values = np.array([[0, 257, 2570], [128, 129, 32768], [65535, 65278, 1000]])
    dtype = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}[mode]
    image = Image.frombytes(mode, (3, 3), values.astype(dtype).tobytes())
    assert np.array_equal(grey(image, 3), np.round(values / 257))


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_camera_of_fewer_bits_has_its_own_white_which_no_image_changes(bits: int) -> None:
    white = 2**bits - 1
    values = RNG.integers(0, white + 1, (4, 4)).astype(np.uint16)
    expected = np.round(values / (white / 255)).astype(np.uint8)
    assert np.array_equal(to_tensor(Image.fromarray(values), 4, 1, "stretch", bits)[0], expected)
    dark = Image.fromarray(np.full((4, 4), white // 8, np.uint16))
    assert (to_tensor(dark, 4, 1, "stretch", bits) == round(255 / 8)).all()
    beyond = Image.fromarray(np.full((4, 4), white + 1, np.uint16))
    with pytest.raises(UserError, match=f"take more than {bits} bits: set data.bits higher"):
        to_tensor(beyond, 4, 1, "stretch", bits)
    eight = Image.fromarray(np.full((4, 4), 200, np.uint8))
    assert (to_tensor(eight, 4, 1, "stretch", bits) == 200).all()


def test_a_dark_sixteen_bit_image_stays_dark() -> None:
    dark = Image.fromarray(np.full((4, 4), 300, np.uint16))
    dark.putpixel((0, 0), 0)
    assert grey(dark, 4).max() == 1


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_files_are_read_by_the_same_scale(tmp_path: Path, suffix: str) -> None:
    values = RNG.integers(0, 65536, (5, 5)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(decode(tmp_path / f"a.{suffix}", 5, 1, "stretch")[0], np.round(values / 257))


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(0, 1, 9, dtype=np.float32),
        np.linspace(0, 255, 9, dtype=np.float32),
        np.array([1, 300, np.nan], np.float32),
        np.array([-5, 300], np.int32),
        np.array([0, 1 << 20], np.int32),
    ],
)
def test_values_of_unknown_scale_are_refused_rather_than_shown_black_or_white(
    tmp_path: Path, values: np.ndarray
) -> None:
    image = Image.fromarray(values[None])
    with pytest.raises(UserError, match="16-bit scale"):
        to_tensor(image, 4, 1, "stretch")
    image.save(tmp_path / "a.tiff")
    with pytest.raises(CorruptImage, match=r"a\.tiff: not a readable image \(values from"):
        decode(tmp_path / "a.tiff", 4, 1, "stretch")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    # How a camera stores the upright picture under each orientation (EXIF 2.3, table of tag 0x0112).
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](COLOUR)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"a.{suffix}", exif=exif, **options)
    assert np.array_equal(decode(tmp_path / f"a.{suffix}", 6, 3, "stretch").permute(1, 2, 0), COLOUR)


def test_damaged_metadata_does_not_cost_the_image(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + b"garbage" * 4)
    assert decode(tmp_path / "a.jpg", 6, 3, "stretch").shape == (3, 6, 6)


def test_the_image_handed_in_is_left_as_it_was() -> None:
    image = Image.fromarray(COLOUR)
    image.getexif()[ORIENTATION] = 6
    to_tensor(image, 3, 1, "crop")
    assert np.array_equal(np.array(image), COLOUR)
    assert image.mode == "RGB"


def test_stretch_shows_the_whole_image_as_torchvision_resizes_it() -> None:
    image = Image.fromarray(PHOTO)
    expected = tv.pil_to_tensor(tv.resize(image, [16, 16], InterpolationMode.BILINEAR))
    assert torch.equal(to_tensor(image, 16, 1, "stretch"), expected)
    corner = Image.new("L", (64, 16))
    corner.putpixel((63, 15), 255)
    assert to_tensor(corner, 16, 1, "stretch")[0, -1, -1] > 0


def test_crop_of_a_256_square_is_its_exact_middle() -> None:
    pixels = RNG.integers(0, 256, (256, 256), dtype=np.uint8)
    assert np.array_equal(to_tensor(Image.fromarray(pixels), 224, 1, "crop")[0], pixels[16:240, 16:240])


def test_crop_is_imagenets_resize_and_centre_crop_but_for_rounding() -> None:
    image = Image.fromarray(PHOTO).resize((900, 600), Image.Resampling.BICUBIC)
    expected = tv.pil_to_tensor(tv.center_crop(tv.resize(image, 256, InterpolationMode.BILINEAR), [224, 224]))
    ours = to_tensor(image, 224, 1, "crop")
    assert (ours.int() - expected.int()).abs().max() <= 1


def test_pad_puts_a_small_image_unchanged_in_the_middle() -> None:
    padded = to_tensor(Image.fromarray(COLOUR), 10, 3, "pad").permute(1, 2, 0).numpy()
    assert np.array_equal(padded, np.pad(COLOUR, ((2, 2), (2, 2), (0, 0))))


def test_pad_shrinks_only_what_does_not_fit_and_keeps_its_shape() -> None:
    padded = to_tensor(Image.new("L", (400, 200), 255), 20, 1, "pad")[0]
    assert torch.equal(
        padded, torch.nn.functional.pad(torch.full((10, 20), 255, dtype=torch.uint8), (0, 0, 5, 5))
    )


@settings(deadline=None, max_examples=80)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(
        [
            "L",
            "RGB",
            "P",
            "RGBA",
            "LA",
            "1",
            "I;16",
            "I",
            "F",
            "CMYK",
            "YCbCr",
            "HSV",
            "LAB",
            "PA",
            "La",
            "RGBa",
        ]
    ),
    st.sampled_from([1, 3]),
    st.sampled_from(["stretch", "crop", "pad"]),
    st.integers(1, 40),
)
def test_any_mode_and_size_gives_the_promised_shape(
    width: int, height: int, mode: str, channels: int, resize: str, side: int
) -> None:
    tensor = to_tensor(Image.new(mode, (width, height)), side, channels, resize)
    assert tensor.shape == (channels, side, side)
    assert tensor.dtype == torch.uint8
    assert tensor.is_contiguous()


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_a_line_of_pixels_is_an_image_too(resize: str) -> None:
    assert to_tensor(Image.new("L", (50_000, 1), 7), 8, 1, resize).max() == 7


def encoded(format_: str) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, format_)
    return buffer.getvalue()


FILES = {format_: encoded(format_) for format_ in ("JPEG", "PNG", "BMP", "TIFF", "WEBP")}


@pytest.mark.parametrize("format_", FILES)
def test_every_format_is_read_whatever_its_suffix_says(tmp_path: Path, format_: str) -> None:
    (tmp_path / "a.jpg").write_bytes(FILES[format_])
    noise = np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    decoded = decode(tmp_path / "a.jpg", 24, 3, "stretch").permute(1, 2, 0).numpy()
    if format_ in ("JPEG", "WEBP"):  # lossy
        assert np.abs(decoded.astype(int).mean((0, 1)) - noise.mean((0, 1))).max() < 8
    else:
        assert np.array_equal(decoded, noise)


@pytest.mark.filterwarnings("ignore::UserWarning")  # PIL's remarks on damaged files
@pytest.mark.parametrize("format_", FILES)
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_truncated_file_is_named(
    tmp_path_factory: pytest.TempPathFactory, format_: str, data: st.DataObject
) -> None:
    whole = FILES[format_]
    path = tmp_path_factory.getbasetemp() / "cut.img"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) * 9 // 10))])
    with pytest.raises(CorruptImage, match=r"cut\.img: not a readable image"):
        decode(path, 8, 3, "stretch")


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))),
)
def test_damaged_bytes_give_an_image_or_a_user_error_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, format_: str, damage: list[tuple[int, bytes]]
) -> None:
    content = bytearray(FILES[format_])
    for position, patch in damage:
        at = position % len(content)
        content[at : at + len(patch)] = patch
    path = tmp_path_factory.getbasetemp() / "damaged.img"
    path.write_bytes(content)
    try:
        image = decode(path, 8, 3, "stretch")
    except UserError as error:
        message = str(error)
    else:
        message = "damaged.img"
        assert image.shape == (3, 8, 8)
    assert "damaged.img" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "the file is empty"), (b"just some text", "neither JPEG, PNG, BMP, TIFF nor WEBP")],
)
def test_a_file_that_is_no_image_says_why(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(CorruptImage, match=reason):
        decode(tmp_path / "a.png", 8, 3, "stretch")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptImage, match=r"gone\.png: not a readable image \(no such file\)"):
        decode(tmp_path / "gone.png", 8, 3, "stretch")
    with pytest.raises(CorruptImage, match="no regular file"):
        decode(tmp_path, 8, 3, "stretch")


def test_formats_that_start_programs_are_not_opened(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.eps")
    with pytest.raises(CorruptImage, match="neither JPEG"):
        decode(tmp_path / "a.eps", 8, 3, "stretch")


def test_a_decompression_bomb_is_a_user_error(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )
    (tmp_path / "bomb.png").write_bytes(png)
    with pytest.raises(CorruptImage, match=r"bomb\.png: not a readable image \(it claims more than"):
        decode(tmp_path / "bomb.png", 8, 3, "stretch")


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(300, 200), (120, 400), (40, 30), (64, 64), (33, 65)])
def test_a_place_of_the_square_is_found_again_in_the_picture(resize: str, size: tuple[int, int]) -> None:
    width, height = size
    side = 64
    for x, y in ((0.5, 0.5), (0.4, 0.6), (0.62, 0.45)):
        columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        spot = np.hypot(columns - x * width, rows - y * height) < 0.1 * min(size)
        square = to_tensor(Image.fromarray(np.uint8(255 * spot)), side, 1, resize)[0].double()
        total = square.sum()
        at = (torch.arange(side) + 0.5) / side
        found = (square.sum(0) @ at.double() / total, square.sum(1) @ at.double() / total)
        left, top, wide, high = place_in_picture(size, side, resize)
        pixel = max(wide, high) / side  # of the square, in shares of the picture
        assert abs(left + float(found[0]) * wide - x) < 0.6 * pixel
        assert abs(top + float(found[1]) * high - y) < 0.6 * pixel


def test_a_picture_is_read_upright_in_its_own_resolution_and_becomes_what_the_file_becomes(
    tmp_path: Path,
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(PHOTO).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(COLOUR).convert("RGBA").save(tmp_path / "alpha.png")
    for name, size in (("turned.png", (60, 90)), ("alpha.png", (6, 6))):
        seen = picture(tmp_path / name)
        assert seen.size == size
        assert seen.mode in ("L", "RGB")
        assert torch.equal(to_tensor(seen, 16, 3, "crop"), decode(tmp_path / name, 16, 3, "crop"))
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(CorruptImage, match=r"bad\.png"):
        picture(tmp_path / "bad.png")
