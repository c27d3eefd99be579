"""What earlier versions wrote, as today's: the one place that knows of it.

Until 0.1 the three ablations were one method, whose settings of training and scoring stood together.
"""

from collections.abc import Mapping
from typing import Any

MOVED = {
    "anomaly_gan.methods.anomaly_gan.AnomalyGAN": "anomaly_gan.methods.paper.method.AnomalyGAN",
    "anomaly_gan.methods.phased.PhaseSettings": "anomaly_gan.training.phases.PhaseSettings",
    "anomaly_gan.optimizers.": "anomaly_gan.training.optimizers.",
}
"""Names of classes, or what they begin with."""

SCORED_BY = {
    "width": "width",
    "embedding_size": "embedding_size",
    "networks": "networks",
    "views": "views",
    "seed": "seed",
    "primary": "primary",
    "ensemble": "ensemble",
    "chunk": "chunk",
    "scoring_precision": "precision",
    "recalibrate_batch_norm": "recalibrate_batch_norm",
}
"""Settings of the one method that were of its score, and what they are called now."""

STATE = {
    "networks.feature_extractor.": "network.",
    "networks.generator.": "synthesis.generator.",
    "networks.encoder.": "synthesis.encoder.",
    "average.": "synthesis.average.",
    "banks.": "banks.",
}
"""Where the tensors of a detector's file were; D and D' are not needed to score."""


def is_from_before(config: Mapping[str, Any]) -> bool:
    """Whether a run's configuration is one of the one method."""
    return "ablation" in config.get("method", {})


def today(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's configuration in today's form, itself where it has it."""
    if not is_from_before(config):
        return dict(config)
    config = _renamed(config)
    method, scoring = dict(config["method"]), dict(config.get("scoring", {}))
    scoring["_target_"] = "anomaly_gan.scoring.neighbours.NearestNeighbours"
    for old, new in SCORED_BY.items():
        if old in method:
            scoring[new] = method[old]
    for old in SCORED_BY:
        if old not in ("views", "seed"):  # which the training has as well
            method.pop(old, None)
    method["name"] = method.pop("ablation")
    method |= {"optimizers": {}, "stages": {}}  # there were none
    if "phases" in method:
        phases = method["phases"].items()
        method["phases"] = {name: {"stop_iteration": None} | settings for name, settings in phases}
    kept = {key: value for key, value in config.items() if key != "ablation"}
    for block in ("schedule", "data"):
        if block in kept:
            kept[block] = {"passes": None} | kept[block]  # a length was a number of images
    return kept | {"method": method, "scoring": scoring}


def state_today(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a detector's file of that time under the names of today."""
    found = {}
    for name, tensor in state_dict.items():
        for old, new in STATE.items():
            if name.startswith(old):
                found[new + name.removeprefix(old)] = tensor
    return found


def result_today(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `result.json`, where the ablation was beside the method, in today's form."""
    if "ablation" not in fields:
        return dict(fields)
    kept = {key: value for key, value in fields.items() if key != "ablation"}
    if fields["method"] == "anomaly_gan":
        kept["method"] = fields["ablation"]
    return kept | {"config": today(fields["config"])}


def _renamed(value: Any) -> Any:
    """`value` with the names of classes that have moved since."""
    if isinstance(value, Mapping):
        return {key: _renamed(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_renamed(entry) for entry in value]
    if isinstance(value, str):
        for old, new in MOVED.items():
            if value.startswith(old):
                return new + value.removeprefix(old)
    return value
