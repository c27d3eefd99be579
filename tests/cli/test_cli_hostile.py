"""Files made to do harm, or that are no files: refused in one line, nothing run, no memory taken."""

import csv
import json
import os
import pickle
import random
import socket
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_gan.data.decode import MOST_PIXELS, CorruptImage, decode
from anomaly_gan.data.scan import scan
from anomaly_gan.errors import UserError
from anomaly_gan.safe_load import safe_load


@contextmanager
def takes_at_most(mib: int) -> Iterator[None]:
    """What is done within takes no more memory beyond what the process has."""
    forget = Path("/proc/self/clear_refs")
    if not forget.exists():
        pytest.skip("only Linux says how much memory was taken since some moment")
    forget.write_text("5")
    before = _peak_mib()
    yield
    assert _peak_mib() - before < mib


def _peak_mib() -> int:
    # Not getrusage: its peak is that of all that was before, under which anything may hide.
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    return int(line.split()[1]) // 1024


def test_taken_memory_is_seen_after_a_higher_peak() -> None:
    np.ones(2**26)  # 512 MiB, given back
    with pytest.raises(AssertionError), takes_at_most(mib=200):
        np.ones(2**25)


def image(path: Path, side: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side), dtype=np.uint8)).save(path)
    return path


class Calls:
    """Pickles as a call."""

    def __init__(self, *call: Any):
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


def plain_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def old_format(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [torch.save, old_format, plain_pickle])
@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "checkpoint=bad"],
        ["predict", "checkpoint=bad", "inputs=0.png"],
        ["train", "debug=fast", "resume=bad"],
        ["train", "debug=fast", "ablation=full", "generator_metrics.inception_weights=bad"],
    ],
)
def test_no_command_runs_what_a_file_says(
    command, tmp_path: Path, arguments: list[str], write: Callable[[Any, Path], None]
) -> None:
    image(tmp_path / "0.png")
    write({"state_dict": Calls(os.system, f"touch {tmp_path / 'ran'}")}, tmp_path / "bad")
    outcome = command(*arguments)
    assert outcome.code == 2, outcome
    (line,) = outcome.err.strip().splitlines()
    assert "bad" in line
    assert not (tmp_path / "ran").exists()


def repacked(path: Path, compression: int, content: Callable[[str, bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = [(name, content(name, archive.read(name))) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, data)


def claims(size: int) -> Callable[[Path], None]:
    """A tensor of 100,000 numbers that claims to have another number of them."""

    def write(path: Path) -> None:
        torch.save({"a": torch.zeros(100_000)}, path)
        old, new = b"J" + (100_000).to_bytes(4, "little"), b"\x8a\x06" + size.to_bytes(6, "little")
        repacked(path, zipfile.ZIP_STORED, lambda name, data: data.replace(old, new))

    return write


def compressed(path: Path) -> None:
    torch.save({"a": torch.zeros(100_000_000, dtype=torch.uint8)}, path)
    repacked(path, zipfile.ZIP_DEFLATED, lambda name, data: data)


def twice(path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, path)
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".pkl")]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name.upper(), b"")


@pytest.mark.parametrize(
    "write",
    [
        claims(10**12),
        compressed,
        twice,
        lambda path: torch.save({"a": torch.zeros(1).expand(10**12)}, path),
        lambda path: torch.save({"a": [torch.zeros(1).expand(10**12)]}, path),
        lambda path: torch.save({"a": Calls(bytearray, 10**9)}, path),
        lambda path: torch.save({"a": Calls(torch.Tensor, 10**9)}, path),
        lambda path: old_format({"a": Calls(bytearray, 10**9)}, path),
        lambda path: torch.save({"a": torch.zeros(9).to_sparse()}, path),
    ],
)
def test_a_small_file_cannot_ask_for_much_memory(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "bad")
    with takes_at_most(mib=200), pytest.raises(UserError, match="no good"):
        safe_load(tmp_path / "bad", "no good")


def test_any_flipped_bit_is_refused_or_changes_nothing(trained: Path, tmp_path: Path) -> None:
    whole = (trained / "detector.ckpt").read_bytes()
    expected = safe_load(trained / "detector.ckpt", "")["state_dict"]
    refused = 0
    for seed in range(60):
        damaged = bytearray(whole)
        damaged[random.Random(seed).randrange(len(whole))] ^= 1 << seed % 8
        (tmp_path / "bad").write_bytes(damaged)
        try:
            found = safe_load(tmp_path / "bad", "no good")["state_dict"]
        except UserError:
            refused += 1
        else:
            assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert refused > 30


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def tiff(width: int, height: int) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 4, height), (279, 4, width * height % 2**32)]
    body = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags
    )
    return b"II*\0" + struct.pack("<I", 8) + body + bytes(4)


def webp(width: int, height: int) -> bytes:
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    extended = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas
    frames = b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body = b"WEBP" + extended + frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("make", [png, bmp, tiff, webp])
