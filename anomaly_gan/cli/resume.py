"""Where a training goes on that was ended before its time."""

import os
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from anomaly_gan.callbacks.training_checkpoint import FOLDER, LAST, newest, next_iteration, read
from anomaly_gan.data.module import OneClassData
from anomaly_gan.errors import UserError
from anomaly_gan.results import RESULT_FILE

AUTO = "auto"
"""`resume=auto`: go on from the checkpoint in the run's own folder, if there is one."""

MAY_DIFFER = {"data.workers", "data.evaluation_batch_size", "scoring.chunk"}
"""Settings of the machine's memory and time, which change nothing that is learned."""


def how_to_go_on(config: dict[str, Any], folder: Path) -> str:
    """What to say of a training that was ended."""
    last = folder / FOLDER / LAST
    scoring_again = config["resume"] not in (None, AUTO)  # of a training that had ended, nothing new is kept
    if not last.is_file() and not scoring_again:
        return " before anything was kept to go on from"
    if config["resume"] == AUTO or not last.is_file():
        return "; the same command goes on from where it was"
    return f"; the same command with resume={os.path.relpath(last)} goes on from where it was"


def images_timed_before(config: dict[str, Any], folder: Path) -> int | None:
    """How many images the process that this one goes on from found that it had time for.

    Raises:
        UserError: it was given another time.
    """
    if config["resume"] is None:
        return None
    run = folder if config["resume"] == AUTO else Path(str(config["resume"])).expanduser().parent.parent
    settings = run / "config.yaml"
    if not settings.is_file():
        return None
    before = OmegaConf.load(settings).schedule
    asked, timed_for = config["schedule"]["minutes"], before.get("timed_for")
    if timed_for not in (None, asked):
        raise UserError(
            f"resume={config['resume']}: its run was timed for {timed_for:g} minutes, this one for "
            f"{asked:g}; give budget={timed_for:g}min"
        )
    total = before.total_images
    return None if total is None else int(total)  # of a run that was sized by its passes


def checkpoint_to_resume(config: dict[str, Any], data: OneClassData, folder: Path) -> Path | None:
    """The checkpoint that `config` names, or with `resume=auto` the one in `folder`, if it is there.

    `data` is told to start where it ends.

    Raises:
        UserError: there is none, it is damaged, its run had other settings or images, or was finished.
    """
    if config["resume"] is None:
        return None
    path = Path(str(config["resume"])).expanduser()
    if config["resume"] == AUTO:
        found = newest(folder)
        if found is None:
            return None
        path = found
    if not path.is_file():
        raise UserError(f"resume={path}: no such file; give the checkpoints/last.ckpt in the folder of a run")
    state = read(path)
    before = state["hyper_parameters"]
    different = {
        f"{part}.{key}": f"{before[part].get(key)}, this one has {config[part][key]}"
        for part in ("data", "method", "scoring", "trainer")
        for key in config[part]
        if f"{part}.{key}" not in MAY_DIFFER and before[part].get(key) != config[part][key]
    }
    if different.keys() <= {"data.total_images"}:  # which may follow from the images
        auto = config["resume"] == AUTO
        remedy = f"remove {os.path.relpath(folder)} to start anew" if auto else "train anew without resume"
        data.check_same_images(state, f"resume={path}", remedy)
    for key, values in different.items():
        raise UserError(f"resume={path}: its run had {key}={values}; give the same settings")
    data.start_iteration = next_iteration(state)
    if config["resume"] != AUTO and (path.parent.parent / RESULT_FILE).is_file():
        raise UserError(f"resume={path}: its run is finished; evaluate it")
    return path
