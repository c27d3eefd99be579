"""What the options chosen on a command line may not be: two words for one choice, two files of one name."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from anomaly_gan.cli.installed import config_folders
from anomaly_gan.errors import UserError

ONE_CHOICE = METHOD, ABLATION = "method", "ablation"
"""Groups that are two words for one choice."""


def words_for_one_choice(arguments: Sequence[str]) -> dict[str, str]:
    """The argument that gives each of ONE_CHOICE; `sweep=ablations` gives the ablation, too."""
    given = {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in ONE_CHOICE and value != "null":
            given[key] = argument
        if key == "sweep" and "ablations" in re.findall(r"\w+", value):
            given[ABLATION] = argument
    return given


def check_one_method(arguments: Sequence[str]) -> None:
    """Refuse `method` and `ablation`, which are two words for one choice, with different values.

    Raises:
        UserError: both are given, and not the same single one.
    """
    given = words_for_one_choice(arguments)
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
    ours, *theirs = config_folders()
    lines = []
    for group, name in choices.items():
        file = f"{group}/{name}.yaml"
        packages = [folder.parent.name for folder in theirs if (folder / file).is_file()]
        if packages and (ours / file).is_file():
            said = " and ".join(packages)
            lines.append(f"{group}={name}: that of anomaly_gan; one of that name in {said} is not used")
        elif len(packages) > 1:
            raise UserError(f"{group}={name}: both in {' and '.join(packages)}; uninstall all but one")
    return lines