@pytest.mark.parametrize("side", [9_500, 16_000])
def test_an_image_that_claims_too_many_pixels_is_refused_before_it_is_decoded(
    tmp_path: Path, make: Callable[[int, int], bytes], side: int
) -> None:
    assert side**2 > MOST_PIXELS
    (tmp_path / "bomb.png").write_bytes(make(side, side))
    not_read = pytest.raises(CorruptImage, match=r"bomb\.png: not a readable image")
    with takes_at_most(mib=100), not_read:
        decode(tmp_path / "bomb.png", 8, 3, "stretch")


def test_a_large_honest_image_is_read(tmp_path: Path) -> None:
    Image.new("1", (9_400, 9_400), 1).save(tmp_path / "large.png")
    assert decode(tmp_path / "large.png", 8, 1, "stretch").min() == 255


@pytest.mark.filterwarnings("ignore:.*unclosed")
def test_what_is_no_regular_file_is_named_and_never_waited_for(
    command, trained: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    image(folder / "whole.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "broken.png").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(folder / "socket.png"))
    (folder / "folder.png").mkdir()
    (folder / "itself.png").symlink_to("itself.png")
    (folder / "up").symlink_to("..")
    outcome = command("predict", f"checkpoint={trained}", "inputs=in", "output=out")
    assert outcome.code == 3, outcome.err
    rows = {
        Path(row["file"]).name: row["error"]
        for row in map(json.loads, Path("out.jsonl").read_text().splitlines())
    }
    assert rows.keys() == {f"{name}.png" for name in ("whole", "pipe", "zero", "broken", "socket", "itself")}
    assert rows.pop("whole.png") is None
    for name in ("pipe", "zero", "socket"):
        assert "no regular file" in rows[f"{name}.png"]
    outcome = command("train", "data=folder", "data.root=in", "data.image_size=16", "debug=fast")
    assert outcome.code == 2
    assert "broken.png: not a readable image (no such file)" in outcome.err


@pytest.mark.parametrize(
    "name",
    [
        b"new\nline.png",
        b"carriage\rreturn.png",
        b"\xff\xfe.png",
        'ünï ☃,";.png'.encode(),
        b"x" * 250 + b".png",
    ],
)
def test_any_name_that_the_system_allows_can_be_predicted(
    command, trained: Path, tmp_path: Path, name: bytes
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name))
    image(path.parent / "0.png").rename(path)
    outcome = command("predict", f"checkpoint={trained}", "inputs=in", "output=out")
    assert outcome.code == 0, outcome.err
    (line,) = Path("out.jsonl").read_text().splitlines()
    assert json.loads(line)["file"] == os.path.join("in", os.fsdecode(name))
    with Path("out.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    readable = os.fsdecode(name).encode(errors="backslashreplace").decode()
    assert row["file"] == os.path.join("in", readable)


@pytest.mark.slow
@pytest.mark.parametrize("name", [b"new\nline", b"\xff\xfe", b"$\\frac$", "☃".encode()])
def test_a_class_may_have_any_name_that_a_folder_may(command, tmp_path: Path, name: bytes) -> None:
    for i in range(12):
        image(Path(os.fsdecode(os.fsencode(tmp_path) + b"/in/train/good/%d.png" % i)))
        image(Path(os.fsdecode(os.fsencode(tmp_path) + b"/in/test/" + name + b"/%d.png" % i)))
        image(tmp_path / "in" / "test" / "good" / f"{i}.png")
    outcome = command("train", "data=folder", "data.root=in", "data.image_size=16", "debug=fast", "name=in")
    assert outcome.code == 0, outcome.err
    (run,) = (tmp_path / "runs" / "in").iterdir()
    assert command("evaluate", f"checkpoint={run}").code == 0


def test_a_folder_that_cannot_be_read_is_named(
    command, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image(tmp_path / "in" / "closed" / "0.png")
    scan = os.scandir

    def closed(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    for arguments in (
        ["predict", f"checkpoint={trained}", "inputs=in"],
        ["train", "data=folder", "data.root=in"],
    ):
        outcome = command(*arguments)
        assert outcome.code == 2
        assert outcome.err.strip().endswith("in/closed: this folder cannot be read (Permission denied)")


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    image(tmp_path / "a" / "0.png")
    (tmp_path / "a" / "b").symlink_to(tmp_path / "a")
    (tmp_path / "c").symlink_to(tmp_path / "d")
    (tmp_path / "d").symlink_to(tmp_path / "c")
    assert scan(tmp_path).images == ["a/0.png"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_file_that_may_not_be_read_is_corrupt(tmp_path: Path) -> None:
    subprocess.run(["chmod", "a+x", tmp_path, *tmp_path.parents[:2]], check=True)
    path = image(tmp_path / "0.png")
    path.chmod(0)
    os.seteuid(65534)
    try:
        with pytest.raises(CorruptImage, match=r"0\.png: not a readable image .*Permission denied"):
            decode(path, 8, 1, "stretch")
    finally:
        os.seteuid(0)
