"""Hydra's errors in one line that names the nearest valid words."""

import math
import re
from collections.abc import Iterator
from itertools import product
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
)

from anomaly_gan.cli.installed import config_folder, config_folders
from anomaly_gan.errors import UserError, nearest

BASE = "base"
"""The file of a group that others begin with, and nobody chooses."""


def explain(error: Exception, command: str, arguments: list[str]) -> str:
    """What is wrong with the configuration, and the remedy."""
    text = str(error)
    if isinstance(error, OverrideParseException) and "=" in error.override:
        key, _, value = error.override.partition("=")
        quoted = f"\"{key}='{value}'\""
        return f"{error.override}: cannot be read as key=value; put a value with signs in quotes: {quoted}"
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if group == "hydra/launcher" and name in options("launcher"):
            return f"launcher={name}: submitit is not installed; pip install 'anomaly-gan[launchers]'"
        return no_such_option(group, name, list(error.options))
    if isinstance(error, MissingMandatoryValue | InterpolationToMissingValueError):
        wanted = re.search(r"Missing mandatory value: ([\w.]+)", text)
        interpolated = isinstance(error, InterpolationToMissingValueError)
        missing = wanted[1] if interpolated and wanted else error.full_key
        return f"{missing} must be given: {missing}=..."
    absent = re.search(r"Interpolation key '([^']+)'", text)
    if isinstance(error, InterpolationKeyError) and absent and not any("${" in word for word in arguments):
        mine, source = error.full_key, absent[1]
        return f"{mine} takes its value from {source}, which is not there; give {mine} itself, or null"
    unknown = re.search(r"(?:Could not override|Key) '([^']+)'", text)
    if unknown:
        return no_such_setting(unknown[1], command, arguments)
    if isinstance(error, ValueError):  # Hydra's word for null or a number where a group's option is wanted
        for group, _, name in (argument.partition("=") for argument in arguments):
            if group in groups(command) and name not in options(group):
                return no_such_option(group, name, options(group))
    remedy = "settings are given as key=value"
    if any("${" in argument for argument in arguments):
        remedy = "${...} stands for another setting, \\${ for the signs themselves"
    return f"{text.split(chr(10))[0]}; {remedy}"


def no_such_option(group: str, name: str, valid: list[str]) -> str:
    """That `group` has no option of that name, and which it has."""
    elsewhere = ", and no package is installed that registers it" if group == "method" else ""
    return f"{group}={name}: there is no such {group}{elsewhere}; {nearest(name, valid)}"


def no_such_setting(name: str, command: str, arguments: list[str]) -> str:
    """That `command` has no setting of that name, and which it has; of a sweep, the first run without it."""
    for chosen in single(command, arguments):
        valid = settings(command, chosen)
        if name not in valid:
            break
    of_run = [argument for argument in chosen if argument not in arguments]
    where = f" with {' '.join(of_run)}" if of_run else ""
    return f"{name}: no such setting{where}; {nearest(name, valid)}"


def single(command: str, arguments: list[str]) -> Iterator[list[str]]:
    """`arguments` with one option for each group that is given several, in all combinations."""
    of_command = groups(command)
    several = [argument.partition("=") for argument in arguments]
    values = [value.split(",") if key in of_command else [value] for key, _, value in several]
    for combination in product(*values):
        yield [f"{key}{sign}{value}" for (key, sign, _), value in zip(several, combination, strict=True)]


def groups(command: str) -> dict[str, str | None]:
    """The groups of `command`, each with the option that holds where nothing is said."""
    config: Any = OmegaConf.to_container(OmegaConf.load(config_folder() / f"{command}.yaml"))
    entries = [entry for entry in config["defaults"] if isinstance(entry, dict)]
    return {key: value for entry in entries for key, value in entry.items() if "/" not in key}


def check_values(config: DictConfig, command: str) -> None:
    """Refuse values of `command` that can be of no use, whatever the setting.

    Raises:
        UserError: a plain value for a name that has settings below it (`threshold=1`), an empty one, or a
            number that is none, infinite, or more than torch can hold.
    """
    ours: Any = OmegaConf.to_container(OmegaConf.load(config_folder() / f"{command}.yaml"))
    given: Any = OmegaConf.to_container(config)
    for key, below in ours.items():
        if key in given and isinstance(below, dict) and not isinstance(given[key], dict):
            said = "null" if given[key] is None else given[key]
            raise UserError(f"{key}={said}: give {' or '.join(f'{key}.{name}=...' for name in below)}")
    for path, value in _values(given):
        if value == "":  # of a shell's variable that is not set; as a path it would be the current folder
            raise UserError(f"{path}= is empty: give a value, or leave it out")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{path}={value}: give a finite number")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise UserError(f"{path}={value}: give a number of less than 2^63")


def options(group: str) -> list[str]:
    """The names that `group` can be given, those that other packages bring included."""
    return sorted({path.stem for folder in config_folders() for path in (folder / group).glob("*.yaml")})


def listed(command: str) -> str:
    """The groups of `command` and what each can be given, one a line: for its help."""
    names = {group: [name for name in options(group) if name != BASE] for group in sorted(groups(command))}
    return "\n".join(f"{group}: {', '.join(of_group)}" for group, of_group in names.items())


def settings(command: str, arguments: list[str]) -> list[str]:
    """All settings and groups of `command` with the groups chosen in `arguments`, as they are written."""
    config: Any = OmegaConf.to_container(composed(command, arguments))
    del config["hydra"]
    found = [path for path, _ in _values(config) if not path.endswith("_target_")]
    return list(dict.fromkeys([*found, *groups(command)]))


def composed(command: str, arguments: list[str]) -> DictConfig:
    """The configuration of `command`, Hydra's own included, with the groups chosen in `arguments`."""
    of_command = groups(command)
    pairs = (argument.partition("=") for argument in arguments)
    chosen = [f"{key}={value}" for key, _, value in pairs if key in of_command and value in options(key)]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose(command, chosen, return_hydra_config=True)


def _values(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting in plain containers, as it is written, with its value; those that hold others, too."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield f"{path}{key}", value
        yield from _values(value, f"{path}{key}.")
