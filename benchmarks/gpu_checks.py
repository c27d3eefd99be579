"""The checks of `gpu_protocol.py` and what it measures by itself, one a process: a crash of one is its own.

    python benchmarks/gpu_checks.py "check resume" --width 8

Prints what was found as JSON, in the last line.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from common import (
    DTYPES,
    compose_config,
    count_flops,
    fit,
    median,
    peak_flops_per_second,
    prepare,
    seconds_per_iteration,
    synchronise,
)
from torch import Tensor

from anomaly_gan.precision import keep_float32


class Gradients(pl.Callback):
    """The gradient and the terms of every line of Algorithm 1 before the first step."""

    def __init__(self) -> None:
        self.gradients: dict[str, Tensor] = {}
        self.terms: dict[str, Tensor] = {}

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.gradients:
            return
        with trainer.strategy.precision_plugin.train_step_context():
            step = pl_module.step_of(batch)
            for phase in pl_module.plan[0].phases:
                self.terms |= pl_module._gradient(phase, step)
                parameters = [p for name in phase.trains for p in pl_module.networks[name].parameters()]
                gradient = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
                self.gradients[phase.name] = gradient.double().cpu()


def first_gradients(overrides: list[str]) -> Gradients:
    found = Gradients()
    method, data, config = prepare(overrides, 1)
    fit(method, data, config, found)
    return found


def compare_gradients(base: list[str], other: list[str]) -> dict[str, Any]:
    """Relative distance of each line's gradient, and of its terms, in one mode from those in another."""
    one, two = first_gradients(base), first_gradients(other)
    return {
        "gradient": {
            name: float(f"{(two.gradients[name] - g).norm() / g.norm().clamp_min(1e-30):.3g}")
            for name, g in one.gradients.items()
        },
        "terms": {
            name: float(f"{abs(float(two.terms[name]) - float(v)) / max(abs(float(v)), 1e-3):.3g}")
            for name, v in one.terms.items()
        },
    }


def weights_around(overrides: list[str], iterations: int) -> tuple[Tensor, Tensor]:
    """Those before the training and those after it."""
    method, data, config = prepare([*overrides, "method.every=2"], iterations)
    before = flat(method.networks.state_dict())
    fit(method, data, config)
    return before, flat(method.networks.state_dict())


def flat(state: dict[str, Tensor]) -> Tensor:
    values = (value for value in state.values() if value.is_floating_point())  # counters would drown them
    return torch.cat([value.double().flatten().cpu() for value in values])


def check_compiled(plain: list[str]) -> dict[str, Any]:
    found = compare_gradients(plain, [*plain, "trainer.compile=true"])
    return found | {"passed": max(found["gradient"].values()) < 1e-2}


def check_half_precision(plain: list[str]) -> dict[str, Any]:
    found = compare_gradients(plain, [*plain, "trainer.precision=bf16-mixed"])
    losses = [value for name, value in found["terms"].items() if not name.endswith("gradient_norm")]
    return found | {"passed": max(losses) < 0.1}


def check_captured(plain: list[str]) -> dict[str, Any]:
    """Thirty iterations, from the fourth of each phase on replayed from graphs, against two without."""
    if "trainer.accelerator=cuda" not in plain:
        return {"passed": None, "because": "graphs need a GPU"}
    # A rate that moves, which recorded steps have to follow; both kinds of optimizer.
    muon = "+optimizer@method.optimizers.feature_extractor=muon"
    plain = [*plain, "optimizer.decay=cosine", muon]
    (start, one), (_, again) = weights_around(plain, 30), weights_around(plain, 30)
    _, captured = weights_around([*plain, "trainer.cuda_graphs=true"], 30)
    distances = [float((other - one).norm() / one.norm()) for other in (again, captured, start)]
    # Libraries sum in another order each time: as near as two plain trainings are to each other.
    return {
        "plain_again": distances[0],
        "captured": distances[1],
        "from_the_start": distances[2],
        "passed": distances[1] <= min(max(2 * distances[0], 1e-4), distances[2] / 2),
    }


class SaveAt(pl.Callback):
    def __init__(self, iteration: int, path: Path):
        self.iteration, self.path = iteration, path

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if pl_module.iteration + 1 == self.iteration:
            trainer.save_checkpoint(self.path)


