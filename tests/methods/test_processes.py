"""Two processes that share every batch do what one does with the whole of it."""

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from as_one import Record, assert_same_training
from torch import nn

from anomaly_gan import distributed
from anomaly_gan.build import build_method
from anomaly_gan.cli.trainer import make_trainer
from anomaly_gan.data.digits import Digits
from anomaly_gan.errors import UserError
from anomaly_gan.launch import in_processes
from anomaly_gan.networks.modes import batch_norms
from anomaly_gan.randomness import RowRng
from anomaly_gan.sharding import Shard

ITERATIONS = 20

OFF = {"compile": False, "cuda_graphs": False}


def train(folder: Path, configs: dict[str, dict[str, Any]], processes: int) -> None:
    """Runs in float64, in which rounding does not grow into differences; the first process keeps them."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    settings = {"accelerator": "cpu", "devices": processes, "precision": "32-true"} | OFF
    for name, config in configs.items():
        batch_size = BATCH_SIZES[name.split()[1]]
        data = Digits(normal_class=3, batch_size=batch_size, total_images=batch_size * ITERATIONS, limit=40)
        data.setup()
        torch.manual_seed(int(os.environ["RANK"]))  # process 0's weights must become everybody's
        method = build_method(config, data.describe())
        record = Record()
        trainer = make_trainer(settings, default_root_dir=folder, callbacks=[record], logger=False)
        trainer.fit(method, datamodule=data)
        assert all(type(norm) is nn.BatchNorm2d for norm in batch_norms(method))
        if trainer.is_global_zero:
            torch.save(
                {"weights": method.state_dict(), "terms": record.terms}, folder / f"{name}, {processes}"
            )


BATCH_SIZES = {"even": 8, "uneven": 7}


@pytest.mark.slow
def test_two_processes_are_one(small_config, tmp_path: Path) -> None:
    beyond = {"latents_per_image": 2, "diff_augment": {
        "_target_": "anomaly_gan.transforms.diff_augment.DiffAugment",
        "changes": ["color", "translation", "cutout"],
    }}  # fmt: skip
    configs = {
        "csi even": small_config("csi"),
        "csi uneven": small_config("csi"),
        "full even": small_config("full"),
        "full uneven": small_config("full", **beyond),
        "negatives uneven": small_config("full", synthetic_as="negatives"),
    }
    for processes in (1, 2):
        in_processes(train, (tmp_path, configs, processes), processes)
    for name in configs:
        one, two = (torch.load(tmp_path / f"{name}, {processes}") for processes in (1, 2))
        assert_same_training(one, two, ITERATIONS, name)


def die(folder: Path) -> None:
    """Process 1 is killed while process 0 waits for it."""
    dist.init_process_group("gloo")
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.average_([torch.zeros(1)])
    (folder / "went on").touch()


def test_a_process_that_dies_ends_all_with_its_name_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"process 1 of 2 died \(SIGKILL\).*resume="):
        in_processes(die, (tmp_path,), 2)
    assert not (tmp_path / "went on").exists()


def say_at_the_end(folder: Path) -> None:
    """Talk to the other, and write what is left of it when the interpreter ends."""
    dist.init_process_group("gloo")
    distributed.average_([torch.zeros(1)])
    atexit.register(lambda: (folder / os.environ["RANK"]).write_text(str(dist.is_initialized())))


def test_processes_part_before_they_end(tmp_path: Path) -> None:
    in_processes(say_at_the_end, (tmp_path,), 2)
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["False", "False"]


def complain(folder: Path) -> None:
    if os.environ["RANK"] == "1":
        raise UserError("no such thing; do this")
    time.sleep(600)


@pytest.mark.slow
def test_what_a_process_complains_of_is_said_and_the_others_do_not_wait(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^no such thing; do this$"):
        in_processes(complain, (tmp_path,), 2)


def outgrow() -> None:
    if os.environ["RANK"] == "1":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    time.sleep(600)


def test_memory_that_does_not_suffice_for_one_process_ends_all() -> None:
    with pytest.raises(MemoryError, match=r"^CUDA out of memory. Tried to allocate 2.00 GiB.$"):
        in_processes(outgrow, (), 2)


def test_numbers_for_a_part_of_the_rows_are_refused() -> None:
    rng = RowRng(torch.Generator(), Shard(7))
    with pytest.raises(ValueError, match=r"count=1: give a multiple of the 7 rows"):
        rng.normal(1, 4)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_shards_draw_together_what_one_process_draws(processes: int) -> None:
    total, groups, columns = 7, 3, 2
    whole = RowRng(torch.Generator().manual_seed(0)).normal(groups * total, columns)
    parts = []
    for process in range(processes):
        shard = Shard(total, process, processes)
        drawn = RowRng(torch.Generator().manual_seed(0), shard).normal(groups * shard.rows, columns)
        parts.append(drawn.view(groups, shard.rows, columns))
    assert torch.equal(torch.cat(parts, dim=1).flatten(0, 1), whole)
    assert sum(Shard(total, process, processes).weight for process in range(processes)) == processes


SCRIPT = """
import torch
from anomaly_gan.build import build_method
from anomaly_gan.cli.trainer import make_trainer
from anomaly_gan.data.digits import Digits
import json, sys

settings = {"accelerator": "cpu", "devices": 2, "precision": "32-true"}
settings |= {"compile": False, "cuda_graphs": False}
data = Digits(normal_class=3, batch_size=7, total_images=14, limit=40)
data.setup()
torch.manual_seed(0)
method = build_method(json.loads(sys.argv[1]), data.describe())
trainer = make_trainer(settings, logger=False)
trainer.fit(method, datamodule=data)
assert trainer.world_size == 2
if trainer.is_global_zero:
    print("trained", method.iteration)
"""


@pytest.mark.slow
def test_lightnings_own_launcher_starts_a_program_of_ones_own(small_config, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SCRIPT)
    command = [sys.executable, "own.py", json.dumps(small_config("full"))]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained") == 1


def compile_and_compare(config: dict[str, Any], folder: Path) -> None:
    """In a process without the shape checks, which wrap every function that would be compiled."""
    # The graph is taken and differentiated as for a GPU; code for this processor would take minutes.
    compile_function = torch.compile
    torch.compile = lambda function, **of: compile_function(function, backend="aot_eager", **of)  # type: ignore[assignment]
    # In double precision: Adam makes steps of what rounding leaves of a gradient that is zero.
    settings = {"accelerator": "cpu", "devices": 1, "precision": "64-true"} | OFF
    found = []
    for compiled in (False, True):
        data = Digits(normal_class=3, batch_size=4, total_images=8, limit=40)
        data.setup()
        torch.manual_seed(0)
        method = build_method(config, data.describe())
        if compiled:
            method.compile_networks()
        make_trainer(settings, default_root_dir=folder, logger=False).fit(method, datamodule=data)
        found.append(method.state_dict())
    assert list(found[0]) == list(found[1])  # names in checkpoints
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_compiled_networks_learn_the_same_and_keep_their_names(small_config, tmp_path: Path) -> None:
    in_processes(compile_and_compare, (small_config("full", every=1), tmp_path), 1)
