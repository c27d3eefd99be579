"""What the benchmarks share: timed trainings on random images, and the machine's peak."""

import ctypes
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# As the command does, before torch is loaded: threads that wait sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from anomaly_gan.build import build_method
from anomaly_gan.cli.installed import config_folder
from anomaly_gan.cli.trainer import make_trainer, speed_up
from anomaly_gan.data.image_set import ImageSet, in_memory
from anomaly_gan.data.module import OneClassData
from anomaly_gan.methods.base import Method
from anomaly_gan.randomness import make_rng
from anomaly_gan.results import machine, versions

DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}


class RandomImages(OneClassData):
    """As many training images as a class of CIFAR-10 has, of noise."""

    name, channels, class_names = "random", 3, ("all",)

    def __init__(self, pixels: int, count: int = 5000, **shared: Any):
        self.image_size, self.count = pixels, count
        super().__init__(normal_class=0, calibration_fraction=0, **shared)

    def load_train(self, normal_index: int) -> ImageSet:
        shape = (self.count, self.channels, self.image_size, self.image_size)
        generator = make_rng("cpu", self.seed, "random images")
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return in_memory(images, torch.zeros(self.count).long(), "train", torch.arange(self.count))

    def load_test(self) -> None:
        return None


class Clock(pl.Callback):
    """Seconds of an iteration, over windows of some; the device is waited for at their ends alone."""

    def __init__(self, warm_up: int, window: int = 1):
        self.warm_up, self.window = warm_up, window
        self.seconds: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        done = pl_module.iteration + 1 - self.warm_up
        if done < 0 or done % self.window:
            return
        synchronise(pl_module.device)
        now = time.perf_counter()
        if done:
            self.seconds.append((now - self.start) / self.window)
        self.start = now


def compose_config(overrides: Sequence[str]) -> dict[str, Any]:
    """A whole training configuration, resolved, in plain containers."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        composed = compose("train", list(overrides))
    composed.width = composed.width or 64  # the paper's where nothing is said, whatever the device
    composed.schedule.total_images = composed.schedule.total_images or 400_000
    config: Any = OmegaConf.to_container(composed, resolve=True)
    return config


def prepare(
    overrides: Sequence[str], iterations: int, pixels: int = 32
) -> tuple[Method, RandomImages, dict[str, Any]]:
    """A new method, random images for that many iterations, and the configuration of both."""
    config = compose_config(overrides)
    data = RandomImages(
        pixels, batch_size=config["batch_size"], total_images=config["batch_size"] * iterations
    )
    data.setup()
    torch.manual_seed(0)
    method = build_method(config, data.describe())
    method.save_hyperparameters(config, logger=False)  # without them no checkpoint is read
    return method, data, config


def fit(
    method: Method,
    data: RandomImages,
    config: dict[str, Any],
    *callbacks: pl.Callback,
    resume: Path | None = None,
) -> None:
    """Train as the command does, without pictures, logs and checkpoints."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = make_trainer(
            config["trainer"], default_root_dir=folder, callbacks=list(callbacks), logger=False
        )
        data.move_to(trainer.strategy.root_device)
        speed_up(method, config["trainer"], trainer.strategy.root_device, trainer.world_size)
        trainer.fit(method, datamodule=data, ckpt_path=resume, weights_only=True)


def seconds_per_iteration(
    overrides: Sequence[str], warm_up: int, windows: int, window: int = 1, pixels: int = 32
) -> list[float]:
    """Of `windows` windows, after a warm-up: everything that an iteration takes."""
    method, data, config = prepare(overrides, warm_up + windows * window, pixels)
    clock = Clock(warm_up, window)
    fit(method, data, config, clock)
    return clock.seconds


def synchronise(device: torch.device | str) -> None:
    """Wait for what the device has been given to do."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], Any], device: torch.device | str = "cpu", times: int = 1) -> float:
    """Of one call, over `times` of them."""
    synchronise(device)
    start = time.perf_counter()
    for _ in range(times):
        work()
    synchronise(device)
    return (time.perf_counter() - start) / times


def count_flops(work: Callable[[], Any]) -> int:
    """Of one call: two for each multiply-add of matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def peak_flops_per_second(kind: str, dtype: torch.dtype, width: int, device: torch.device | str) -> float:
    """The best rate that a library routine reaches here, of several tries.

    Args:
        kind: "convolution": forward and backward of F's first-stage convolution, 256 inputs of 32 pixels,
            `width` channels, channels last; "matrix": a square product of 1,024 (CPU) or 8,192 (GPU) rows.
        dtype: float32 or bfloat16.
        width: of F.
        device: where.
    """
    on_gpu = torch.device(device).type == "cuda"
    if kind == "matrix":
        side = 8192 if on_gpu else 1024
        left, right = (torch.rand(side, side, dtype=dtype, device=device) for _ in range(2))

        def work() -> Any:
            return left @ right
    else:
        layout: Any = {"memory_format": torch.channels_last}
        place: Any = {"device": device, "dtype": dtype}
        convolution = nn.Conv2d(width, width, 3, padding=1, bias=False, **place).to(**layout)
        inputs = torch.rand(256, width, 32, 32, **place).contiguous(**layout)
        gradient = torch.rand_like(inputs)
        inputs.requires_grad_()

        def work() -> Any:
            return convolution(inputs).backward(gradient)

    flops = count_flops(work)
    work()
    return flops / min(seconds(work, device, times=20 if on_gpu else 1) for _ in range(6))


def peak_mib(device: str) -> int:
    """The most memory that this process has had, MiB, since it began or `forget_peak`; on a GPU, there.

    Of Linux alone. `getrusage` will not do: a process begins with the peak of the one that started it.
    """
    if device == "cuda":
        return torch.cuda.max_memory_allocated() // 2**20
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) // 1024


def forget_peak(device: str) -> None:
    """From now on `peak_mib` is that of what comes; now, it is what the process has."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        ctypes.CDLL(None).malloc_trim(0)  # what malloc keeps would be taken again unseen
        Path("/proc/self/clear_refs").write_text("5")


def rounded(values: Sequence[float]) -> list[float]:
    """Times with as many digits as mean something."""
    return [float(f"{value:.4g}") for value in values]


def median(values: Sequence[float]) -> float:
    return float(f"{statistics.median(values):.4g}")


def write(path: Path | None, content: dict[str, Any]) -> None:
    """Keep what was measured, with the command, the kind of machine and the versions."""
    if path is not None:
        about = {
            "command": " ".join(["python", *sys.argv]),
            "machine": machine(),
            "versions": versions(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(about | content, indent=2) + "\n")