def check_resume(plain: list[str]) -> dict[str, Any]:
    """Twenty iterations in one go, and the last ten of them from a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "half.ckpt"
        method, data, config = prepare(plain, 20)
        fit(method, data, config, SaveAt(10, path))
        whole = flat(method.networks.state_dict())
        method, data, config = prepare(plain, 20)
        data.start_iteration = 10
        fit(method, data, config, resume=path)
    distance = float((flat(method.networks.state_dict()) - whole).norm() / whole.norm())
    on_gpu = "trainer.accelerator=cuda" in plain
    return {"distance": distance, "passed": distance <= (1e-2 if on_gpu else 0.0)}


def measure_peaks(plain: list[str]) -> dict[str, Any]:
    device = "cuda" if "trainer.accelerator=cuda" in plain else "cpu"
    return {
        f"{kind}, {name}": round(peak_flops_per_second(kind, dtype, 64, device) / 1e9)
        for kind in ("convolution", "matrix")
        for name, dtype in DTYPES.items()
    }


def measure_iterations(plain: list[str]) -> dict[str, Any]:
    """Whole iterations in the modes that a training may choose from."""
    on_gpu = "trainer.accelerator=cuda" in plain
    modes = {"bf16": ["trainer.precision=bf16-mixed"]}
    if on_gpu:
        modes["bf16, captured"] = [*modes["bf16"], "trainer.cuda_graphs=true"]
    return {mode: _iterations([*plain, *settings], on_gpu) for mode, settings in modes.items()}


def measure_compiled(plain: list[str]) -> dict[str, Any]:
    """The same of `csi` alone, compiled, recorded where there is a GPU; the first iterations compile."""
    on_gpu = "trainer.accelerator=cuda" in plain
    settings = ["trainer.precision=bf16-mixed", "trainer.compile=true"]
    graphs = ["trainer.cuda_graphs=true"] if on_gpu else []
    return _iterations([*plain, *settings, *graphs], on_gpu, ["csi"])


RECIPES = {
    "csi": ["ablation=csi"],
    "csi, vgg7": ["ablation=csi", "scoring.body=vgg7"],
    "csi, minutes": ["ablation=csi", "budget=minutes"],
    "full": ["ablation=full"],
}


def _iterations(settings: list[str], on_gpu: bool, names: Iterable[str] = RECIPES) -> dict[str, Any]:
    """Median seconds, and billions of counted FLOPs, of an iteration; N of them where lines run each N-th."""
    found: dict[str, Any] = {}
    for name in names:
        given = [*settings, *RECIPES[name]]
        warm_up, windows, window = (50, 4, 50) if on_gpu else (5, 2, 5)
        method, data, config = prepare(given, every := compose_config(given)["method"]["every"])
        uncounted = config | {"trainer": config["trainer"] | {"compile": False, "cuda_graphs": False}}
        flops = count_flops(partial(fit, method, data, uncounted)) / every
        seconds = median(seconds_per_iteration(given, warm_up, windows, window))
        found[name] = {"seconds": seconds, "gflop": round(flops / 1e9, 1)}
        found[name]["gflop_per_second"] = round(flops / 1e9 / seconds)
    return found


def measure_kernels(plain: list[str]) -> dict[str, Any]:
    """Where the device's time of ten iterations of `csi` goes: microseconds an iteration, by kernel."""
    given = [*plain, "ablation=csi", "trainer.precision=bf16-mixed"]
    method, data, config = prepare(given, 15)
    profile = Profile(first=5)
    fit(method, data, config, profile)
    return profile.by_kernel(iterations=10)


class Profile(pl.Callback):
    """torch's profiler, from iteration `first` on."""

    def __init__(self, first: int) -> None:
        self.first = first
        kinds = torch.profiler.ProfilerActivity
        self.profiler = torch.profiler.profile(activities=[kinds.CPU, kinds.CUDA])

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.first:
            synchronise(pl_module.device)
            self.profiler.start()

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        synchronise(pl_module.device)
        self.profiler.stop()

    def by_kernel(self, iterations: int) -> dict[str, Any]:
        """The forty longest: microseconds and calls an iteration."""
        on_device = torch.autograd.DeviceType.CUDA
        events = [event for event in self.profiler.key_averages() if event.device_type == on_device]
        events.sort(key=lambda event: -event.self_device_time_total)
        return {
            event.key[:160]: [round(event.self_device_time_total / iterations, 1), event.count / iterations]
            for event in events[:40]
        }


PARTS: dict[str, Callable[[list[str]], dict[str, Any]]] = {
    "peaks": measure_peaks,
    "check compiled": check_compiled,
    "check half precision": check_half_precision,
    "check captured": check_captured,
    "check resume": check_resume,
    "iterations": measure_iterations,
    "iterations compiled": measure_compiled,
    "kernels": measure_kernels,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--width", type=int, default=64)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    keep_float32()  # as in a training
    settings = [f"width={arguments.width}", f"trainer.accelerator={device}", "trainer.precision=32-true"]
    settings.append("trainer.cuda_graphs=false")
    print(json.dumps(PARTS[arguments.part]([*settings, "ablation=full"])))


if __name__ == "__main__":
    main()
