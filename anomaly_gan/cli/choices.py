"""What the options chosen on a command line may not be: two words for one choice, two files of one name."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anomaly_gan.cli.installed import config_folder
from anomaly_gan.errors import UserError
from anomaly_gan.outside import config_folders

ONE_CHOICE = METHOD, ABLATION = "method", "ablation"
"""Groups that are two words for one choice."""


def check_one_method(arguments: Sequence[str]) -> None:
    """Refuse `method` and `ablation`, which are two words for one choice, with different values.

    Raises:
        UserError: both are given, and not the same single one.
    """
    given = {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in ONE_CHOICE and value != "null":
            given[key] = argument
        if key == "sweep" and "ablations" in re.findall(r"\w+", value):
            given[ABLATION] = argument
    if len(given) < 2:
        return
    values = [argument.partition("=")[2] for argument in given.values()]
    if values[0] == values[1] and "," not in values[0]:
        return
    raise UserError(f"{' '.join(given.values())}: two words for one choice; give one of them alone")


def check_sources(choices: Mapping[str, Any]) -> list[str]:
    """Look where the chosen options come from; a line for each whose name another package uses as well.

    Args:
        choices: the option of each group.

    Raises:
        UserError: two other packages use it, so that none of them is meant.
    """
    lines = []
    for group, name in choices.items():
        others = [folder for folder in config_folders() if (folder / group / f"{name}.yaml").is_file()]
        if not others:
            continue
        packages = " and ".join(_package(folder) for folder in others)
        if (config_folder() / group / f"{name}.yaml").is_file():
            lines.append(f"{group}={name}: that of anomaly_gan; {packages} has one of that name, unused")
        elif len(others) > 1:
            raise UserError(f"{group}={name}: {packages} have one of that name; uninstall all but one")
    return lines


def _package(conf: Path) -> str:
    return conf.parent.name
