"""The launchers of conf/launcher, by submitit through its Hydra plugin: the extra `launchers`.

In this name space because Hydra takes launchers from nowhere else. The underscore keeps it from importing
this file by itself: `anomaly_gan_launchers.py` does, where submitit is installed.
"""

import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf, SlurmQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import (
    BaseSubmititLauncher,
    LocalLauncher,
    SlurmLauncher,
)

from anomaly_gan.cli import slurm
from anomaly_gan.cli.sweep import Ended, Sweep, label, settled


class Slurm(SlurmLauncher):
    """One array job of all runs that are still to be done; they go on when this process ends."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from submitit import Job, SlurmJob

        slurm.check(self.params["timeout_min"], self.params["signal_delay_s"])
        place = Path(self.params["submitit_folder"])  # its last part stands for a job's number
        asked = slurm.asked_before(place.parent)
        labels: dict[str, list[tuple[str, Path]]] = {}
        jobs: dict[str, Job[JobReturn]] = {}
        new: dict[str, tuple[Any, ...]] = {}
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            folder = _folder(self, overrides)
            named = label(folder, number)
            ended = settled(folder)
            if ended is not None:
                Sweep.note(ended, named, folder)
                continue
            labels.setdefault(folder.name, []).append((named, folder))
            if folder.name in asked:
                jobs[folder.name] = SlurmJob(place, asked[folder.name])
            else:
                job_id, state = "", Singleton.get_state()  # the job itself knows its id
                new[folder.name] = (list(overrides), "hydra.sweep.dir", number, job_id, state)
        if jobs:
            print(f"SLURM: an earlier command has asked for {len(jobs)} of the runs", file=sys.stderr)
        jobs |= slurm.ask(self, self.params, new) if new else {}
        print(f"SLURM: what jobs print is in {os.path.relpath(place.parent)}", file=sys.stderr)
        for ended in slurm.wait(jobs):
            for named, folder in labels[ended.name]:
                Sweep.note(ended, named, folder)
        return []

    def __call__(self, *arguments: Any) -> JobReturn:
        return slurm.in_job(partial(super().__call__, *arguments))


def _folder(launcher: BaseSubmititLauncher, overrides: Sequence[str]) -> Path:
    """Of the run that has these overrides."""
    assert launcher.hydra_context is not None
    assert launcher.config is not None
    config = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, list(overrides))
    return Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir


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
        self.gpu: str | None = None
        self.runs_at_once = runs_at_once or len(self.gpus) or 2

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        threads = max(1, (os.cpu_count() or 1) // self.runs_at_once)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        folders = [_folder(self, overrides) for overrides in job_overrides]  # what is wrong is said first
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in range(len(job_overrides)):
            waiting.put(index)

        def work(slot: int) -> None:
            while True:
                try:
                    index = waiting.get_nowait()
                except queue.Empty:
                    return
                folder = folders[index]
                try:
                    one = self._on_gpu(slot)
                    (returned,) = LocalLauncher.launch(one, [job_overrides[index]], initial_job_idx + index)
                    how = returned.return_value
                except Exception as died:  # the other runs go on
                    how = Ended(folder.name, "stopped", (str(died) or type(died).__name__).splitlines()[0])
                Sweep.note(how, label(folder, initial_job_idx + index), folder)

        # Daemons, so that Ctrl-C ends this process; the runs end with it (`lifetime.end_with_parent`).
        workers = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(self.runs_at_once)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return []

    def _on_gpu(self, slot: int) -> "LocalParallel":
        """A launcher for the runs that go to place `slot`."""
        one = LocalParallel(self.runs_at_once, **self.params)
        one.config, one.hydra_context, one.task_function = self.config, self.hydra_context, self.task_function
        one.gpu = self.gpus[slot % len(self.gpus)] if self.gpus else None
        return one

    def __call__(self, *arguments: Any) -> JobReturn:
        # In the run's process. Submitit itself takes whole numbers alone, and its lines before a job make a
        # shell that some systems put the job in the place of, so that it looks for its parent in vain.
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        return super().__call__(*arguments)


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them, without loading torch for it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = (name.strip() for name in visible.split(","))
        return list(takewhile(lambda name: name not in ("", "-1"), names))  # CUDA reads no further either
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    found: list[list[str]] = []  # of each GPU the parts that it is divided into (MIG), if it is
    for line in listed.stdout.splitlines():
        if line.startswith("GPU "):
            found.append([])
        elif part_of_gpu := re.search(r"UUID: (MIG-[^)]+)", line):
            found[-1].append(part_of_gpu[1])
    return [name for index, parts in enumerate(found) for name in parts or [str(index)]]


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
