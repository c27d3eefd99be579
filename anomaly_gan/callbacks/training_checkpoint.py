"""The state of a training, to go on from after a kill."""

import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.io import TorchCheckpointIO

from anomaly_gan.callbacks.game_health import GameHealth
from anomaly_gan.distributed import agreed, largest
from anomaly_gan.errors import UserError
from anomaly_gan.lifetime import Stopped, heard, hold, release
from anomaly_gan.methods.base import Method
from anomaly_gan.safe_load import safe_load, safe_save

FOLDER, LAST, PREVIOUS = "checkpoints", "last.ckpt", "previous.ckpt"

ASKING_SECONDS = 1.0
"""About how often several processes ask each other whether one was told to end: each time, all of them wait
for the slowest and for their devices."""


class TrainingCheckpoint(pl.Callback):
    """Keeps `checkpoints/last.ckpt` and, from the time before, `previous.ckpt` in the run's folder.

    That is the trainer's `default_root_dir`.
    First when terms are first logged, so that a short run has one too. While there is a training, a signal
    that asks the process to end waits for the end of the iteration, of several processes for that at which
    they next ask each other (`ASKING_SECONDS`): a checkpoint is written, then all processes end.

    There is no "best" one: without anomalies nothing says which of two states tells them apart better. The
    losses of adversarial games do not fall as the players improve, that of held-out inliers measures another
    task, and the test set is not for choosing. The last state is the one that is scored, as in the paper.

    Not Lightning's ModelCheckpoint: under manual optimisation that one knows no interval of time (2.6.6), and
    its interval of steps counts the steps of all optimizers.

    Args:
        every_minutes: how much work a kill may cost, at least 0.
    """

    def __init__(self, every_minutes: float | int):
        if not every_minutes >= 0:
            raise UserError(f"callbacks.checkpoint.every_minutes={every_minutes} must be at least 0")
        self.every_minutes = every_minutes

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.last = -math.inf
        self.asked, self.unasked, self.every = time.monotonic(), 0, 1
        hold()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Method)
        self.unasked += 1
        if self.unasked >= self.every:
            self._end_if_asked(trainer)
        # When terms are logged, which waits for the device and finds what is not finite anyway.
        if not pl_module.is_logged or not agreed(time.monotonic() - self.last >= 60 * self.every_minutes):
            return
        self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end_if_asked(trainer)
        self._save(trainer)  # scoring may be killed, too
        release()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        release()

    def _end_if_asked(self, trainer: pl.Trainer) -> None:
        signal, self.every = largest(heard(), self._iterations_until_asked(trainer.world_size))
        if signal:
            self._save(trainer)
            raise Stopped(signal)

    def _iterations_until_asked(self, processes: int) -> int:
        """How many iterations may pass until all processes are asked again, by this one's clock."""
        now = time.monotonic()
        elapsed, iterations = now - self.asked, self.unasked
        self.asked, self.unasked = now, 0
        if processes == 1:  # asking costs nothing
            return 1
        # The host may be ahead of its device in the beginning.
        return max(1, min(2 * self.every, int(iterations * ASKING_SECONDS / max(elapsed, 1e-9))))

    def _save(self, trainer: pl.Trainer) -> None:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        if any(callback.suspects for callback in callbacks if isinstance(callback, GameHealth)):
            return  # the last good one is kept
        path = Path(trainer.default_root_dir) / FOLDER / LAST
        if trainer.is_global_zero:  # the folders of the others are not the run's
            path.parent.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(path)
        self.last = time.monotonic()


class WholeFiles(TorchCheckpointIO):
    """How Lightning writes and reads checkpoints: whole or not at all, the one before kept, nothing executed.

    Its own way writes a temporary file in another folder, which a kill leaves there.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        safe_save(Path(path), checkpoint, before=Path(path).with_name(PREVIOUS))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read(Path(path))


def read(path: Path) -> dict[str, Any]:
    """What a training has left at `path`.

    Raises:
        UserError: it is damaged, or something else.
    """
    complaint = f"resume={path}: damaged, or not the checkpoints/last.ckpt of a run"
    state = safe_load(path, complaint)
    try:
        next_iteration(state)
        dict(state["hyper_parameters"])
    except (LookupError, TypeError, ValueError) as other:
        raise UserError(complaint) from other
    return state


def next_iteration(state: dict[str, Any]) -> int:
    """The iteration that comes after those in a checkpoint."""
    return int(state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"])


def newest(folder: Path) -> Path | None:
    """The checkpoint to go on from in a run's folder: the last, or where that is damaged, the one before it.

    None: there is none, and none that is damaged.

    Raises:
        UserError: what there is is damaged.
    """
    # Between two renamings there is no last one, only the one before.
    paths = [path for path in (folder / FOLDER / LAST, folder / FOLDER / PREVIOUS) if path.is_file()]
    for path in paths:
        try:
            read(path)
        except UserError:
            continue
        for damaged in paths[: paths.index(path)]:
            print(
                f"{os.path.relpath(damaged)} is damaged: going on from {path.name}, the one before it",
                file=sys.stderr,
            )
        return path
    if paths:
        raise UserError(
            f"resume=auto: {' and '.join(os.path.relpath(path) for path in paths)} "
            f"{'are' if len(paths) > 1 else 'is'} damaged; remove {os.path.relpath(folder)} to start anew"
        )
    return None
