"""The command `anomaly-gan`: picks a command, hands over to Hydra, and says in one line what went wrong.

Nothing heavy is imported here: help and completion must answer at once.
"""

import gc
import importlib
import io
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from anomaly_gan import __version__
from anomaly_gan.cli.complaints import KEEPS_RUNS, complain, complain_of_files, complain_of_memory
from anomaly_gan.cli.installed import config_folder
from anomaly_gan.terminal import outlive_readers

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from anomaly_gan.cli.sweep import Ended

COMMANDS = {
    "train": "learn what is normal from one class of images, score the test set, draw the findings",
    "evaluate": "score a data set's test part with a trained detector",
    "predict": "score images or folders of images with a trained detector",
    "watch": "score the pictures that arrive in a folder, and say when they no longer look as they did",
    "serve": "score pictures over HTTP, with the same test",
    "search": "choose settings of a training by what normal images alone can tell, with Optuna",
    "report": "tables and a page of all runs below some folders",
    "compare": "the difference between two kinds of run, with intervals",
    "export": "write a trained detector to one file that runs without this package",
    "demo": "judge pictures that are dropped on a page in the browser",
}

PLAIN = ("search", "report", "compare")
"""The commands whose arguments are no configuration of their own."""

USAGE = f"""anomaly-gan {__version__}: image anomaly detection learned from normal images only

Commands
{chr(10).join(f"  anomaly-gan {name:<9} {what}" for name, what in COMMANDS.items())}

  anomaly-gan COMMAND --help   its settings and examples
  anomaly-gan --version"""


def main() -> None:
    """Entry point. Exit codes: 0 done, 2 input that cannot be used, 3 done but for some files, and 128 + the
    number of the signal that ended it.
    """
    arguments = sys.argv[1:]
    os.environ["MPLBACKEND"] = "agg"  # pictures go to files alone; a notebook's backend may not be here
    outlive_readers()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text
    if "-sc" in arguments[:1]:
        complete()
        return
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE)
        return
    if arguments[0] == "--version":
        print(__version__)
        return
    command = arguments[0]
    if command not in COMMANDS:
        from anomaly_gan.errors import nearest

        sys.exit(complain(f"{command}: no such command; {nearest(command, list(COMMANDS))}"))
    if command == "train" and "method=auto" in arguments:
        command = "auto"
    sys.exit((run_plain if command in (*PLAIN, "auto") else run)(command, arguments[1:]))


def run_plain(command: str, arguments: list[str]) -> int:
    """Run a command that reads its arguments itself; the exit code."""
    from anomaly_gan.errors import UserError
    from anomaly_gan.lifetime import Stopped, listening

    try:
        with listening():
            return int(load(command).main(arguments))
    except Stopped as stopped:
        goes_on = command in ("search", "auto")
        complain(f"{stopped}{'; the same command goes on with the search' if goes_on else ''}")
        return 128 + stopped.number
    except UserError as error:
        return complain(str(error))
    except OSError as error:
        return complain_of_files(error, command)


def run(command: str, arguments: list[str]) -> int:
    """Run `command` with Hydra's `arguments`; the exit code."""
    # Before torch is loaded: threads that wait for each other must sleep, not spin. Spinning, two threads and
    # one other busy program on two cores were many times as slow (docs/performance.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig

    from anomaly_gan.cli import sweep
    from anomaly_gan.cli.arguments import overrides
    from anomaly_gan.cli.choices import check_one_method
    from anomaly_gan.lifetime import Stopped, listening

    if any(argument.startswith("hydra.sweep.") for argument in arguments):
        return complain("hydra.sweep: a sweep's folder is paths.runs=FOLDER and name=NAME in it")
    codes: list[int] = []
    began = False
    this_process = os.getpid()
    sweep.Sweep.folder = None

    def job(config: DictConfig) -> sweep.Ended | None:
        nonlocal began
        began = True
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        if command == "train" and hydra.mode is RunMode.MULTIRUN:
            return one_of_a_sweep(hydra, folder, this_process)
        for word in arguments if command == "train" else ():
            if word.startswith(("launcher=", "sweep=")) and not word.endswith(("=null", "=[]")):
                codes.append(complain(f"{word}: is of several runs; add -m, or leave it out"))
                return None
        codes.append(attempt(command, arguments, config, folder))
        return None

    job.__module__ = "anomaly_gan.cli"  # Hydra names the job after the task's module
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come here whole
    # For messages; a completion is installed for the program, whatever the command.
    name = "anomaly-gan" if "-sc" in arguments else f"anomaly-gan {command}"
    application = hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=command)(job)
    try:
        if command == "train":
            check_one_method(arguments)
        sys.argv = [name, *overrides(command, arguments)]
        with listening():
            application()
    except Stopped as stopped:
        in_sweep = command == "train" and sweep.Sweep.folder is not None
        complain(f"{stopped}{'; the same command goes on with the sweep' if in_sweep else ''}")
        return 128 + stopped.number
    except Exception as error:
        return complain_of_configuration(error, command, arguments, began)
    if command == "train" and sweep.Sweep.folder is not None:
        return sweep.finish(sweep.Sweep.folder, sweep.Sweep.runs)
    return max(codes, default=0)


