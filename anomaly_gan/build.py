"""From a run's configuration to its method, and from a detector's to its scorer."""

from collections.abc import Iterator, Mapping
from typing import Any

from anomaly_gan.config import build_a
from anomaly_gan.errors import UserError
from anomaly_gan.methods.base import Method
from anomaly_gan.outside import is_missing
from anomaly_gan.scoring.base import Scorer

SCORING_PARTS = ("methods", "scoring", "networks", "transforms")
"""The parts of the package that a scorer's configuration may name."""

METHOD_PARTS = (*SCORING_PARTS, "training")
"""The same of a method's."""


def build_scorer(config: Mapping[str, Any], data: Mapping[str, Any]) -> Scorer:
    """The scorer of `config["scoring"]`, with networks as they start, for the data set described by `data`.

    Raises:
        UserError: `config` does not describe one, or one of a package that is not installed.
    """
    for target in _targets(config["scoring"]):
        if is_missing(target):
            raise UserError(
                f"method {config['method'].get('name')!r} is not installed here: its scorer is {target}; "
                "install the package that registers it"
            )
    form = {key: data[key] for key in ("image_size", "channels")}
    scorer: Scorer = build_a(Scorer, config["scoring"], "scoring", SCORING_PARTS, **form)
    return scorer


def build_method(config: Mapping[str, Any], data: Mapping[str, Any]) -> Method:
    """The untrained method of `config["method"]` with its scorer, for the data set described by `data`.

    Raises:
        UserError: as `build_scorer`.
    """
    more = {"scorer": build_scorer(config, data), "total_iterations": data["iterations"]}
    method: Method = build_a(Method, config["method"], "method", METHOD_PARTS, **more)
    return method


def _targets(config: Any) -> Iterator[str]:
    """Every name of a class in plain containers."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield str(config["_target_"])
        for value in config.values():
            yield from _targets(value)
    elif isinstance(config, list):
        for value in config:
            yield from _targets(value)
