"""Pictures scored over HTTP: what is answered, what is refused, and that nothing is lost in the end."""

import asyncio
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from fastapi import HTTPException, Request
from PIL import Image

from anomaly_gan import Detector, UserError
from anomaly_gan.serving import application
from anomaly_gan.serving.batching import Batches, TooManyError
from anomaly_gan.watching.stream import Stream

ROOT = Path(__file__).parents[1]


def png(seed: int = 0) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16), dtype=np.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


class Service(NamedTuple):
    process: "subprocess.Popen[str]"
    port: int
    folder: Path

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "image/png") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, {"Content-Type": kind})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "rows.jsonl").read_text().splitlines()]


@contextmanager
def started(trained: Path, folder: Path, *settings: str) -> Iterator[Service]:
    """The command, in a process of its own, which is ended at the end."""
    command = [sys.executable, "-m", "anomaly_gan", "serve", f"checkpoint={trained}", "port=0", "output=rows"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [*command, *settings], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        assert process.stdout is not None
        try:
            port = re.fullmatch(r"http://127\.0\.0\.1:(\d+): .*\n", process.stdout.readline())
            assert port is not None, (folder / "log").read_text()
            yield Service(process, int(port[1]), folder)
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def service(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    limits = ("limits.megabytes=0.1", "limits.pictures=3", "alpha=0.000001")
    with started(trained, tmp_path_factory.mktemp("service"), *limits) as running:
        yield running
    assert running.process.returncode == 128 + signal.SIGTERM
    assert (running.folder / "log").read_text() == "anomaly-gan: ended by SIGTERM\n"  # and no traceback


def form(*contents: bytes) -> tuple[bytes, str]:
    part = b'--x\r\nContent-Disposition: form-data; name="f"; filename="%d.png"\r\n\r\n%b\r\n'
    body = b"".join(part % (i, content) for i, content in enumerate(contents)) + b"--x--\r\n"
    return body, "multipart/form-data; boundary=x"


def test_a_picture_gets_what_the_detector_says_of_it(service: Service, trained: Path) -> None:
    (expected,) = Detector.load(trained).examine(png())
    status, answer = service.ask("POST", "/predict?name=a.png", png())
    (found,) = json.loads(answer)["predictions"]
    assert status == 200
    assert (found["file"], found["score"], found["p_value"]) == ("a.png", expected.score, expected.p_value)
    assert service.rows()[-1]["file"] == "a.png"  # before it is answered
    assert service.rows()[-1]["rank"] == found["rank"]


def test_of_many_pictures_each_is_answered_for_in_order(service: Service) -> None:
    status, answer = service.ask("POST", "/predict", *form(png(1), b"no picture", png(2)))
    found = json.loads(answer)["predictions"]
    assert status == 200
    assert [it["file"] for it in found] == ["0.png", "1.png", "2.png"]
    assert [it["score"] is None for it in found] == [False, True, False]
    assert "neither JPEG" in found[1]["error"]


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        (("POST", "/predict", b""), 422, "empty"),
        (("POST", "/predict", b"no picture"), 422, "neither JPEG"),
        (("POST", "/predict", png()[:50]), 422, "not a readable image"),
        (("POST", "/predict", bytes(100_001)), 413, "more than 0.1 MB"),
        (("POST", "/predict", *form(*[png()] * 4)), 413, "Too many files"),
        (("POST", "/predict", *form(bytes(100_001))), 413, "more than 0.1 MB"),
        (("POST", "/predict", *form()), 400, "no files"),
        (("POST", "/predict", b"a", "multipart/form-data"), 400, "boundary"),
        (("POST", "/predict", b"a", "multipart/form-data; boundary=x"), 400, ""),
        (("GET", "/predict"), 405, "Not Allowed"),
        (("GET", "/docs"), 404, "Not Found"),
    ],
)
def test_what_is_wrong_is_refused_in_a_line_of_json(
    service: Service, request_: tuple[Any, ...], status: int, said: str
) -> None:
    found, answer = service.ask(*request_)
    assert found == status
    assert list(told := json.loads(answer)) == ["error"]
    assert said in told["error"]
    assert b"\n" not in answer


def test_what_claims_to_be_huge_is_not_decoded(service: Service) -> None:
    content = io.BytesIO()
    Image.new("1", (6_000, 6_000)).save(content, "PNG")
    large = content.getvalue()
    ihdr = b"IHDR" + (100_000).to_bytes(4) * 2 + large[24:29]
    larger = large[:12] + ihdr + zlib.crc32(ihdr).to_bytes(4) + large[33:]
    for request in ((large,), form(png(), large), (larger,), form(larger)):
        status, answer = service.ask("POST", "/predict", *request)
        assert status == 413
        assert "more than 25 megapixels" in json.loads(answer)["error"]


def test_a_name_of_half_a_character_is_answered(service: Service) -> None:
    body, kind = form(png())
    body = body.replace(b"0.png", rb"\ud800.png")
    status, answer = service.ask("POST", "/predict", body, f"{kind}; charset=unicode_escape")
    assert status == 200
    assert json.loads(answer)["predictions"][0]["file"] == r"\ud800.png"


