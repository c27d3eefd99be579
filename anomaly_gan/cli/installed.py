"""How this package is installed: where its configuration is, and how its command is called."""

import os
import shutil
import sys
from pathlib import Path

from anomaly_gan import outside


def config_folder() -> Path:
    """Where the configs are: inside an installed package, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def config_folders() -> tuple[Path, ...]:
    """Where options of groups are: our folder, then those of the packages that register methods."""
    return config_folder(), *outside.config_folders()


def program() -> str:
    """How the command is called from the current folder: its name, or the path of its script.

    `make` runs the script of an environment that nobody has activated.
    """
    if shutil.which("anomaly-gan"):
        return "anomaly-gan"
    script = Path(sys.executable).with_name("anomaly-gan")
    if script.exists():
        return os.path.relpath(script)
    return f"{os.path.relpath(sys.executable)} -m anomaly_gan"
