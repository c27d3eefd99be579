"""Where Hydra looks for the recipes of methods that other packages bring (`anomaly_gan/outside.py`).

In this name space because Hydra takes plugins from nowhere else. Imported whenever Hydra starts, so light.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from anomaly_gan.cli.installed import config_folders

MAIN = "main"
"""Hydra's name for an application's own folder of configuration."""


class Recipes(SearchPathPlugin):
    """Adds their folders after ours, where a name of ours keeps its meaning; other applications get none."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        ours, *others = config_folders()
        if [entry.path for entry in search_path.get_path() if entry.provider == MAIN] != [str(ours)]:
            return
        for folder in others:
            search_path.append(f"{folder.parent.name} methods", f"file://{folder}")
