"""anomaly-gan export."""

import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from anomaly_gan import checkpoint
from anomaly_gan.checkpoint import NO_CALIBRATION
from anomaly_gan.export.file import export
from anomaly_gan.scoring.calibration import check_rate


def main(config: DictConfig, folder: Path) -> int:
    """Export as `config` (conf/export.yaml) says."""
    plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    output = Path(os.path.expanduser(str(plain["output"])))
    rate = plain["threshold"]["false_positive_rate"]
    file = checkpoint.read(plain["checkpoint"])
    done = export(file, str(plain["format"]), output, None if rate is None else check_rate(rate))
    print(
        f"written: {output}, {output.stat().st_size / 1e6:.1f} MB; run again, its scores are the detector's "
        f"within {done.difference:.1e} of a score's size"
    )
    if done.threshold is None:
        print(f"it gives scores alone: the detector has {NO_CALIBRATION}")
    else:
        print(
            f"it decides: {done.score} above {done.threshold.value:.4f} is anomalous, which at most "
            f"{done.threshold.rate:.2%} of normal images exceed"
        )
    return 0
