"""What one draw of T costs the csi score: none, one for each image, one shared by all, the middle of T.

python benchmarks/scoring_draws.py RUN_FOLDER --images 2000 --json results/scoring_draws.json
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from anomaly_gan import checkpoint
from anomaly_gan.config import build
from anomaly_gan.metrics.auroc import auroc
from anomaly_gan.randomness import RowRng, make_rng
from anomaly_gan.results import machine, versions
from anomaly_gan.scoring.neighbours import NearestNeighbours
from anomaly_gan.scoring.scores import anomaly_scores, make_bank
from anomaly_gan.transforms.convert import to_float

Views = Callable[[Tensor], Tensor]


def shared(scorer: NearestNeighbours, draw: int) -> Views:
    """Draw number `draw` of the ensemble, for all images alike; number 0 is the middle of T."""
    one = scorer.views.scoring_draw(draw, seed=0)
    return lambda images: scorer.views.drawn(images, one)


def for_each_image(scorer: NearestNeighbours, seed: int) -> Views:
    """CSI's way: flip and T drawn anew for every view."""
    generator = make_rng("cpu", seed, "for each image")
    augment = scorer.views.scoring_augment

    def views(images: Tensor) -> Tensor:
        shifts, flipped = scorer.views.shifts(images), scorer.views.shifts(images.flip(3))
        flip = torch.rand(len(shifts), 1, 1, 1, generator=generator) < 0.5
        return augment(torch.where(flip, flipped, shifts), augment.draw(len(shifts), RowRng(generator)))

    return views


@torch.inference_mode()
def features(scorer: NearestNeighbours, images: Tensor, views: Views) -> tuple[Tensor, Tensor]:
    """Embeddings [N, K, D] and own-shift logits [N, K]."""
    embeddings, logits = [], []
    for part in images.split(128):
        found = scorer.network(views(part))
        embeddings.append(found.embedding.view(4, len(part), -1).transpose(0, 1))
        logits.append(found.shift_logits.view(4, len(part), 4).diagonal(dim1=0, dim2=2))
    return torch.cat(embeddings), torch.cat(logits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument(
        "--images", type=int, default=2000, help="normal images in the bank, and tested images"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    file = checkpoint.read(arguments.run)
    scorer = file.build()
    assert isinstance(scorer, NearestNeighbours)
    data = build(file.config["data"], "data", ("data",))
    data.setup()
    assert data.test is not None
    some = torch.randperm(len(data.test), generator=make_rng("cpu", 0, "tested"))[: arguments.images]
    bank_images = to_float(data.train[range(min(arguments.images, len(data.train)))].images)
    tested = data.test[some.tolist()]
    anomalous = (tested.labels != data.normal_index).numpy()
    choices = {"none": scorer.views.plain, "middle of T": shared(scorer, 0)}
    choices |= {f"for each image, seed {s}": for_each_image(scorer, s) for s in range(2)}
    choices |= {f"shared, draw {r}": shared(scorer, r) for r in range(1, 7)}
    found = {}
    print(f"{data.name}, normal: {data.normal_class}; AUROC, %")
    for name, views in choices.items():
        bank = make_bank(*features(scorer, bank_images, views))
        scores = anomaly_scores(*features(scorer, to_float(tested.images), views), bank, chunk=512)
        found[name] = {score: auroc(value.double().numpy(), anomalous) for score, value in scores.items()}
        row = "  ".join(f"{score} {100 * (value or 0):.1f}" for score, value in found[name].items())
        print(f"  {name:<26}{row}")
    if arguments.json:
        content = {
            "command": " ".join(["python", *sys.argv]),
            "trained_by": f"anomaly-gan train, {file.data['iterations']} iterations",
            "dataset": data.name,
            "normal_class": data.normal_class,
            "bank_images": len(bank_images),
            "test_images": len(anomalous),
            "auroc": found,
            "machine": machine(),
            "versions": versions(),
        }
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
