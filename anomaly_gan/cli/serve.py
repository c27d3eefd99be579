"""anomaly-gan serve."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from anomaly_gan.allocator import keep_memory
from anomaly_gan.cli.complaints import complain_of_files
from anomaly_gan.cli.watch import alarm, opened_stream, output_file, tell_of_before
from anomaly_gan.errors import UserError
from anomaly_gan.inference import check_batch_size

NEEDED = ("fastapi", "uvicorn", "multipart", "prometheus_client")
"""Packages of the extra `serve`, as they are imported."""


def main(config: DictConfig, folder: Path) -> int:
    """Serve as `config` (conf/serve.yaml) says, until a signal ends it; exit code 2: rows cannot be kept."""
    plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    for name in NEEDED:
        if find_spec(name) is None:
            raise UserError(f"{name} is not installed; pip install 'anomaly-gan[serve]'")
    from anomaly_gan.serving.application import Limits, Service
    from anomaly_gan.serving.server import run

    keep_memory(of_all_threads=True)
    check_batch_size(plain["batch_size"])
    port = plain["port"]
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise UserError(f"port={port}: give a whole number from 1 to 65535; 0: any that is free")
    limits = Limits(**plain["limits"])
    output = None if plain["output"] is None else output_file(str(plain["output"]))
    failures: list[OSError] = []
    with opened_stream(plain, output) as stream:
        tell_of_before(stream, plain["on_alarm"])
        service = Service(
            stream, limits, plain["batch_size"], lambda: alarm(stream, plain["on_alarm"]), failures.append
        )
        run(service, str(plain["host"]), port)
    return complain_of_files(failures[0], "serve")
