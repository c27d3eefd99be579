"""Methods that other installed packages bring: registered by an entry point, with a recipe of their own.

In its `pyproject.toml` a package says

    [project.entry-points."anomaly_gan.methods"]
    my_method = "my_package"

and has its recipes in `my_package/conf/method/*.yaml`. `docs/new_method.md` shows one.
"""

from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

GROUP = "anomaly_gan.methods"


@cache
def modules() -> tuple[str, ...]:
    """The modules that are registered: what is in them and below them can be built from a configuration."""
    return tuple(dict.fromkeys(point.module for point in entry_points(group=GROUP)))


@cache
def config_folders() -> tuple[Path, ...]:
    """Their folders of configuration; nothing of a package is executed to find them."""
    found = []
    for module in modules():
        spec = find_spec(module.partition(".")[0])
        for folder in (spec.submodule_search_locations or []) if spec else []:
            conf = Path(folder) / "conf"
            if conf.is_dir():
                found.append(conf)
    return tuple(dict.fromkeys(found))
