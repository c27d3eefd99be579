"""Which stage comes when."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from anomaly_gan.errors import UserError


@dataclass(frozen=True)
class Timetable:
    """Which stage an iteration belongs to: a pure function of its number, so a resumed run has it too.

    Args:
        total: iterations of the training.
        shares: of the stages, in their order.
    """

    total: int
    shares: Sequence[float | int] = field(default_factory=tuple)

    def check(self) -> None:
        """Raises UserError where there are more stages than iterations."""
        if self.total < len(self.shares):
            stages = len(self.shares)
            raise UserError(f"schedule.total_images: {stages} stages take {stages} iterations at least")

    def start(self, stage: int) -> int:
        """The first iteration of stage number `stage`; of the number of stages, the end of the training.

        No stage is left without an iteration where there are as many of these as stages.
        """
        start = round(self.total * sum(self.shares[:stage]) / sum(self.shares))
        if stage > 0:
            start = max(start, self.start(stage - 1) + 1)
        return max(min(start, self.total - (len(self.shares) - stage)), min(stage, self.total))

    def stage(self, iteration: int) -> int:
        """The number of the stage that `iteration` belongs to; beyond the end, the last."""
        last = len(self.shares) - 1
        return next((stage for stage in range(last) if iteration < self.start(stage + 1)), last)

    def progress(self, iteration: int) -> float:
        """How far `iteration` is in its stage, in [0, 1]."""
        stage = self.stage(iteration)
        start, end = self.start(stage), self.start(stage + 1)
        return (iteration - start) / max(1, end - start)
