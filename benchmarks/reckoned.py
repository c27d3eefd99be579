"""What an iteration costs a GPU at the least, on paper: counted FLOPs and bytes over the rates of a chip.

    python benchmarks/reckoned.py --peak 831 --memory 3.35 --json results/reckoned_h100_width64.json

Nothing is computed: tensors have no values (torch's FakeTensorMode), in bf16 as autocast on the CPU has it.
An operation takes as long as its arithmetic at the chip's peak, or as its operands and results through
memory, each once, whichever is more. Two sums: of all operations by themselves, which graphs cannot undercut,
and of convolutions, products, batch norms and the optimizer alone, as if a compiler put all others into them.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from common import compose_config
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from anomaly_gan.build import build_method
from anomaly_gan.methods.base import Method
from anomaly_gan.randomness import RowRng, make_rng
from anomaly_gan.sharding import Shard
from anomaly_gan.training.descent import gradient

RECIPES = {
    "csi": ["ablation=csi"],
    "csi, vgg7": ["ablation=csi", "scoring.body=vgg7"],
    "full": ["ablation=full"],
}

KEPT = ("convolution", "batch_norm", "mm", "bmm")
"""What no compiler puts into something else, by parts of names."""

ADAM_BYTES = 28
"""Through memory for each parameter: itself, gradient and two moments read; all but the gradient written."""


class Reckoned(TorchDispatchMode):
    """Adds up FLOPs, bytes and least seconds of all operations.

    Args:
        peak: FLOPs a second.
        memory: bytes a second.
    """

    def __init__(self, peak: float, memory: float):
        super().__init__()
        self.peak, self.memory = peak, memory
        self.found: Counter[str] = Counter()
        self.factor = 1.0  # of an iteration, that a phase runs in

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if made and not function.is_view and name not in ("detach", "empty_like", "empty"):
            counted = flop_registry.get(function.overloadpacket)
            flops = counted(*args, **(kwargs or {}), out_val=result) if counted else 0
            moved = sum(tensor.numel() * tensor.element_size() for tensor in (*given, *made))
            self.add(flops, moved, any(kept in name for kept in KEPT))
        return result

    def add(self, flops: float, moved: float, kept: bool) -> None:
        """One operation of a phase."""
        seconds = self.factor * max(flops / self.peak, moved / self.memory)
        self.found["flops"] += self.factor * flops
        self.found["bytes"] += self.factor * moved
        self.found["operations"] += self.factor
        self.found["seconds"] += seconds
        self.found["seconds of convolutions and norms"] += seconds if kept else 0.0


def without_values(module: nn.Module) -> None:
    """Replace parameters and buffers by such without values, inside of a FakeTensorMode."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(torch.empty_like(parameter), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty_like(buffer)


def reckon(overrides: list[str], peak: float, memory: float) -> dict[str, float]:
    """Of one iteration, on average over those in which all phases run once or more."""
    config = compose_config([*overrides, "trainer.accelerator=cpu"])
    method = build_method(config, {"image_size": 32, "channels": 3, "iterations": 10})
    with FakeTensorMode(allow_non_fake_inputs=True):
        without_values(method)
        with Reckoned(peak, memory) as found, torch.autocast("cpu", torch.bfloat16):
            iterate(method, config["batch_size"], found)
    return dict(found.found)


def iterate(method: Method, batch: int, found: Reckoned) -> None:
    """Every phase once, weighed by how often it runs."""
    shard = Shard(batch)
    images = torch.empty(batch, 3, 32, 32)
    step = method.make_step(images, shard, lambda purpose: RowRng(make_rng("cpu", 0, purpose), shard))
    for phase in method.plan[0].phases:
        found.factor = 1 / phase.every
        networks: Any = dict(method.networks)
        gradient(phase, step, networks, method.phase_settings, lambda loss: loss.backward())
        for name in phase.trains:
            weights = sum(parameter.numel() for parameter in networks[name].parameters())
            found.add(0, ADAM_BYTES * weights, kept=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--peak", type=float, required=True, help="of matrix products in bf16, TFLOP/s")
    parser.add_argument("--memory", type=float, required=True, help="TB/s")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    peak, memory = 1e12 * arguments.peak, 1e12 * arguments.memory
    found: dict[str, Any] = {"peak_tflops": arguments.peak, "memory_tb_per_second": arguments.memory}
    for name, overrides in RECIPES.items():
        of = reckon([f"width={arguments.width}", *overrides], peak, memory)
        found[name] = {
            "gflop": round(of["flops"] / 1e9, 1),
            "gigabytes": round(of["bytes"] / 1e9, 2),
            "operations": round(of["operations"]),
            "milliseconds": round(1e3 * of["seconds"], 2),
            "milliseconds_fused": round(1e3 * of["seconds of convolutions and norms"], 2),
        }
        for sort in ("milliseconds", "milliseconds_fused"):
            share = of["flops"] / (1e-3 * found[name][sort]) / peak
            found[name][sort.replace("milliseconds", "of_peak")] = round(share, 3)
        print(name, found[name], flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
