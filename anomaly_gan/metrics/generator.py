"""Quality of generated images: Fréchet distance, kernel distance, precision and recall.

The mathematics is torch-fidelity's, which an extra brings (`generator`): it is imported where it is used.
Here each set of images passes through the feature network once.
"""

import importlib.util
import io
import pickle
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import resnet18

from anomaly_gan.errors import UserError
from anomaly_gan.precision import without_autocast
from anomaly_gan.safe_load import safe_load
from anomaly_gan.types import ImageBatches, Images

NEEDED = "pip install 'anomaly-gan[generator]'"
NEIGHBOURS = 3  # precision and recall: Kynkäänniemi et al. (2019)
KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 1000, 2020
STAND_IN_SEED, STAND_IN_PIXELS = 0, 64


class FeatureNetwork(nn.Module, ABC):
    """A fixed network that turns images [B, C, H, W] in [0, 1], C = 1 or 3, into float32 features [B, D]."""

    name: str

    @abstractmethod
    def forward(self, images: Images) -> Float[Tensor, "batch features"]: ...


class Inception(FeatureNetwork):
    """The network of FID (Heusel et al., 2017) as torch-fidelity ports it: 2048 features."""

    name = "inception"

    def __init__(self, weights: str) -> None:
        """
        Args:
            weights: file with torch-fidelity's weights, or "download".

        Raises:
            UserError: no such file, no such download, or not these weights.
        """
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        super().__init__()
        state = io.BytesIO()
        # torch-fidelity unpickles whatever a file holds: it gets a copy of what has been read safely.
        torch.save(_inception_state(weights), state)
        state.seek(0)
        try:
            with torch.device("cpu"), torch.random.fork_rng(devices=[]):
                self.network = FeatureExtractorInceptionV3(
                    self.name, ["2048"], feature_extractor_weights_path=state
                )
        except (RuntimeError, TypeError, AttributeError, LookupError) as wrong:
            raise _unusable(weights, "not the weights of the FID network") from wrong

    def forward(self, images: Images) -> Float[Tensor, "batch features"]:
        pixels = (_color(images) * 255).round().to(torch.uint8)
        return self.network(pixels)[0]


class RandomResNet18(FeatureNetwork):
    """A ResNet-18 with fixed random weights: needs no file, works for any kind of image, 512 features.

    Random embeddings follow Naeem et al. (2020). Distances are comparable with those of the same network
    only, never with a FID. The weights are the same on every machine, and the global random state is left
    as it was.
    """

    name = "random_resnet18"

    def __init__(self) -> None:
        super().__init__()
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(STAND_IN_SEED)  # torch.manual_seed would seed the GPUs too
            self.network = resnet18(weights=None)
        self.network.fc = nn.Identity()
        self.requires_grad_(False).eval()

    def forward(self, images: Images) -> Float[Tensor, "batch features"]:
        size = [max(side, STAND_IN_PIXELS) for side in images.shape[-2:]]
        if size != list(images.shape[-2:]):  # five halvings would leave small images a single pixel
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        return self.network(_color(images))


def feature_network(inception_weights: str | None) -> FeatureNetwork | None:
    """The FID network from these weights (see Inception); where None, its offline stand-in.

    None where torch-fidelity is not installed, without which nothing can be compared.

    Raises:
        UserError: the weights cannot be used, or torch-fidelity is not installed and weights were given.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        if inception_weights is None:
            return None
        raise UserError(f"generator_metrics.inception_weights={inception_weights}: first {NEEDED}")
    return RandomResNet18() if inception_weights is None else Inception(inception_weights)


@torch.no_grad()
def extract(network: FeatureNetwork, batches: ImageBatches) -> Float[Tensor, "n features"]:
    """Features of all images, float32, on the CPU; computed on the network's device.

    At least one batch is needed.
    """
    device = next(network.parameters()).device
    with without_autocast(device):
        return torch.cat([network(images.to(device)).float().cpu() for images in batches])


def compare(
    network_name: str, generated: Float[Tensor, "m features"], real: Float[Tensor, "n features"]
) -> dict[str, float | None]:
    """How far generated images are from real ones, by their features.

    Keys: fid (>= 0; lower is better), kid (about 0 or above; lower is better; the mean over fixed random
    subsets), precision and recall (in [0, 1]; the share of generated images close to real ones, and the other
    way round; Kynkäänniemi et al., 2019). With a network other than Inception, the keys are frechet_NAME,
    kid_NAME, precision_NAME and recall_NAME.
    None where a set is too small (distances need 2 images, precision and recall 4) or not finite.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    frechet = kid = precision = recall = None
    smaller = min(len(generated), len(real))
    finite = bool(generated.isfinite().all() and real.isfinite().all())
    generated, real = generated.double(), real.double()
    if finite and smaller >= 2:
        statistics = [fid_features_to_statistics(features) for features in (generated, real)]
        # Rounding takes the distance of equal sets a little below 0.
        frechet = max(0.0, fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID])
        kid = kid_features_to_metric(
            generated,
            real,
            kid_subsets=KID_SUBSETS,
            kid_subset_size=min(KID_SUBSET_SIZE, smaller),
            rng_seed=KID_SEED,
            verbose=False,
        )[KEY_METRIC_KID_MEAN]
    if finite and smaller > NEIGHBOURS:
        # In blocks: all distances among 50,000 images at once would take 20 GB.
        found = prc_features_to_metric(
            generated,
            real,
            prc_neighborhood=NEIGHBOURS,
            prc_batch_size=1000,
            save_cpu_ram=True,
            verbose=False,
        )
        precision, recall = found[KEY_METRIC_PRECISION], found[KEY_METRIC_RECALL]
    suffix = "" if network_name == Inception.name else f"_{network_name}"
    return {
        f"frechet{suffix}" if suffix else "fid": frechet,
        f"kid{suffix}": kid,
        f"precision{suffix}": precision,
        f"recall{suffix}": recall,
    }


def generator_quality(
    network: FeatureNetwork,
    generated_batches: ImageBatches,
    train_batches: ImageBatches,
    test_batches: ImageBatches | None,
) -> dict[str, Any]:
    """Generated images against the training images, beside what real images of the same class get.

    Returns:
        network: its name.
        counts: the number of images in each set (test: None where there is none).
        generated: compare(generated, train).
        floor: compare(test, train), None without test images. Of usually fewer images, which biases its
            Fréchet distance upwards: equal counts are needed for a fair reading.
    """
    generated, train = extract(network, generated_batches), extract(network, train_batches)
    test = None if test_batches is None else extract(network, test_batches)
    return {
        "network": network.name,
        "counts": {
            "generated": len(generated),
            "train": len(train),
            "test": None if test is None else len(test),
        },
        "generated": compare(network.name, generated, train),
        "floor": None if test is None else compare(network.name, test, train),
    }


def _color(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1)


def _inception_state(weights: str) -> Any:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    file = Path(str(weights)).expanduser()
    if weights == "download":
        try:
            return torch.hub.load_state_dict_from_url(
                URL_INCEPTION_V3, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as failed:
            raise _unusable(weights, f"{URL_INCEPTION_V3} cannot be fetched") from failed
    if not file.is_file():
        raise _unusable(weights, "no such file")
    return safe_load(file, str(_unusable(weights, "damaged, or not a file of weights")))


def _unusable(weights: str, problem: str) -> UserError:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    return UserError(
        f"generator_metrics.inception_weights={weights}: {problem}; "
        f"give generator_metrics.inception_weights=FILE, where FILE is {Path(URL_INCEPTION_V3).name}"
    )
