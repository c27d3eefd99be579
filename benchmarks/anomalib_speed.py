"""PaDiM and PatchCore beside anomalib's, in one run: the same backbone, weights, pictures and threads.

In an environment that has both (pip install 'anomaly-gan[pretrained]' anomalib):

python benchmarks/anomalib_speed.py --root tiles --json results/defects/anomalib.json
"""

import argparse
import importlib.metadata
import multiprocessing
import random
import time
from pathlib import Path
from typing import Any

import torch
from common import forget_peak, peak_mib, write
from sklearn.metrics import roc_auc_score
from torch import Tensor

from anomaly_gan.data.folder import Folder
from anomaly_gan.methods.pretrained import SHIPPED, load_weights
from anomaly_gan.networks.backbone import Backbone
from anomaly_gan.results import machine
from anomaly_gan.scoring.padim import PaDiM
from anomaly_gan.scoring.patchcore import PatchCore
from anomaly_gan.transforms.convert import to_float

SIDE, BANK, BATCH = 256, 1000, 16
PLACES = (SIDE // 8) ** 2
NAMES = ("anomaly_gan", "anomalib")


class Ours:
    """A scorer of this package."""

    def __init__(self, method: str, seed: int):
        form = {"image_size": SIDE, "channels": 3, "precision": "32-true", "smallest_side": 128}
        net = {"backbone": SHIPPED, "blocks": [2, 3]}
        more = {"patches": BANK, "chosen_from": 100_000, "projection": 64}
        self.scorer = (
            PaDiM(**form, **net, features=100, seed=seed)
            if method == "padim"
            else PatchCore(**form, **net, **more, seed=seed)
        ).eval()
        load_weights(self.scorer.backbone, "package")

    def fit(self, images: Tensor) -> None:
        self.scorer.fit(list(images.split(BATCH)))

    def score(self, images: Tensor) -> Tensor:
        """Scores; the maps are made on the way."""
        return self.scorer.score(images)


class Anomalib:
    """The model of anomalib 2.7, given the same weights and normalised pictures."""

    def __init__(self, method: str, normal: int):
        # Here, so that --help needs no anomalib.
        from anomalib.models.image.padim.torch_model import PadimModel
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        ours = Backbone(SHIPPED, [0, 1, 2, 3, 4], 128)  # all of it, for anomalib keeps what it does not use
        load_weights(ours, "package")
        self.mean, self.deviation = ours.mean, ours.deviation
        layers: Any = ["blocks.2", "blocks.4"]
        if method == "padim":
            self.model: Any = PadimModel(backbone=SHIPPED, layers=layers, pre_trained=False, n_features=100)
        else:
            self.model = PatchcoreModel(backbone=SHIPPED, layers=layers, pre_trained=False)
        network = self.model.feature_extractor.feature_extractor
        network.load_state_dict({key: ours.network.state_dict()[key] for key in network.state_dict()})
        self.ratio = BANK / (normal * PLACES)

    def _seen(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.deviation

    def fit(self, images: Tensor) -> None:
        self.model.train()
        self.model.feature_extractor.eval()
        for batch in images.split(BATCH):
            self.model(self._seen(batch))
        if hasattr(self.model, "subsample_embedding"):
            self.model.subsample_embedding(self.ratio)
        else:
            self.model.fit()
        self.model.eval()

    @torch.no_grad()
    def score(self, images: Tensor) -> Tensor:
        return self.model(self._seen(images)).pred_score.flatten()


def made(name: str, method: str, normal: int, seed: int) -> Any:
    """A model of one of the two; what it draws by chance follows from the seed."""
    random.seed(seed)
    torch.manual_seed(seed)
    return Ours(method, seed) if name == "anomaly_gan" else Anomalib(method, normal)


def more_mib(name: str, method: str, normal: Tensor, threads: int) -> int:
    """What a process of its own holds at most, beyond model and pictures, to fit and score a batch, MiB."""
    torch.set_num_threads(threads)
    model = made(name, method, len(normal), 0)
    normal = normal.clone()  # else what came from the parent counts as soon as it is looked at
    forget_peak("cpu")
    before = peak_mib("cpu")
    model.fit(normal)
    model.score(normal[:BATCH])
    return peak_mib("cpu") - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder: train/good, test/good, test/DEFECT")
    parser.add_argument(
        "--normal", type=int, default=98, help="pictures learned from (98: about 100,000 places)"
    )
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    data = Folder(root=given.root, image_size=SIDE, channels=3, calibration_fraction=0, batch_size=BATCH,
                  total_images=1)  # fmt: skip
    data.setup("fit")
    assert data.test is not None
    normal = to_float(data.train[range(given.normal)].images)
    test = data.test[range(len(data.test))]
    tested, anomalous = to_float(test.images), (test.labels != data.normal_index).numpy()
    found: dict[str, Any] = {}
    alone = multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1)
    for method in ("padim", "patchcore"):
        seconds: dict[str, dict[str, list[float]]] = {
            name: {"fit": [], "one": [], "sixteen": []} for name in NAMES
        }
        aurocs: dict[str, list[float]] = {name: [] for name in NAMES}
        for repetition in range(given.repetitions):
            for name in NAMES:  # in turn, so that what else the machine does meets both
                model = made(name, method, given.normal, repetition)
                start = time.perf_counter()
                model.fit(normal)
                seconds[name]["fit"].append(time.perf_counter() - start)
                for key, size, images in (("one", 1, tested[:32]), ("sixteen", BATCH, tested[:64])):
                    start = time.perf_counter()
                    for batch in images.split(size):
                        model.score(batch)
                    seconds[name][key].append((time.perf_counter() - start) / len(images))
                scores = torch.cat([model.score(batch) for batch in tested.split(BATCH)])
                aurocs[name].append(round(float(roc_auc_score(anomalous, scores)), 4))
        best = {name: {key: min(of) for key, of in by.items()} for name, by in seconds.items()}
        found[method] = {
            "seconds": {
                name: {key: [round(value, 4) for value in of] for key, of in by.items()}
                for name, by in seconds.items()
            },
            "times faster": {k: round(best["anomalib"][k] / v, 2) for k, v in best["anomaly_gan"].items()},
            "more MiB": {
                name: alone.apply(more_mib, (name, method, normal, torch.get_num_threads())) for name in NAMES
            },
            "auroc by seed": aurocs,
        }
        print(method, found[method], flush=True)
    others = {name: importlib.metadata.version(name) for name in ("anomalib", "timm")}
    settings = {"side": SIDE, "bank": BANK, "normal": given.normal, "batch": BATCH, "blocks": [2, 3]}
    write(
        given.json, {"machine": machine(), "other versions": others, "settings": settings, "methods": found}
    )


if __name__ == "__main__":
    main()
