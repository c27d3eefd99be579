"""Every method as it is shipped, made small by `debug=fast`: what the tests of all of them share."""

import copy
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from anomaly_gan import evaluation
from anomaly_gan.build import build_method
from anomaly_gan.cli.installed import config_folder
from anomaly_gan.cli.messages import options
from anomaly_gan.cli.sizes import choose_sizes
from anomaly_gan.cli.trainer import fit, make_trainer
from anomaly_gan.config import build_a
from anomaly_gan.data.module import OneClassData
from anomaly_gan.distributed import rank
from anomaly_gan.evaluation import Scored
from anomaly_gan.methods.base import Method
from anomaly_gan.training.phases import Phase, Step

METHODS = options("method")
"""A method is in here by its recipe alone, and so is under the whole contract; one of a package too."""

SMALL = ("debug=fast", "trainer=cpu", "normal_class=3")

SHORT = ("csi", "geom", "deep_svdd", "raw_pixels")
"""The methods that learn within ten seconds."""

OF_CSI = "normal_class=7 optimizer=adam_fast width=8 batch_size=16 schedule.total_images=960"

LEARNS = {
    # Sevens, of which F knows nothing as it starts: over three seeds 0.52 on average, after 60 steps 0.94.
    **dict.fromkeys(("csi", "csi_g", "full"), (0.3, OF_CSI)),
    # Gaussians of a network as it starts tell whole digits apart already (0.92); it learns of small defects.
    "csi_defects": (0.02, "batch_size=16 schedule.total_images=1600"),
    "deep_svdd": (0.3, "normal_class=7 batch_size=32 schedule.total_images=6400"),
    # The simplified score: how sure the classifier is of a transform says nothing before it has learned,
    # while Dirichlets of a network as it starts tell fours from the others already (0.94 to 0.99).
    "geom": (
        0.3,
        "normal_class=4 batch_size=32 schedule.total_images=4800 data.limit=60 scoring.primary=simplified",
    ),
    # Features of a network as it starts tell most digits from the others; ones the least (0.72 to 0.85).
    "goad": (0.1, "normal_class=1 batch_size=4 schedule.total_images=320 data.limit=60"),
    "ocgan": (0.3, "normal_class=7 batch_size=16 schedule.total_images=480"),
    "rot_trans": (
        0.2,
        "normal_class=7 batch_size=16 schedule.total_images=3200 data.limit=60 scoring.depth=10",
    ),
}
"""By how much the AUROC rises, at the least, under which settings, within seconds.

Measured on one machine with seed 0: csi 0.27 to 0.94, full to 0.91, deep_svdd 0.25 to 0.95, geom 0.29 to
1.00, goad 0.72 to 0.96, ocgan 0.49 to 0.97, rot_trans 0.68 to 0.97, csi_defects 0.92 to
0.96. The margins are half of that, or less.
"""

Config = dict[str, Any]
State = dict[str, torch.Tensor]


def composed(method: str, *settings: str) -> Config:
    """The configuration of `anomaly-gan train method=METHOD SETTINGS`, resolved, in plain containers."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [f"method={method}", *settings])
    choose_sizes(config)
    plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    return plain


def of_images(side: int, channels: int) -> Config:
    """What a data set of such images says of itself."""
    said = {"dataset": "noise", "normal_class": "all", "class_names": ["all"], "resize": "stretch"}
    return said | {"image_size": side, "channels": channels, "iterations": 2}


def untrained(config: Config, data: Config) -> Method:
    """The method as it starts, from the same weights every time."""
    torch.manual_seed(0)
    return build_method(config, data)


def loaded(config: Config, iterations: int | None = None) -> OneClassData:
    """The configuration's data, set up, for so many iterations; None: as it says."""
    data: OneClassData = build_a(OneClassData, config["data"], "data", ("data",))
    data.setup()
    if iterations is not None:
        data.total_images = iterations * data.batch_size
    return data


def train(
    method: Method,
    data: OneClassData,
    config: Config,
    folder: Path,
    *callbacks: pl.Callback,
    resume: Path | None = None,
) -> None:
    """Train as the command does, without logs and pictures."""
    method.save_hyperparameters(config, logger=False)  # which a checkpoint has to have
    trainer = make_trainer(
        config["trainer"], default_root_dir=folder, callbacks=list(callbacks), logger=False
    )
    fit(trainer, method, data, resume)


def state(module: torch.nn.Module) -> State:
    """A copy of all its weights and buffers."""
    return copy.deepcopy(dict(module.state_dict()))


def evaluated(method: Method, data: OneClassData) -> Scored:
    """The scores of all test images, once the scorer is fitted."""
    evaluation.fit_scorer(method.scorer, data)
    scored = evaluation.score_test_set(method.scorer, data)
    assert scored is not None
    return scored


def same(one: State, other: State) -> None:
    """They are equal to the bit."""
    assert one.keys() == other.keys()
    differing = [name for name, value in one.items() if not torch.equal(value, other[name])]
    assert not differing, differing


def watch(method: Method) -> list[tuple[Phase, set[str], set[str]]]:
    """Of each phase that runs: the networks of which it moved weights, and all that it moved of anything.

    What belongs to no network goes by its own name.
    """
    seen, descend = [], method.descend
    network_of = {
        tensor.data_ptr(): name
        for name, network in method.networks.items()
        for tensor in network.state_dict().values()
    }
    weights = {weight.data_ptr() for weight in method.parameters()}

    def watched(phase: Phase, step: Step) -> None:
        before = state(method)
        descend(phase, step)
        after = method.state_dict()
        moved = {
            name: after[name].data_ptr() for name in before if not torch.equal(before[name], after[name])
        }
        by_weight = {network_of.get(where, name) for name, where in moved.items() if where in weights}
        seen.append((phase, by_weight, {network_of.get(where, name) for name, where in moved.items()}))

    method.descend = watched  # type: ignore[method-assign]
    return seen


def steps_of_all_phases(method: Method) -> int:
    """So many iterations that each phase of each stage runs; two at least."""
    longest = max((phase.every for stage in method.plan for phase in stage.phases), default=1)
    return max(2, longest * len(method.plan))


class Keep(pl.Callback):
    """A checkpoint after every iteration."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        trainer.save_checkpoint(Path(trainer.default_root_dir) / f"{pl_module.iteration + 1}.ckpt")


def share(folder: Path, config: Config, processes: int) -> None:
    """Train and score in float64, in which rounding does not grow into differences."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    config["trainer"]["devices"] = processes
    data = loaded(config, 6)
    built = untrained(config, data.describe())
    train(built, data, config, folder)
    trained = state(built)
    scores = {name: torch.from_numpy(values) for name, values in evaluated(built, data).scores.items()}
    assert rank() == int(os.environ["RANK"])  # so also where nothing is learned
    if rank() == 0:
        torch.save({"state": trained, "scores": scores}, folder / f"{processes}")
