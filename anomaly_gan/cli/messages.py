"""Hydra's errors in one line that names the nearest valid words."""

import re

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue

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
    return f"{text.split(chr(10))[0]}; settings are given as key=value"


def settings(command: str, arguments: list[str]) -> list[str]:
    """All settings and groups of `command` with the groups chosen in `arguments`, as they are written."""
    from hydra import compose, initialize_config_dir

    from anomaly_gan.cli.main import config_folder

    groups = [path.name for path in config_folder().iterdir() if path.is_dir()]
    chosen = [argument for argument in arguments if argument.split("=")[0] in groups]
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
    return found + groups
