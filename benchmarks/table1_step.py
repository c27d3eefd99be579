"""Seconds of one training iteration of Table 1's other methods, ours against plain PyTorch, in one run.

Plain: the same networks in PyTorch's default memory layout, transforms applied group by group of images,
losses as one first writes them, a loop without a framework. Ours: as `anomaly-gan train` runs it, under
Lightning, at 32 pixels, in float32. Both under the same malloc; they take turns. Of Deep SVDD its first
stage.

    python benchmarks/table1_step.py --width 16 --json results/table1_step_cpu_width16.json
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import median, prepare, rounded, seconds, seconds_per_iteration, write
from torch import Tensor

from anomaly_gan.allocator import keep_memory
from anomaly_gan.randomness import RowRng

Step = Callable[[], None]
Networks = dict[str, torch.nn.Module]


def moved(images: Tensor, flip: int, rows: int, columns: int, turns: int, mode: str = "symmetric") -> Tensor:
    """Images under one transform; `rows` and `columns` are pixels."""
    if flip:
        images = images.flip(3)
    side = images.shape[2]
    place = torch.arange(-side, 2 * side, device=images.device)
    if mode == "symmetric":
        source = torch.where(place < 0, -1 - place, torch.where(place < side, place, 2 * side - 1 - place))
    else:
        source = torch.where(place < 0, -place, torch.where(place < side, place, 2 * side - 2 - place))
    images = images[:, :, source[side - rows : 2 * side - rows]]
    images = images[:, :, :, source[side - columns : 2 * side - columns]]
    return torch.rot90(images, turns, (2, 3))


def all_transforms(side: int, flips: int) -> list[tuple[int, int, int, int]]:
    """Flip, rows, columns, turns of each of 36 or 72."""
    steps = (0, side // 4, -(side // 4))
    return [(f, r, c, t) for f in range(flips) for r in steps for c in steps for t in range(4)]


def geom(networks: Networks, images: Tensor) -> Step:
    network, transforms = networks["classifier"], all_transforms(images.shape[2], 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, eps=1e-7, weight_decay=5e-4)

    def step() -> None:
        labels = torch.randint(len(transforms), (len(images),))
        inputs = torch.empty_like(images)
        for label in labels.unique().tolist():
            inputs[labels == label] = moved(images[labels == label], *transforms[label])
        loss = F.cross_entropy(network(inputs).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def rot_trans(networks: Networks, images: Tensor) -> Step:
    network, side = networks["classifier"], images.shape[2]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps, rng = (0, side // 4, -(side // 4)), RowRng(torch.Generator().manual_seed(0))

    def step() -> None:
        flip = torch.rand(len(images), 1, 1, 1) < 0.5
        flipped = torch.where(flip, images.flip(3), images)
        rows, columns = torch.randint(3, (2, len(images)))
        shifted = torch.empty_like(images)
        for row in range(3):
            for column in range(3):
                here = (rows == row) & (columns == column)
                shifted[here] = moved(flipped[here], 0, steps[row], steps[column], 0, "reflect")
        inputs = torch.cat([torch.rot90(shifted, turns, (2, 3)) for turns in range(4)])
        done = (rows.repeat(4), columns.repeat(4), torch.arange(4).repeat_interleave(len(images)))
        heads = network(inputs, rng).logits.split([3, 3, 4], dim=1)
        loss = sum(F.cross_entropy(head, right) for head, right in zip(heads, done, strict=True)) / 3
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def goad(networks: Networks, images: Tensor) -> Step:
    network, transforms = networks["network"], all_transforms(images.shape[2], 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    count = len(transforms)

    def step() -> None:
        inputs = torch.cat([moved(images, *transform) for transform in transforms])
        seen = network(inputs)
        labels = torch.arange(count).repeat_interleave(len(images))
        z = seen.features.view(count, len(images), -1).transpose(0, 1)
        distances = (z.unsqueeze(2) - z.mean(0)).square().sum(-1)
        own = distances.diagonal(dim1=1, dim2=2)
        others = (distances + torch.eye(count) * 1e9).amin(2)
        triplet = F.relu(own + 0.1 - others).mean()
        loss = F.cross_entropy(seen.logits, labels) + 0.1 * triplet + 10 * z.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def deep_svdd(networks: Networks, images: Tensor) -> Step:
    encoder, decoder = networks["encoder"], networks["decoder"]
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-4, weight_decay=5e-7)

    def step() -> None:
        inputs = images - images.mean(dim=(1, 2, 3), keepdim=True)
        inputs = inputs / inputs.abs().mean(dim=(1, 2, 3), keepdim=True)
        loss = (decoder(encoder(inputs)) - inputs).square().sum((1, 2, 3)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def ocgan(networks: Networks, images: Tensor) -> Step:
    encoder, decoder = networks["encoder"], networks["decoder"]
    visual, latent, classifier = (
        networks[name] for name in ("discriminator", "latent_discriminator", "classifier")
    )
    groups = [[visual], [latent], [classifier], [encoder, decoder]]
    optimizers = [
        torch.optim.Adam([p for network in group for p in network.parameters()], lr=2e-4, betas=(0.5, 0.999))
        for group in groups
    ]
    rng, bce = RowRng(torch.Generator().manual_seed(0)), F.binary_cross_entropy_with_logits

    def loss_of(logits: Tensor, real: bool) -> Tensor:
        return bce(logits, torch.full_like(logits, float(real)))

    def take(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def step() -> None:
        inputs = F.interpolate(images, size=(61, 61), mode="bilinear", antialias=True) * 2 - 1
        noisy = inputs + 0.2 * torch.randn_like(inputs)
        drawn = torch.atanh((2 * torch.rand(len(inputs), 128) - 1).clamp(-0.999, 0.999))
        with torch.no_grad():
            made = decoder(drawn.tanh(), rng)
        take((loss_of(visual(inputs), True) + loss_of(visual(made), False)) / 2, optimizers[0])
        with torch.no_grad():
            encoded = encoder(noisy)
        take((loss_of(latent(drawn.tanh()), True) + loss_of(latent(encoded), False)) / 2, optimizers[1])
        with torch.no_grad():
            rebuilt, made = decoder(encoder(noisy), rng), decoder(drawn.tanh(), rng)
        take((loss_of(classifier(rebuilt), True) + loss_of(classifier(made), False)) / 2, optimizers[2])
        encoded = encoder(noisy)
        start = drawn.clone().requires_grad_()
        surest = loss_of(classifier(decoder(start.tanh(), rng)), False) * len(inputs)
        (slope,) = torch.autograd.grad(surest, start)
        made = decoder((start - 2 * slope).tanh().detach(), rng)
        rebuilt = decoder(encoded, rng)
        pixels = (rebuilt - inputs).square().mean()
        loss = 10 * pixels + loss_of(visual(made), True) + loss_of(latent(encoded), True)
        take(loss, optimizers[3])

    return step


PLAIN: dict[str, Callable[[Networks, Tensor], Step]] = {
    "geom": geom, "rot_trans": rot_trans, "goad": goad, "deep_svdd": deep_svdd, "ocgan": ocgan,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    keep_memory()
    found: dict[str, Any] = {}
    for name, plain in PLAIN.items():
        overrides = [f"method={name}", f"width={arguments.width}", "trainer.accelerator=cpu"]
        overrides += ["trainer.precision=32-true", "trainer.cuda_graphs=false"]
        if name == "deep_svdd":  # a stage has one iteration at least, which is not timed
            overrides.append("method.stages.one_class.share=0.001")
        windows = 3 if name in ("goad", "ocgan") else 10
        method, _, config = prepare(overrides, 1)
        networks = {key: network.train() for key, network in method.networks.items()}
        for network in networks.values():
            network.to(memory_format=torch.contiguous_format)
        step = plain(networks, torch.rand(config["batch_size"], 3, 32, 32))
        step()
        times: dict[str, list[float]] = {"plain": [], "ours": []}
        for _ in range(arguments.rounds):
            times["plain"] += [seconds(step) for _ in range(windows)]
            times["ours"] += seconds_per_iteration(overrides, 2, windows + 1)[:windows]
        medians = {key: median(values) for key, values in times.items()}
        ratio = medians["ours"] / medians["plain"]
        print(f"{name:<10} plain {medians['plain']:.4f} s   ours {medians['ours']:.4f} s   {ratio:.2f}")
        found[name] = {
            "batch": config["batch_size"],
            "seconds": {key: rounded(values) for key, values in times.items()},
            "seconds_median": medians,
            "ours_over_plain": round(ratio, 3),
        }
    write(arguments.json, {"width": arguments.width, "methods": found})


if __name__ == "__main__":
    main()
