"""Several processes for one run: started here, or by torchrun or SLURM."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import torch.multiprocessing
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from anomaly_gan.distributed import leave
from anomaly_gan.errors import UserError, is_of_memory
from anomaly_gan.lifetime import SIGNALS, Stopped, listening
from anomaly_gan.terminal import outlive_readers

NOT_FOUND = -1


def started_outside() -> tuple[int, int] | None:
    """Devices a node and nodes, where torchrun or srun has started this process as one of several."""
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        here, everywhere = int(environment["LOCAL_WORLD_SIZE"]), int(environment["WORLD_SIZE"])
        return here, everywhere // here
    interactive = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")
    tasks, nodes = (int(environment.get(f"SLURM_{of}", 1)) for of in ("NTASKS", "NNODES"))
    if tasks > 1 and "SLURM_PROCID" in environment and not interactive:
        return tasks // nodes, nodes
    return None


def in_processes(function: Callable[..., Any], arguments: tuple[Any, ...], processes: int) -> None:
    """Call `function(*arguments)` in `processes` new processes, and end all of them when one ends badly.

    Each finds in its environment what torchrun would put there. Unlike Lightning's own launcher this does not
    run the command line again, which in a sweep would start the whole sweep in every process.

    Args:
        function: of a module, so that it can be sent.
        arguments: likewise.
        processes: how many, one a device.

    Raises:
        UserError: what one of them raised; or one died.
        MemoryError: memory, here or of a device, did not suffice for one of them.
        Stopped: this process was asked to end, or one of them was: all have ended.
    """
    port = free_port()
    logging.getLogger(torch.multiprocessing.__name__).setLevel(logging.ERROR)  # ending the others is no news
    complaints = torch.multiprocessing.get_context("spawn").SimpleQueue()
    context = torch.multiprocessing.start_processes(
        _work, (function, arguments, processes, port, complaints), processes, join=False, start_method="spawn"
    )
    try:
        while not context.join():
            pass
    except Stopped:
        for process in context.processes:
            process.terminate()
        for process in context.processes:
            process.join()
        raise
    except (ProcessExitedException, ProcessRaisedException) as ended:
        if not complaints.empty():
            kind, told = complaints.get()
            raise kind(told) from ended
        if getattr(ended, "exit_code", 0) - 128 in SIGNALS:
            raise Stopped(ended.exit_code - 128) from ended  # type: ignore[union-attr]
        # The others are ended by SIGTERM, or find the connection closed.
        codes = [process.exitcode or 0 for process in context.processes]
        first = [ended.error_index, *range(processes)]  # a survivor that does not listen is killed in the end
        died = next((i for i in first if codes[i] < 0 and codes[i] != -signal.SIGTERM), NOT_FOUND)
        if died == NOT_FOUND:
            raise
        raise UserError(
            f"process {died} of {processes} died ({signal.Signals(-codes[died]).name}), so the others were "
            "ended; resume=RUN_FOLDER/checkpoints/last.ckpt goes on from where it was last saved, if it was"
        ) from ended


def _work(
    index: int,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    processes: int,
    port: int,
    complaints: Any,
) -> None:
    os.environ |= {
        "RANK": str(index),
        "LOCAL_RANK": str(index),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    outlive_readers()
    try:
        with listening():
            function(*arguments)
            leave()
    except (UserError, OSError) as error:  # what a command says in one line
        complaints.put((UserError, str(error)))
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if not is_of_memory(error):
            raise
        complaints.put((MemoryError, str(error)))
        sys.exit(2)


def free_port() -> int:
    with socket.socket() as here:
        here.bind(("127.0.0.1", 0))
        return int(here.getsockname()[1])
