"""Methods that other installed packages bring: registered by an entry point, with a recipe of their own.

In its `pyproject.toml` a package says

    [project.entry-points."anomaly_gan.methods"]
    my_method = "my_package"

and has its recipes in `my_package/conf/method/*.yaml`. `docs/new_method.md` shows one. Here nothing of such a
package is executed; `config.py` imports what a configuration names.
"""

from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

GROUP = "anomaly_gan.methods"


@cache
def modules() -> tuple[str, ...]:
    """The modules that are registered: classes in them and below them can be built from a configuration."""
    return tuple(dict.fromkeys(point.module for point in entry_points(group=GROUP)))


@cache
def config_folders() -> tuple[Path, ...]:
    """The folders `conf` of the registered packages, in the order of their paths."""
    packages = {module.partition(".")[0] for module in modules()}
    specs = [spec for package in packages if (spec := find_spec(package)) is not None]
    folders = {Path(folder) / "conf" for spec in specs for folder in spec.submodule_search_locations or ()}
    return tuple(sorted(folder for folder in folders if folder.is_dir()))


def is_missing(name: str) -> bool:
    """Whether no package is installed, registered or not, that the dotted `name` could be in."""
    package = name.partition(".")[0]
    try:
        return package.isidentifier() and find_spec(package) is None
    except ValueError:  # of a module that did not come from a file, such as `__main__`
        return False
