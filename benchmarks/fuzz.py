"""Does any input bring a traceback, a hang or a flood of memory? Damaged images, and settings of any value.

    python benchmarks/fuzz.py --images 5000 --settings 1000 --output results/fuzz.json

Images are given to `data.decode.decode`, and a hundred at a time to `predict`; settings, one or two at a
time, to whole trainings, tiny, and one in five to the commands that take the detector of one. Each command is
a fork of this process, with a limit of memory and of time. Left out are settings that start processes
(`trainer.devices`), fetch data, move runs.
"""

import argparse
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common  # first, for it sets what torch reads when it is loaded
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image

from anomaly_gan.cli import main, predict, train
from anomaly_gan.cli.installed import config_folder
from anomaly_gan.data.decode import CorruptImage, decode
from anomaly_gan.reporting import figures

MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "BMP": ("1", "L", "P", "RGB"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "YCbCr", "I;16", "I", "F"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("L", "P"),
}
TINY = (
    "debug=fast", "schedule.total_images=8", "data.limit=12", "trainer.accelerator=cpu",
    "callbacks.learning_curve.at_iterations=[]",
)  # fmt: skip
LEFT_OUT = ("hydra", "paths", "resume", "trainer.devices", "trainer.num_nodes", "trainer.accelerator")
LEFT_OUT += ("generator_metrics", "launcher", "sweep", "data.download", "experiment", "name", "data.root")
VALUES = (
    "nan", "inf", "-inf", "0", "-1", "1", "0.5", "1e-300", "1e300", "-1e300", "99999999999999999999",
    "2147483648", "4294967296", "65536", "null", "true", "false", "[]", "[null]", "[1,2]", "[0.1,-5]",
    "[nan,nan]", "{}", "{a:1}", "{_target_:os.system}", "''", "' '", "text", "ünï☃", "'\\'", "${seed}",
    "${nothing}", "${oc.env:HOME}", "${", "???", "'???'", "'a\nb'", "[[1],[2]]", "range(1,3)", "a,b", "0x10",
    "1_000", "'1'", "${now:}", "1e3", "-0.0",
)  # fmt: skip
OTHERS = {
    "predict": ("checkpoint={}", "inputs=digit.png", "output=found", "device=cpu"),
    "evaluate": ("checkpoint={}", "data=digits", "data.limit=12", "device=cpu"),
    "export": ("checkpoint={}", "format=torch", "output=detector.pt2"),
}
"""Commands beside train, with what makes them run."""

SECONDS = 30
"""Of the processor, after which a case is ended: a valid training of many iterations then saves and ends."""

PATIENCE = 1200
"""Seconds of the clock after which a case hangs."""

GIB = 6
"""Of address space for one process beyond what it has when it starts."""


@st.composite
def images(draw: st.DrawFn) -> bytes:
    """A real image of any format and mode, cut, flipped, spliced, or left alone; or any bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    kind = draw(st.sampled_from(sorted(MODES)))
    mode = draw(st.sampled_from(MODES[kind]))
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    noise = np.random.default_rng(draw(st.integers(0, 99))).integers(
        0, 256, (height, width, 4), dtype=np.uint8
    )
    if mode in ("I;16", "I", "F"):
        pixels = noise[..., 0].astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
        image = Image.fromarray(pixels)
    elif mode == "LAB":
        image = Image.frombytes("LAB", (width, height), noise[..., :3].tobytes())
    else:
        image = Image.fromarray(noise, "RGBA").convert("RGB").convert(mode)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = draw(st.integers(0, 9))
    more: dict[str, Any] = {"exif": exif} if kind in ("PNG", "JPEG", "WEBP", "TIFF") else {}
    image.save(file, kind, **more)
    content = bytearray(file.getvalue())
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(content) - 1)) if content else 0
        damage = draw(st.sampled_from(("flip", "header", "cut", "insert", "ones")))
        if damage == "cut":
            del content[at:]
        elif damage == "insert":
            content[at:at] = draw(st.binary(max_size=8))
        elif content:
            at = at % min(len(content), 64) if damage == "header" else at
            content[at] = 255 if damage == "ones" else content[at] ^ 1 << draw(st.integers(0, 7))
    return bytes(content)


@st.composite
def overrides(draw: st.DrawFn, keys: list[str]) -> list[str]:
    """One or two settings of hostile values."""
    value = st.one_of(
        st.sampled_from(VALUES), st.integers().map(str), st.floats().map(str), st.text(max_size=6)
    )
    # Drawn directly, the keys would repeat: hypothesis stays near what it has drawn before.
    chosen = random.Random(draw(st.integers(0, 2**64))).sample(keys, draw(st.integers(1, 2)))
    return [f"{key}={draw(value)}" for key in chosen]


def flat(node: Any, path: str = "") -> list[str]:
    """The settings of a configuration, with those that hold others."""
    if not isinstance(node, dict):
        return []
    below = [[path + key, *flat(value, f"{path}{key}.")] for key, value in node.items()]
    return [key for keys in below for key in keys]


def forked(arguments: list[str], place: Path) -> tuple[int, str]:
    """A command, run in a fork of this process from the folder `place`; its exit code and standard error."""
    process = os.fork()
    if not process:
        code = 70
        try:
            os.chdir(place)
            for descriptor, name in ((1, "out.txt"), (2, "err.txt")):
                os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
            most = GIB * 2**30 + int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            figures.save = lambda *_: None
            code = main.run(arguments[0], arguments[1:])
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), (place / "err.txt").read_text(errors="replace")
        if worked(process) > SECONDS:
            os.kill(process, signal.SIGTERM)
            time.sleep(1)
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return -signal.SIGKILL, "hangs"


def worked(process: int) -> float:
    """Seconds of the processor that a process has had."""
    ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def wrong(code: int, err: str) -> str | None:
    """What a user should not have seen of a command; None: nothing."""
    said = [line for line in err.splitlines() if line.startswith("anomaly-gan: ")]
    if "Traceback" in err or code not in (0, 2, 3, 143):
        return err[-600:] or f"code {code}"
    if code in (2, 143) and (len(said) != 1 or err.splitlines()[-1] != said[0]):
        return err[-600:]
    return None


class Findings:
    """Counts of outcomes, and the cases that should not have ended so."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.problems: list[dict[str, str]] = []

    def add(self, outcome: str, case: str, problem: str | None) -> None:
        self.outcomes[outcome if problem is None else "problem"] += 1
        if self.outcomes.total() % 100 == 0:
            print(dict(self.outcomes), flush=True)
        if problem is not None:
            self.problems.append({"case": case, "problem": problem})
            print(f"{case}: {problem}", flush=True)


