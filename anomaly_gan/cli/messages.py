"""Hydra's errors in one line that names the nearest valid words."""

import re
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue

from anomaly_gan.cli.main import config_folder
from anomaly_gan.errors import nearest


def explain(error: Exception, command: str, arguments: list[str]) -> str:
    """What is wrong with the configuration, and the remedy."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={name}: there is no such {group}; {nearest(name, list(error.options))}"
    if isinstance(error, MissingMandatoryValue | InterpolationToMissingValueError):
        wanted = re.search(r"Missing mandatory value: ([\w.]+)", text)
        interpolated = isinstance(error, InterpolationToMissingValueError)
        missing = wanted[1] if interpolated and wanted else error.full_key
        return f"{missing} must be given: {missing}=..."
    unknown = re.search(r"(?:Could not override|Key) '([^']+)'", text)
    if unknown:
        return f"{unknown[1]}: no such setting; {nearest(unknown[1], settings(command, arguments))}"
    if isinstance(error, ValueError):  # Hydra's word for null or a number where a group's option is wanted
        for group, _, name in (argument.partition("=") for argument in arguments):
            if group in groups(command) and name not in options(group):
                return f"{group}={name}: there is no such {group}; {nearest(name, options(group))}"
    return f"{text.split(chr(10))[0]}; settings are given as key=value"


def groups(command: str) -> dict[str, str | None]:
    """The groups of `command`, each with the option that holds where nothing is said."""
    config: Any = OmegaConf.to_container(OmegaConf.load(config_folder() / f"{command}.yaml"))
    entries = [entry for entry in config["defaults"] if isinstance(entry, dict)]
    return {key: value for entry in entries for key, value in entry.items() if "/" not in key}


def options(group: str) -> list[str]:
    """The names that `group` can be given."""
    return sorted(path.stem for path in (config_folder() / group).glob("*.yaml"))


def without_nulls(command: str, arguments: list[str]) -> list[str]:
    """`arguments` less those that set a group to null which is null anyway: to Hydra they are an error."""
    idle = {f"{group}=null" for group, option in groups(command).items() if option is None}
    return [argument for argument in arguments if argument not in idle]


def with_minutes(arguments: list[str]) -> list[str]:
    """`arguments` with a budget of time as the setting that it is: budget=10min is schedule.minutes=10."""
    return [re.sub(r"^budget=([\d.]+)min$", r"schedule.minutes=\1", argument) for argument in arguments]


def settings(command: str, arguments: list[str]) -> list[str]:
    """All settings and groups of `command` with the groups chosen in `arguments`, as they are written."""
    of_command = groups(command)
    pairs = (argument.partition("=") for argument in arguments)
    chosen = [f"{key}={value}" for key, _, value in pairs if key in of_command and value in options(key)]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose(command, chosen)
    found: list[str] = []

    def walk(node: object, path: str) -> None:
        if isinstance(node, dict):
            for key, value in ((key, value) for key, value in node.items() if key != "_target_"):
                found.append(f"{path}{key}")
                walk(value, f"{path}{key}.")

    walk(OmegaConf.to_container(config), "")
    return [*found, *of_command]
