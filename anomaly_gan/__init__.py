"""Image anomaly detection learned from normal images only."""

from typing import TYPE_CHECKING, Any

from anomaly_gan.errors import UserError

if TYPE_CHECKING:
    from anomaly_gan.inference import Detector
    from anomaly_gan.own_process import train
    from anomaly_gan.results import RunResult

__version__ = "0.1.0"
__all__ = ["Detector", "RunResult", "UserError", "__version__", "train"]

WHERE = {"Detector": "inference", "RunResult": "results", "train": "own_process"}
"""Modules of what is only loaded when it is asked for: no help text should wait for torch."""


def __getattr__(name: str) -> Any:
    if name not in WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"anomaly_gan.{WHERE[name]}"), name)
