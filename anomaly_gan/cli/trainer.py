"""The Lightning Trainer of a run."""

import logging
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from anomaly_gan.callbacks.training_checkpoint import WholeFiles
from anomaly_gan.data.module import OneClassData
from anomaly_gan.device import choose_precision
from anomaly_gan.errors import UserError
from anomaly_gan.launch import started_outside
from anomaly_gan.methods.base import Method
from anomaly_gan.precision import keep_float32
from anomaly_gan.strategies import SharedBatch


def make_trainer(config: Mapping[str, Any], **more: Any) -> pl.Trainer:
    """The Trainer of a group `trainer`.

    Raises:
        UserError: it cannot be used here.
    """
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # A cluster's login node has it; said here, in fit, and by each Trainer anew.
    warnings.filterwarnings("ignore", "The `srun` command is available on your system but is not used")
    if "SLURM_NTASKS" in os.environ and started_outside() is None:
        more = {"plugins": [LightningEnvironment()]} | more  # a job of one task, whose processes are ours
    keep_float32()
    settings = dict(config)
    settings["precision"] = choose_precision(settings["precision"], settings["accelerator"])
    for ours in ("compile", "cuda_graphs"):
        del settings[ours]
    try:
        trainer = pl.Trainer(
            **settings,
            **more,
            max_epochs=1,  # one pass over a loader that has as many batches as the training
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        if trainer.world_size > 1 and "strategy" not in more:
            return make_trainer(config, **more, strategy=SharedBatch())
        trainer.strategy.checkpoint_io = WholeFiles()
        # Of Lightning's handlers of signals, one speaks to other processes in the middle of whatever they do.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as wrong:
        raise UserError(f"trainer: {wrong}") from wrong
    return trainer


def speed_up(
    method: Method, config: Mapping[str, Any], device: torch.device, processes: int
) -> dict[str, Any]:
    """Compile networks and record phases as CUDA graphs, as `config`, the group `trainer`, has it.

    Returns:
        The group with what has become of `cuda_graphs`: true or false.

    Raises:
        UserError: graphs cannot be recorded here.
    """
    if config["compile"]:
        method.compile_networks()
    graphs = config["cuda_graphs"]
    if not isinstance(graphs, bool) and graphs != "auto":
        raise UserError(f"trainer.cuda_graphs={graphs}: valid: true, false, auto")
    on_one_gpu = device.type == "cuda" and processes == 1
    if graphs is True and not on_one_gpu:
        raise UserError("trainer.cuda_graphs=true: for a run on one GPU; leave it out here")
    if graphs == "auto":  # compiled and recorded together has not been tried
        can_be = method.same_when_recorded and method.waits_for_device is None
        graphs = on_one_gpu and can_be and not config["compile"]
    if graphs:
        method.capture_phases()
    return {**config, "cuda_graphs": graphs}


def fit(trainer: pl.Trainer, method: Method, data: OneClassData, resume: Path | None) -> float:
    """Train, from the checkpoint `resume` on if there is one; the seconds that it took."""
    if not method.learns:
        if trainer.world_size > 1:  # they are to score together all the same
            trainer.strategy.setup_environment()
        return 0.0
    start = time.perf_counter()
    with warnings.catch_warnings():
        # Images in memory need no loader processes.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        # It is: the loader starts at `data.start_iteration`.
        warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")
        # Lightning's own use of torch, nothing of ours.
        warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
        # A run that was killed while it scored has nothing left to train.
        warnings.filterwarnings("ignore", ".*Total length of `DataLoader` across ranks is zero.*")
        trainer.fit(method, datamodule=data, ckpt_path=resume, weights_only=True)
    return time.perf_counter() - start
