"""What every method promises: networks, a plan by which they learn, and the scorer that they are for."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from anomaly_gan.errors import UserError
from anomaly_gan.scoring.base import Scorer
from anomaly_gan.training.loop import PhasedTraining
from anomaly_gan.training.optimizers import Adam, Recipe
from anomaly_gan.training.phases import PhaseSettings, Stage, StageSettings, Terms


class Method(PhasedTraining):
    """Learns from normal images; its scorer then tells how far any image is from them.

    A method of one's own hands these to its base: `docs/new_method.md`.

    Args:
        name: of the method, in results.
        scorer: what is left when the training is over. It has those networks that scoring needs.
        networks: all that are trained, by the names that phases have for them; the scorer's among them.
        plan: the stages; none where nothing is learned.
        optimizer: of all networks; this and what follows come from the configuration (see `PhasedTraining`).

    Raises:
        UserError: there is something to learn and no optimizer.
    """

    makers: tuple[str, ...] = ()
    """The networks that make images, where the method has such: while they are trained, `health` is asked."""

    least_batch = 1
    """Images that a batch must have, over all processes together, for it to learn."""

    same_when_recorded = False
    """Whether its training has been seen on a GPU to be the same when phases are replayed as CUDA graphs
    (`benchmarks/gpu_checks.py`): `trainer.cuda_graphs=auto` then replays them."""

    def __init__(
        self,
        *,
        name: str,
        scorer: Scorer,
        networks: Mapping[str, nn.Module] | None = None,
        plan: Sequence[Stage] = (),
        optimizer: Recipe | None = None,
        optimizers: Mapping[str, Recipe] | None = None,
        phases: Mapping[str, PhaseSettings] | None = None,
        stages: Mapping[str, StageSettings] | None = None,
        seed: int = 0,
        total_iterations: int = 1,
        on_non_finite: Literal["raise", "skip"] = "raise",
        log_every_iterations: int = 10,
    ):
        if plan and optimizer is None:
            raise UserError("method.optimizer=null: expected a block of settings; optimizer=adam has one")
        super().__init__(
            networks=networks or {},
            plan=plan,
            optimizer=optimizer or Adam(),
            optimizers=optimizers or {},
            phases=phases or {},
            stages=stages or {},
            seed=seed,
            total_iterations=total_iterations,
            on_non_finite=on_non_finite,
            log_every_iterations=log_every_iterations,
        )
        self.name = name
        self.scorer = scorer

    @property
    def learns(self) -> bool:
        """Whether there is anything to train."""
        return bool(self.plan)

    @property
    def generates(self) -> bool:
        """Whether networks that make images are trained."""
        return any(name in self.networks for name in self.makers)

    def health(self, step: Any) -> Terms:
        """How the training stands on one batch, by name, on the device; asked of methods with `makers`.

        `diversity`, of what is made over that of real images, is what a collapse is told by.

        Args:
            step: as for phases.
        """
        return {}
