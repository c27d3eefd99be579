"""How a training is said: what phases and stages may be told."""

from typing import Any

import pytest

from anomaly_gan.errors import UserError
from anomaly_gan.training.phases import PhaseSettings, StageSettings
from anomaly_gan.training.timetable import Timetable


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_clip": 0.0}, r"method.phases.joint.gradient_clip=0.0"),
        ({"gradient_clip": -1.0}, r"method.phases.joint.gradient_clip=-1.0"),
        ({"start_iteration": -1}, r"method.phases.joint.start_iteration=-1"),
        ({"stop_iteration": -1}, r"method.phases.joint.stop_iteration=-1"),
        ({"weights": {"contrastive": float("nan")}}, r"method.phases.joint.weights.contrastive=nan"),
    ],
)
def test_impossible_settings_of_a_phase_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PhaseSettings(**{"weights": {}} | settings).check("joint")
    PhaseSettings({"contrastive": -1.0}, gradient_clip=1e-9).check("joint")


@pytest.mark.parametrize("share", [0.0, -1, float("nan"), float("inf")])
def test_a_stage_with_no_part_of_the_training_is_refused_by_name(share: float) -> None:
    with pytest.raises(UserError, match=r"method\.stages\.encoding\.share="):
        StageSettings(share=share).check("encoding")
    StageSettings(share=1).check("encoding")


@pytest.mark.parametrize("shares", [(1,), (1, 2), (0.35, 0.4, 0.25), (1, 1, 1e-9)])
@pytest.mark.parametrize("total", [1, 2, 7, 1000])
def test_the_stages_divide_the_training_in_proportion_and_each_goes_from_its_start_to_its_end(
    total: int, shares: tuple[float, ...]
) -> None:
    table = Timetable(total, shares)
    stages = [table.stage(iteration) for iteration in range(total)]
    assert stages == sorted(stages)
    for stage, share in enumerate(shares):
        assert stages.count(stage) == pytest.approx(total * share / sum(shares), abs=1)
        progress = [table.progress(i) for i in range(total) if stages[i] == stage]
        assert progress == [i / len(progress) for i in range(len(progress))]
    assert table.stage(total) == len(shares) - 1
