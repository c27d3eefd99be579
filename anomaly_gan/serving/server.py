"""The service on a port, until the process is asked to end."""

import contextlib
import logging
import socket
from collections.abc import Iterator

import uvicorn

from anomaly_gan.errors import UserError
from anomaly_gan.lifetime import Stopped, heard, hold, release
from anomaly_gan.serving.application import Service

CONNECTIONS = 256
"""At a time; more are answered with 503."""


class _Server(uvicorn.Server):
    """Ends when this process has heard a signal, or rows can no longer be kept.

    What has been asked for by then is answered, no more is taken.
    """

    def __init__(self, config: uvicorn.Config, service: Service):
        super().__init__(config)
        self.service = service

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:  # `lifetime` hears them all
        yield

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or bool(heard()) or self.service.broken


def run(service: Service, host: str, port: int) -> None:
    """Serve until a signal asks for the end; then answer what has been asked, and raise it.

    Raises:
        Stopped: the process was asked to end.
        UserError: the port cannot be used.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except OSError as error:
        raise UserError(
            f"port={port}: cannot be used on {host} ({error.strerror}); port=N chooses another"
        ) from error
    for library in ("python_multipart", "uvicorn.error"):
        logging.getLogger(library).setLevel(logging.ERROR)  # what clients do wrong, they are told
    config = uvicorn.Config(
        service.app,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=int(service.limits.seconds) + 1,
        log_level="error",
        access_log=False,
    )
    server = _Server(config, service)
    with listening:
        named = f"[{host}]" if family is socket.AF_INET6 else host
        print(
            f"http://{named}:{listening.getsockname()[1]}: POST /predict, GET /health, /metrics", flush=True
        )
        hold()
        try:
            server.run([listening])
        finally:
            release()
    if heard():
        raise Stopped(heard())
