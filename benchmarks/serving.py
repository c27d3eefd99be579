"""The service under load: its rate beside the bare detector's, latency, memory, bad requests, and its end.

    python benchmarks/serving.py RUN FOLDER --json results/serving.json

Bare: `Detector.score` of the same contents of files in this process, in batches of the service's size. The
two take turns, so that a busy machine slows both; on a very busy one the ratio of the processor's time,
without the clients', tells more than that of the clock. The clients are threads of this process, with a
connection each, and share the processor with the service. A request is one picture.
"""

import argparse
import http.client
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

# As the command does, before torch is loaded: threads that wait sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from common import rounded, seconds, write

from anomaly_gan import Detector
from anomaly_gan.allocator import keep_memory
from anomaly_gan.data.inputs import read
from anomaly_gan.data.scan import scan
from anomaly_gan.transforms.convert import to_float

BATCH = 32
"""As shipped."""

WAIT = 300


class Service(NamedTuple):
    """A running one."""

    process: "subprocess.Popen[str]"
    port: int
    log: Path

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        """Ask once, on a connection of its own; status and answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT)
        try:
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        """A number of /metrics."""
        text = self.ask("GET", "/metrics")[1].decode()
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        assert found is not None, name
        return float(found[1])


@contextmanager
def running(run: Path, folder: Path, *settings: str) -> Iterator[Service]:
    """The command, in a process of its own."""
    log = folder / "log"
    command = [sys.executable, "-m", "anomaly_gan", "serve", f"checkpoint={run}", "port=0", *settings]
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        try:
            port = re.search(r":(\d+):", process.stdout.readline())
            assert port is not None, log.read_text()
            yield Service(process, int(port[1]), log)
        finally:
            process.terminate()
            process.wait(WAIT)


def load(
    service: Service, clients: int, more: Callable[[], tuple[str, bytes] | None]
) -> tuple[list[float], Counter[str], list[str]]:
    """Ask with as many clients at a time until `more` has no (name, content) left.

    Returns:
        Seconds of each answer; how many of each status, of connections that were not taken, and of those that
        ended without an answer; the names of pictures that were answered.
    """
    times: list[float] = []
    outcomes: Counter[str] = Counter()
    answered: list[str] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=WAIT)
        while (given := more()) is not None:
            name, content = given
            began = time.perf_counter()
            try:
                connection.request("POST", f"/predict?name={name}", content)
                answer = connection.getresponse()
                answer.read()
            except ConnectionRefusedError:
                outcomes["refused"] += 1
                return
            except (http.client.HTTPException, OSError):
                outcomes["no answer"] += 1
                connection.close()
                continue
            times.append(time.perf_counter() - began)
            outcomes[str(answer.status)] += 1
            if answer.status == 200:
                answered.append(name)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, outcomes, answered


def drawn_from(contents: list[bytes], asked: int) -> Callable[[], tuple[str, bytes] | None]:
    """`asked` pictures with names of their own, in turn."""
    numbers, lock = count(), threading.Lock()

    def more() -> tuple[str, bytes] | None:
        with lock:
            number = next(numbers)
        return None if number >= asked else (f"{number}.png", contents[number % len(contents)])

    return more


def rates(
    service: Service, detector: Detector, contents: list[bytes], asked: int, clients: int, times: int
) -> dict[str, Any]:
    """Pictures a second of the service, of the bare detector, and of its network alone; latency; memory."""
    pictures = [contents[i % len(contents)] for i in range(asked)]
    tensors = torch.stack([read(content, **detector.form) for content in pictures])

    def network() -> None:
        for part in tensors.split(BATCH):
            detector.scorer.scores(to_float(part))

    detector.score(pictures[:BATCH])
    load(service, clients, drawn_from(contents, min(asked, 4 * BATCH)))
    bare, alone, served, processor, latencies, memory = [], [], [], [], [], []
    for _ in range(times):
        start = time.process_time()
        bare.append(asked / seconds(lambda: detector.score(pictures, BATCH)))
        of_bare, start = time.process_time() - start, service.metric("process_cpu_seconds_total")
        alone.append(asked / seconds(network))
        began = time.perf_counter()
        took, outcomes, _ = load(service, clients, drawn_from(contents, asked))
        served.append(asked / (time.perf_counter() - began))
        processor.append(of_bare / (service.metric("process_cpu_seconds_total") - start))
        assert outcomes == {"200": asked}, outcomes
        latencies += took
        memory.append(round(service.metric("process_resident_memory_bytes") / 2**20))
    one, _, _ = load(service, 1, drawn_from(contents, min(asked, 200)))
    return {
        "requests_a_round": asked,
        "clients": clients,
        "bare_pictures_per_second": rounded(bare),
        "network_pictures_per_second": rounded(alone),
        "served_pictures_per_second": rounded(served),
        "ratio_to_bare": round(statistics.median(s / b for s, b in zip(served, bare, strict=True)), 3),
        "ratio_to_bare_of_processor_time": round(statistics.median(processor), 3),
        "ratio_to_network": round(statistics.median(s / a for s, a in zip(served, alone, strict=True)), 3),
        "milliseconds": {"median": percentile(latencies, 50), "99 %": percentile(latencies, 99)},
        "milliseconds_of_a_single_client": {"median": percentile(one, 50), "99 %": percentile(one, 99)},
        "resident_mib_after_each_round": memory,
    }


def percentile(values: list[float], at: int) -> float:
    """In milliseconds."""
    return float(f"{statistics.quantiles(values, n=100)[at - 1] * 1000:.3g}")


def malformed(service: Service, good: bytes, asked: int) -> dict[str, Any]:
    """Requests that are wrong in every way there is a name for; all are answered with a line of JSON."""
    drawn = random.Random(0)
    form = {"Content_Type": "multipart/form-data; boundary=x"}
    part = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n'

    def damaged() -> bytes:
        content = bytearray(good)
        for _ in range(20):
            content[drawn.randrange(8)] = drawn.randrange(256)
        return bytes(content)

    kinds: dict[str, Callable[[], tuple[int, bytes]]] = {
        "noise": lambda: service.ask("POST", "/predict", drawn.randbytes(drawn.randrange(5000))),
        "cut off": lambda: service.ask("POST", "/predict", good[: drawn.randrange(len(good) // 2)]),
        "damaged": lambda: service.ask("POST", "/predict", damaged()),
        "nothing": lambda: service.ask("POST", "/predict"),
        "too large": lambda: service.ask("POST", "/predict", bytes(21_000_000)),
        "no boundary": lambda: service.ask("POST", "/predict", b"a", Content_Type="multipart/form-data"),
        "no form": lambda: service.ask("POST", "/predict", drawn.randbytes(100), **form),
        "a form cut off": lambda: service.ask("POST", "/predict", part + good[: len(good) // 2], **form),
        "too many": lambda: service.ask("POST", "/predict", (part + b"a\r\n") * 101 + b"--x--\r\n", **form),
        "a field": lambda: service.ask(
            "POST",
            "/predict",
            b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\na\r\n--x--\r\n',
            **form,
        ),
        "other method": lambda: service.ask("GET", "/predict"),
        "other place": lambda: service.ask("POST", f"/{drawn.randrange(1000)}", good),
    }
    before = [service.metric(f"process_{name}") for name in ("resident_memory_bytes", "open_fds")]
    statuses: Counter[str] = Counter()
    for kind in islice(cycle(kinds), asked):
        status, answer = kinds[kind]()
        told = json.loads(answer)
        as_it_should = 400 <= status < 500 and list(told) == ["error"] and b"\n" not in answer
        assert as_it_should, (kind, status, answer)
        statuses[f"{kind}: {status}"] += 1
    after = [service.metric(f"process_{name}") for name in ("resident_memory_bytes", "open_fds")]
    return {
        "requests": asked,
        "outcomes": dict(sorted(statuses.items())),
        "resident_mib": [round(before[0] / 2**20), round(after[0] / 2**20)],
        "open_files": [int(before[1]), int(after[1])],
        "tracebacks": service.log.read_text().count("Traceback"),
    }


def ended_under_load(run: Path, contents: list[bytes], clients: int, ends: int) -> dict[str, Any]:
    """SIGTERM while all clients ask: whose pictures have a row, and who was answered."""
    found: Counter[str] = Counter()
    for end in range(ends):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with running(run, folder, f"output={folder / 'rows'}") as service:
                load(service, clients, drawn_from(contents, clients))
                threading.Timer(1 + 0.37 * end, service.process.send_signal, [signal.SIGTERM]).start()
                _, outcomes, answered = load(service, clients, drawn_from(contents, 10**9))
                code = service.process.wait(WAIT)
            rows = Counter(
                json.loads(line)["file"]
                for line in (folder / "rows.jsonl").read_text().splitlines()[clients:]
            )
            found["exit code 143"] += code == 143
            found["tracebacks"] += (folder / "log").read_text().count("Traceback")
        found.update(outcomes)
        found["answered without a row"] += sum(name not in rows for name in answered)
        found["rows without an answer"] += len(rows.keys() - set(answered))
        found["rows twice"] += sum(times > 1 for times in rows.values())
    return {"ends": ends, "clients": clients, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder or its detector.ckpt")
    parser.add_argument("folder", type=Path, help="of images")
    parser.add_argument("--requests", type=int, default=1000, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--malformed", type=int, default=500)
    parser.add_argument("--ends", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    keep_memory()
    detector = Detector.load(arguments.run)
    contents = [(arguments.folder / name).read_bytes() for name in scan(arguments.folder).images[:200]]
    found: dict[str, Any] = {"pictures": len(contents), "image_size": detector.form["image_size"]}
    with tempfile.TemporaryDirectory() as name, running(arguments.run, Path(name)) as service:
        load_of = (arguments.requests, arguments.clients, arguments.rounds)
        found |= {"load": rates(service, detector, contents, *load_of)}
        print(json.dumps(found["load"], indent=2))
        found |= {"malformed": malformed(service, contents[0], arguments.malformed)}
        print(json.dumps(found["malformed"], indent=2))
    found |= {"ended": ended_under_load(arguments.run, contents, arguments.clients, arguments.ends)}
    print(json.dumps(found["ended"], indent=2))
    write(arguments.json, found)


if __name__ == "__main__":
    main()
