"""The launchers of conf/launcher, by submitit through its Hydra plugin: the extra `launchers`.

In this name space because Hydra takes launchers from nowhere else. The underscore keeps it from importing
this file by itself: `anomaly_gan_launchers.py` does, where submitit is installed.
"""

import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf, SlurmQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher, SlurmLauncher


class Slurm(SlurmLauncher):
    """One array job of all runs; they go on when this process ends."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        try:
            return super().launch(job_overrides, initial_job_idx)
        except Exception as died:
            if not type(died).__module__.startswith("submitit"):
                raise
            # A job that was cancelled, or whose node failed. The others go on, but nobody waits for them now.
            print(f"waiting ended early: {str(died).splitlines()[0]}", file=sys.stderr)
            return []


class LocalParallel(LocalLauncher):
    """A few runs at a time on this machine; where there are GPUs, each has one to itself.

    The plugin's own launcher starts all of them at once.

    Args:
        runs_at_once: how many; None: one a GPU, and two where there is no GPU.
        params: of submitit's local executor.
    """

    def __init__(self, runs_at_once: int | None, **params: Any):
        super().__init__(**params)
        self.gpus = gpus()
        self.runs_at_once = runs_at_once or len(self.gpus) or 2

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        threads = max(1, (os.cpu_count() or 1) // self.runs_at_once)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in range(len(job_overrides)):
            waiting.put(index)
        returns: dict[int, JobReturn] = {}

        def work(slot: int) -> None:
            while True:
                try:
                    index = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    one = self._on_gpu(slot)
                    (ended,) = LocalLauncher.launch(one, [job_overrides[index]], initial_job_idx + index)
                except Exception as died:  # the other runs go on; which are not finished is told at the end
                    print(f"run {initial_job_idx + index + 1}: {str(died).splitlines()[0]}", file=sys.stderr)
                    ended = JobReturn(status=JobStatus.COMPLETED)
                if ended.status is JobStatus.COMPLETED and ended.return_value:
                    print(ended.return_value, flush=True)
                returns[index] = ended

        # Daemons, so that Ctrl-C ends this process; the runs end with it (`lifetime.end_with_parent`).
        workers = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(self.runs_at_once)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return [returns[index] for index in sorted(returns)]

    def _on_gpu(self, slot: int) -> "LocalParallel":
        """A launcher for the runs that go to place `slot`."""
        one = LocalParallel(self.runs_at_once, **self.params)
        one.config, one.hydra_context, one.task_function = self.config, self.hydra_context, self.task_function
        if self.gpus:
            one.params |= {"gpus_per_node": 1, "visible_gpus": [self.gpus[slot % len(self.gpus)]]}
        return one


def gpus() -> list[int]:
    """The GPUs that this process may use, without loading torch for it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [int(index) for index in visible.split(",") if index.strip().isdecimal()]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return list(range(sum(line.startswith("GPU ") for line in listed.stdout.splitlines())))


@dataclass
class LocalParallelSettings(LocalQueueConf):
    """Settings of `LocalParallel`, for Hydra."""

    _target_: str = f"{__name__}.LocalParallel"
    runs_at_once: int | None = None


@dataclass
class SlurmSettings(SlurmQueueConf):
    """Settings of `Slurm`, for Hydra."""

    _target_: str = f"{__name__}.Slurm"


for name, settings in {"local_parallel": LocalParallelSettings, "slurm": SlurmSettings}.items():
    ConfigStore.instance().store(group="hydra/launcher", name=name, node=settings)
