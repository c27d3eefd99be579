"""anomaly-gan search: settings chosen by Optuna on what normal images alone can tell."""

import argparse
import hashlib
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from anomaly_gan.cli.arguments import as_override, split
from anomaly_gan.cli.choices import check_one_method
from anomaly_gan.cli.installed import config_folder, program
from anomaly_gan.cli.messages import explain
from anomaly_gan.cli.sweep import run_in_process
from anomaly_gan.errors import UserError
from anomaly_gan.lifetime import alone_in
from anomaly_gan.results import RunResult, write_csv

DESCRIPTION = """\
Search for settings of a training, with Optuna.

Every setting of `anomaly-gan train` can be given; those with several values are searched over:
  optimizer.learning_rate='tag(log, interval(1e-4, 1e-2))'   between, in proportion
  method.temperature='interval(0.1, 1)'                      between
  method.every='range(1, 6)'                                 whole numbers
  ablation=csi,full                                          one of

What is maximised: the AUROC of held-out normal images against images pieced together from them. No test label
is looked at. The same command goes on where an earlier one ended."""

EPILOG = """\
Examples:
  anomaly-gan search experiment=digits_demo schedule.total_images=3200 ablation=csi,full \\
      optimizer.learning_rate='tag(log, interval(1e-4, 1e-2))' --trials 20"""

VALIDATED_BY = "data.validation_fraction"
"""The setting that holds images out to choose by."""

HELD_OUT = f"{VALIDATED_BY}=0.15"
"""Unless said otherwise."""


def main(arguments: list[str]) -> int:
    """Search as `arguments` say; the exit code."""
    parser = argparse.ArgumentParser(
        "anomaly-gan search",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", nargs="+", metavar="KEY=VALUE")
    parser.add_argument("--trials", type=int, default=20, help="how many trainings (20)")
    parsed = parser.parse_args(arguments)
    if parsed.trials < 1:
        raise UserError(f"--trials={parsed.trials} must be at least 1")
    check_one_method(parsed.settings)
    try:
        check_held_out(parsed.settings)
        given = split("train", parsed.settings)
        return _search([as_override(word, sweeps=True) for word in given], parsed.trials)
    except (HydraException, OmegaConfBaseException) as error:
        fixed = [word for word in parsed.settings if "(" not in word and "," not in word]
        raise UserError(explain(error, "train", fixed)) from error


def _search(settings: list[str], trials: int) -> int:
    try:
        import optuna
    except ImportError as missing:
        raise UserError("search needs Optuna: pip install 'anomaly-gan[search]'") from missing
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    overrides = OverridesParser.create().parse_overrides(settings)
    space = {o.get_key_element(): distribution(o) for o in overrides if o.is_sweep_override()}
    if not space:
        raise UserError("nothing to search: give a setting several values, such as ablation=csi,full")
    fixed = [o.input_line or "" for o in overrides if not o.is_sweep_override()]
    for default in (HELD_OUT, "name=search"):
        if not any(word.startswith(f"{default.partition('=')[0]}=") for word in fixed):
            fixed.append(default)
    first = [f"{key}={_first(of)}" for key, of in space.items()]
    folder = folder_of([*fixed, *first]).parent
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder / "search"):  # a trial that runs is then one that was killed
        return _go_on(settings, space, fixed, folder, trials)


def _go_on(settings: list[str], space: dict[str, Any], fixed: list[str], folder: Path, trials: int) -> int:
    """Try what is not yet tried, and say what was best."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    study = optuna.create_study(
        study_name=hashlib.sha256("\n".join(sorted(settings)).encode()).hexdigest()[:12],
        storage=JournalStorage(JournalFileBackend(str(folder / "search.log"))),
        direction="maximize",
        load_if_exists=True,
    )
    # Not the same draws again where an earlier search is gone on with.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
    for killed in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        # The same settings again: their run goes on from its checkpoint.
        study.tell(killed.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(killed.params)
    complete, failed = len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE])), 0
    while complete < trials:
        trial = study.ask(space)
        chosen = [f"{key}={trial.params[key]}" for key in space]
        label = f"trial {complete + 1} of {trials}, {' '.join(chosen)}"
        run = folder_of([*fixed, *chosen])
        _, state, told = run_in_process([*fixed, *chosen], run, os.getpid(), label)
        if state == "finished":
            validation = RunResult.read(run).validation
            assert validation is not None
            study.tell(trial, validation["auroc"])
            complete += 1
            told = f"{100 * validation['auroc']:.1f}"
        else:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            failed += 1
        print(f"{label}: {told}", flush=True)
        if failed == trials:
            raise UserError(f"{failed} trials failed, the last one: {told}")
    _tell(study, fixed, folder)
    return 0


def check_held_out(settings: Sequence[str]) -> None:
    """Refuse to hold no images out, where they are what is chosen by.

    Raises:
        UserError: so it is.
    """
    for word in settings:
        key, _, value = word.partition("=")
        if key == VALIDATED_BY and re.fullmatch(r"0*\.?0*|null", value):
            raise UserError(f"{word}: these images are chosen by; give a part above 0, or leave it out")


def distribution(override: Override) -> Any:
    """What Optuna draws from for a setting with several values.

    Raises:
        UserError: it has none.
    """
    try:
        return _distribution(override)
    except ValueError as wrong:  # bounds that hold nothing between them
        raise UserError(f"{override.input_line}: {wrong}") from wrong


def _distribution(override: Override) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    swept = override.value()
    if isinstance(swept, IntervalSweep):
        assert swept.start is not None
        assert swept.end is not None
        log = "log" in swept.tags
        if isinstance(swept.start, int) and isinstance(swept.end, int):
            return IntDistribution(swept.start, swept.end, log=log)
        return FloatDistribution(swept.start, swept.end, log=log)
    values = list(override.sweep_string_iterator())
    if isinstance(swept, RangeSweep) and all(value.lstrip("-").isdecimal() for value in values):
        numbers = [int(value) for value in values]
        return IntDistribution(min(numbers), max(numbers), step=abs(int(swept.step)))
    return CategoricalDistribution(values)


def _first(distribution: Any) -> Any:
    return distribution.choices[0] if hasattr(distribution, "choices") else distribution.low


def folder_of(overrides: list[str]) -> Path:
    """Where the run with these settings is kept."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [*overrides, "resume=auto"], return_hydra_config=True)
    return Path(config.hydra.run.dir)


def _tell(study: Any, fixed: list[str], folder: Path) -> None:
    """Write the trials, and say which was best and how to train with it."""
    trials = [trial for trial in study.get_trials() if trial.value is not None]
    trials.sort(key=lambda trial: -trial.value)
    columns = {key: [trial.params[key] for trial in trials] for key in trials[0].params}
    write_csv(folder / "search.csv", {"validation": [trial.value for trial in trials]} | columns)
    best = trials[0]
    settings = [word for word in fixed if word != "name=search" and not word.startswith(VALIDATED_BY)]
    settings += [f"{key}={value}" for key, value in best.params.items()]
    print(
        f"best of {len(trials)} trials: {100 * best.value:.1f}, held-out against pieced-together images\n"
        f"all of them: {os.path.relpath(folder / 'search.csv')}\n"
        f"to train with it:\n  {program()} train {shlex.join(settings)}"
    )
