"""From a run's configuration to its method, and from a detector's to its scorer."""

from collections.abc import Mapping
from typing import Any

from anomaly_gan.config import build_a
from anomaly_gan.methods.base import Method
from anomaly_gan.scoring.base import Scorer

SCORING_PARTS = ("methods", "scoring", "networks", "transforms")
"""The parts of the package that a scorer's configuration may name."""

METHOD_PARTS = (*SCORING_PARTS, "training")
"""The same of a method's."""


def build_scorer(config: Mapping[str, Any], data: Mapping[str, Any]) -> Scorer:
    """The scorer of `config["scoring"]`, with networks as they start, for the data set described by `data`.

    Raises:
        UserError: `config` does not describe one.
    """
    form = {key: data[key] for key in ("image_size", "channels")}
    scorer: Scorer = build_a(Scorer, config["scoring"], "scoring", SCORING_PARTS, **form)
    return scorer


def build_method(config: Mapping[str, Any], data: Mapping[str, Any]) -> Method:
    """The untrained method of `config["method"]` with its scorer, for the data set described by `data`.

    Raises:
        UserError: `config` does not describe one.
    """
    more = {"scorer": build_scorer(config, data), "total_iterations": data["iterations"]}
    method: Method = build_a(Method, config["method"], "method", METHOD_PARTS, **more)
    return method
