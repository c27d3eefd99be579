"""Image anomaly detection learned from normal images only."""

from typing import TYPE_CHECKING, Any

from anomaly_gan.errors import UserError

if TYPE_CHECKING:
    from anomaly_gan.inference import Detector

__version__ = "0.1.0"
__all__ = ["Detector", "UserError", "__version__"]


def __getattr__(name: str) -> Any:
    """`Detector` when it is asked for: it brings torch, for which no help text should wait."""
    if name == "Detector":
        from anomaly_gan.inference import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