def fuzz_images(cases: int, place: Path, detector: Path) -> tuple[Findings, Findings]:
    """Decode each; predict a hundred at a time."""
    decoded, predicted = Findings(), Findings()
    folder = place / "images"
    folder.mkdir()
    one = place / "one.png"

    def too_long(*_: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, too_long)

    def predict_all() -> None:
        count = len(list(folder.iterdir()))
        code, err = forked(["predict", f"checkpoint={detector}", "inputs=images", "output=found"], place)
        rows = (place / "found.jsonl").read_text().splitlines() if code in (0, 3) else []
        problem = wrong(code, err) or (None if len(rows) == count else f"{len(rows)} rows of {count}")
        predicted.add(f"code {code}", f"{count} images", problem)
        shutil.rmtree(folder)
        folder.mkdir()

    def check(content: bytes, channels: int, resize: str) -> None:
        one.write_bytes(content)
        problem, outcome = None, "decoded"
        signal.alarm(10)
        try:
            decode(one, 16, channels, resize)
        except CorruptImage as refused:
            outcome = "refused"
            problem = None if "\n" not in str(refused) else "message of several lines"
        except BaseException as other:
            problem = repr(other)
        finally:
            signal.alarm(0)
        decoded.add(outcome, content.hex(), problem)
        (folder / f"{sum(decoded.outcomes.values())}.png").write_bytes(content)
        if len(os.listdir(folder)) == 100:
            predict_all()

    run(check, cases, images(), st.sampled_from((1, 3)), st.sampled_from(("stretch", "crop", "pad")))
    if os.listdir(folder):
        predict_all()
    return decoded, predicted


def settings_of(command: str, words: Sequence[str]) -> list[str]:
    """The settings of a command that are to be tried."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose(command, list(words))
    keys = flat(OmegaConf.to_container(config))
    return [key for key in keys if not key.startswith(LEFT_OUT) and "_target_" not in key]


def fuzz_settings(command: str, words: Sequence[str], cases: int, place: Path) -> Findings:
    """A command that runs with `words`, and one or two hostile settings more."""
    found = Findings()

    def check(given: list[str]) -> None:
        folder = place / "settings" / "a" / "b"
        folder.mkdir(parents=True)
        Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(folder / "digit.png")
        code, err = forked([command, *words, *given], folder)
        found.add(f"code {code}", " ".join([command, *given]), wrong(code, err))
        shutil.rmtree(place / "settings")

    run(check, cases, overrides(settings_of(command, words)))
    return found


def run(check: Any, cases: int, *strategies: Any) -> None:
    """Call `check` with that many draws."""
    every: Any = settings(
        max_examples=cases, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    seed(0)(every(given(*strategies)(check)))()


def run_all() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--settings", type=int, default=1000)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    assert train, predict  # imported, once for all forks
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        code, err = forked(["train", *TINY, "paths.runs=runs"], place)
        assert code == 0, err
        (detector,) = place.glob("runs/digits/*/detector.ckpt")
        common.forget_peak("cpu")
        before = common.peak_mib("cpu")
        decoded, predicted = fuzz_images(given.images, place, detector)
        more = common.peak_mib("cpu") - before
        parts = {"images decoded": decoded, "images predicted": predicted}
        parts["settings of train"] = fuzz_settings("train", TINY, given.settings * 4 // 5, place)
        for command, words in OTHERS.items():
            filled = [word.format(detector) for word in words]
            parts[f"settings of {command}"] = fuzz_settings(command, filled, given.settings // 15, place)
    content: dict[str, Any] = {
        part: {"outcomes": dict(found.outcomes), "problems": found.problems} for part, found in parts.items()
    }
    content |= {"seconds": round(time.monotonic() - begin, 1), "more_mib_of_decoding": more}
    print(json.dumps({part: content[part]["outcomes"] for part in parts}))
    common.write(given.output, content)
    raise SystemExit(any(found.problems for found in parts.values()))


if __name__ == "__main__":
    run_all()