def test_a_client_that_goes_away_is_an_answer_and_no_traceback(service: Service) -> None:
    """The log, which the fixture looks at in the end, stays empty."""
    for kind in ("image/png", "multipart/form-data; boundary=x"):
        with socket.create_connection(("127.0.0.1", service.port)) as client:
            client.sendall(
                f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
                "Content-Length: 50000\r\n\r\n--x\r\n".encode()
            )
            time.sleep(0.2)
    assert service.ask("POST", "/predict", png())[0] == 200


LIMITS: dict[str, Any] = {"pictures": 9, "waiting": 99, "seconds": 30.0}
LIMITS |= {"megabytes": 20.0, "all_megabytes": 500.0, "megapixels": 25.0}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"pictures": 100}, r"limits\.pictures=100: of one request, above limits\.waiting=99 of all"),
        ({"megabytes": 501.0}, r"limits\.megabytes=501"),
        ({"megapixels": 0.0}, r"limits\.megapixels=0\.0: give a number above 0"),
    ],
)
def test_limits_under_which_a_request_could_never_be_answered_are_refused(
    changed: dict[str, Any], said: str
) -> None:
    application.Limits(**LIMITS)
    with pytest.raises(UserError, match=said):
        application.Limits(**(LIMITS | changed))


def test_what_all_requests_hold_together_is_bounded_and_given_back(trained: Path) -> None:
    stream = Stream(Detector.load(trained), 0.01)
    limits = application.Limits(**(LIMITS | {"megabytes": 0.001, "all_megabytes": 0.0015}))
    service = application.Service(stream, limits, 8, lambda: None, lambda error: None)

    async def status(content: bytes) -> int:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content, "more_body": False}

        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [], "query_string": b""}
        try:
            return (await service.predict(Request(scope, receive))).status_code
        except HTTPException as error:
            return error.status_code

    async def main() -> None:
        scoring = asyncio.create_task(service.batches.run())
        service._held = 1000  # another request's
        assert await status(bytes(900)) == 503
        assert service._held == 1000
        service._held = 0
        assert await status(png()) == 200
        assert service._held == 0
        scoring.cancel()

    asyncio.run(main())


def test_health_and_metrics_say_how_it_stands(service: Service) -> None:
    service.ask("POST", "/predict", png())
    service.ask("POST", "/predict", b"no picture")
    status, answer = service.ask("GET", "/health")
    scored = sum(row["score"] is not None for row in service.rows())
    assert status == 200
    assert json.loads(answer)["status"] == "ok"
    assert json.loads(answer)["drift"]["images"] == scored
    status, answer = service.ask("GET", "/metrics")
    numbers = dict(line.rsplit(" ", 1) for line in answer.decode().splitlines() if not line.startswith("#"))
    pictures = {k: float(v) for k, v in numbers.items() if k.startswith("anomaly_gan_pictures_total")}
    assert sum(pictures.values()) == len(service.rows())
    assert float(numbers['anomaly_gan_refused_total{status="422"}']) >= 1
    assert float(numbers["process_resident_memory_bytes"]) > 0
    assert float(numbers["anomaly_gan_alarmed"]) == 0


@pytest.mark.slow
def test_ended_under_load_all_that_has_a_row_was_answered_and_the_other_way_round(
    trained: Path, tmp_path: Path
) -> None:
    answered: list[str] = []

    def client(service: Service, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)
        for asked in range(100_000):
            try:
                connection.request("POST", f"/predict?name={number}_{asked}", png(number))
                if (answer := connection.getresponse()).status == 200:
                    answered.extend(it["file"] for it in json.loads(answer.read())["predictions"])
            except ConnectionRefusedError:
                connection.close()
                return
            except (http.client.HTTPException, OSError):
                connection.close()

    with started(trained, tmp_path) as service:
        clients = [threading.Thread(target=client, args=(service, number)) for number in range(8)]
        for thread in clients:
            thread.start()
        threading.Timer(2, service.process.terminate).start()
        for thread in clients:
            thread.join()
    assert service.process.returncode == 128 + signal.SIGTERM
    assert len(answered) > 8
    assert Counter(row["file"] for row in service.rows()) == Counter(answered)
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_what_comes_while_a_batch_is_scored_is_the_next_batch() -> None:
    scored: list[list[int]] = []
    gate = threading.Event()

    def score(items: Sequence[int]) -> list[int]:
        scored.append(list(items))
        gate.wait(10)
        return [-item for item in items]

    async def main() -> None:
        batches = Batches(score, batch_size=4, most_waiting=8)
        running = asyncio.create_task(batches.run())
        first = asyncio.create_task(batches.result([0]))
        while not scored:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batches.result([i])) for i in range(1, 7)]
        given_up = asyncio.create_task(batches.result([7]))
        await asyncio.sleep(0)
        assert len(batches) == 7
        with pytest.raises(TooManyError):
            await batches.result([8, 9])
        given_up.cancel()
        gate.set()
        assert await first == [0]
        assert await asyncio.gather(*others) == [[-i] for i in range(1, 7)]
        assert scored == [[0], [1, 2, 3, 4], [5, 6]]
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(main())


def test_what_goes_wrong_with_a_batch_is_told_to_those_who_asked_and_the_next_is_scored() -> None:
    def score(items: Sequence[int]) -> list[float]:
        return [1 / item for item in items]

    async def main() -> None:
        batches = Batches(score, batch_size=4, most_waiting=8)
        running = asyncio.create_task(batches.run())
        with pytest.raises(ZeroDivisionError):
            await batches.result([1, 0])
        assert await batches.result([2]) == [0.5]
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(main())
