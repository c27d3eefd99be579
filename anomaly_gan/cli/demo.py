"""anomaly-gan demo."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from anomaly_gan.demo import serve
from anomaly_gan.device import choose
from anomaly_gan.errors import UserError
from anomaly_gan.inference import Detector
from anomaly_gan.scoring.calibration import check_rate


def main(config: DictConfig, folder: Path) -> int:
    """Serve the page that `config` (conf/demo.yaml) describes, until it is interrupted."""
    plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    port = plain["port"]
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise UserError(f"port={port}: give a whole number from 1 to 65535")
    rate = plain["threshold"]["false_positive_rate"]
    detector = Detector.load(
        plain["checkpoint"], choose(plain["device"]), None if rate is None else check_rate(rate)
    )
    serve(detector, str(plain["host"]), port)
    return 0