def complain_of_configuration(error: Exception, command: str, arguments: list[str], began: bool) -> int:
    """Say in a line what came of a configuration, or raise it where it is a fault of the program; exit code.

    Args:
        error: what was raised.
        command: which.
        arguments: of it.
        began: whether work had begun; before, anything is what Hydra makes of odd values.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from anomaly_gan.cli.messages import explain
    from anomaly_gan.errors import UserError

    if isinstance(error, UserError):
        return complain(str(error))
    if isinstance(error, HydraException | OmegaConfBaseException):  # some of which are OSErrors as well
        return complain(explain(error, command, arguments))
    if isinstance(error, OSError):
        return complain_of_files(error, command)
    if began:
        raise error
    return complain(explain(error, command, arguments))


def one_of_a_sweep(hydra: Any, folder: Path, sweeping_process: int) -> "Ended":
    """Do one run of a sweep, in a process of its own; how it ended.

    This may be called in another process than the sweep's, of this machine or another.

    Args:
        hydra: Hydra's own configuration of the run.
        folder: of the run.
        sweeping_process: the number of the sweep's process, with which its runs end.
    """
    from anomaly_gan.cli import sweep

    outlives = hydra.launcher._target_.endswith("Slurm")
    label = sweep.label(folder, hydra.job.num)
    ends_with = None if outlives else sweeping_process
    ended = sweep.run_in_process(list(hydra.overrides.task), folder, ends_with, label)
    if os.getpid() == sweeping_process:
        sweep.Sweep.note(ended, label, folder)
    return ended


def attempt(command: str, arguments: list[str], config: "DictConfig", folder: Path) -> int:
    """Do what a configuration says; the exit code.

    What goes wrong is not raised through Hydra, which would say it twice; the other runs of a sweep go on.

    Args:
        command: which.
        arguments: of it, for messages.
        config: of it, not yet resolved.
        folder: for what it leaves; removed again where that is nothing.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf.errors import OmegaConfBaseException

    from anomaly_gan.cli.choices import check_sources
    from anomaly_gan.cli.messages import check_values, explain
    from anomaly_gan.errors import UserError

    try:
        for line in check_sources(HydraConfig.get().runtime.choices):
            print(line, file=sys.stderr)
        check_values(config, command)
        return int(load(command).main(config, folder))
    except UserError as error:
        return complain(str(error))
    except OmegaConfBaseException as error:
        return complain(explain(error, command, arguments))
    except OSError as error:
        return complain_of_files(error, command)
    except (MemoryError, RuntimeError) as error:
        return complain_of_memory(error)
    finally:
        if command in KEEPS_RUNS:
            remove_if_empty(folder)


def load(command: str) -> ModuleType:
    """The module of `command`, with torch and Lightning.

    Without the garbage collector, which would look through a million new objects again and again: a second of
    the three that it takes.
    """
    gc.disable()
    try:
        return importlib.import_module(f"anomaly_gan.cli.{command}")
    finally:
        gc.enable()  # and not frozen: triton would complain at the end of what was never collected


def remove_if_empty(folder: Path) -> None:
    """Take away the folder of a run of which nothing came, and those above it that hold nothing else."""
    here = Path.cwd()
    for path in (folder, *folder.parents):
        if path == here or path in here.parents or not path.is_dir() or any(path.iterdir()):
            return
        path.rmdir()


def complete() -> None:
    """Tab completion: Hydra's own, which knows nothing of commands, so the command's word is taken out."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split(" ")
    command = words[1] if len(words) > 1 else ""
    if len(words) < 3 and "query" in sys.argv[-1]:
        print("\n".join(name for name in COMMANDS if name.startswith(command)))
        return
    if command in ("report", "compare"):
        return  # they take folders, which the shell knows
    if command not in COMMANDS:
        command = "train"
    else:
        taken_out = f"{words[0]} {' '.join(words[2:])}"
        os.environ["COMP_POINT"] = str(
            int(os.environ.get("COMP_POINT", len(line))) - len(line) + len(taken_out)
        )
        os.environ["COMP_LINE"] = taken_out
    run("train" if command == "search" else command, sys.argv[1:])
