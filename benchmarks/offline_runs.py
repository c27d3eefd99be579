"""What Weights & Biases keeps of a run that is offline, for tests and benchmarks."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768


@dataclass
class OfflineRun:
    """One run's file."""

    identity: str = ""
    group: str = ""
    job_type: str = ""
    name: str = ""
    exit_code: int | None = None
    """None: it never ended."""
    keys: set[str] = field(default_factory=set)
    """Of everything that was logged."""
    summary: set[str] = field(default_factory=set)


def records(path: Path) -> Iterator[Record]:
    """The records of a file: seven bytes of its own, then a log as LevelDB has it."""
    content = path.read_bytes()
    assert content[:4] == b":W&B"
    at, whole = 7, b""
    while at + 7 <= len(content):
        if BLOCK - at % BLOCK < 7:  # too little for a header: the rest of a block is empty
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, or the last of several
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def read(path: Path) -> OfflineRun:
    """The run in a `run-*.wandb`."""
    run = OfflineRun()
    for record in records(path):
        match record.WhichOneof("record_type"):
            case "run":
                run.identity, run.group = record.run.run_id, record.run.run_group
                run.job_type, run.name = record.run.job_type, record.run.display_name
            case "history":
                run.keys |= {item.key or "/".join(item.nested_key) for item in record.history.item}
            case "summary":
                run.summary |= {item.key or "/".join(item.nested_key) for item in record.summary.update}
            case "exit":
                run.exit_code = record.exit.exit_code
    return run
