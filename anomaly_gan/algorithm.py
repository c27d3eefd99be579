"""Algorithm 1 as a literal: which line moves which networks, how often, and by what objective."""

from collections.abc import Callable
from dataclasses import dataclass

from anomaly_gan import objectives
from anomaly_gan.objectives import Step, Terms


@dataclass(frozen=True)
class Phase:
    """One line of Algorithm 1."""

    name: str
    """Names its logged terms, `train/<name>/<term>`, and its weights."""
    trains: tuple[str, ...]
    """The networks it moves, weights and running statistics; all others stay bit for bit."""
    objective: Callable[[Step], Terms]
    """What it minimises."""
    every: int = 1
    """It runs in every `every`-th iteration; an iteration is one batch of inliers."""


CSI = (Phase("feature", trains=("feature_extractor",), objective=objectives.feature),)

ABLATIONS: dict[str, tuple[Phase, ...]] = {"csi": CSI}
"""The ablations of the paper's section 3.2 are phase sets, run in this order in every iteration."""
