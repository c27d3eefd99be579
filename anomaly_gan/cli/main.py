"""The command `anomaly-gan`: picks a command, hands over to Hydra, and says in one line what went wrong.

Nothing heavy is imported here: help and completion must answer at once.
"""

import gc
import importlib
import io
import os
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

from anomaly_gan import __version__
from anomaly_gan.terminal import outlive_readers

COMMANDS = {
    "train": "learn what is normal from one class of images, score the test set, draw the findings",
    "evaluate": "score a data set's test part with a trained detector",
    "predict": "score images or folders of images with a trained detector",
    "search": "choose settings of a training by what normal images alone can tell, with Optuna",
    "report": "tables and a page of all runs below some folders",
    "compare": "the difference between two kinds of run, with intervals",
    "export": "write a trained detector to one file that runs without this package",
    "demo": "judge pictures that are dropped on a page in the browser",
}

PLAIN = ("search", "report", "compare")
"""The commands whose arguments are no configuration of their own."""

KEEPS_RUNS = ("train", "evaluate")
"""The commands that leave a run's folder."""

USAGE = f"""anomaly-gan {__version__}: image anomaly detection learned from normal images only

Commands
{chr(10).join(f"  anomaly-gan {name:<9} {what}" for name, what in COMMANDS.items())}

  anomaly-gan COMMAND --help   its settings and examples
  anomaly-gan --version"""


def config_folder() -> Path:
    """Where the configs are: inside an installed package, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


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
    sys.exit((run_plain if command in PLAIN else run)(command, arguments[1:]))


def run_plain(command: str, arguments: list[str]) -> int:
    """Run a command that reads its arguments itself; the exit code."""
    from anomaly_gan.errors import UserError
    from anomaly_gan.lifetime import Stopped, listening

    try:
        with listening():
            return int(load(command).main(arguments))
    except Stopped as stopped:
        complain(f"{stopped}{'; the same command goes on with the search' if command == 'search' else ''}")
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
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    from anomaly_gan.cli import sweep
    from anomaly_gan.cli.arguments import overrides
    from anomaly_gan.cli.messages import check_values, explain
    from anomaly_gan.errors import UserError
    from anomaly_gan.lifetime import Stopped, listening

    if any(argument.startswith("hydra.sweep.") for argument in arguments):
        return complain("hydra.sweep: a sweep's folder is paths.runs=FOLDER and name=NAME in it")
    codes = []
    began = False
    this_process = os.getpid()
    sweep.Sweep.folder = None

    def job(config: DictConfig) -> str | None:
        nonlocal began
        began = True
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        if command == "train" and hydra.mode is RunMode.MULTIRUN:
            # This function may have been sent to another process, of this machine or another.
            outlives = hydra.launcher._target_.endswith("Slurm")
            ends_with = None if outlives else this_process
            told = sweep.run_one(list(hydra.overrides.task), folder, hydra.job.num, ends_with)
            if os.getpid() == this_process:
                print(told, flush=True)
            return told
        try:
            check_values(config, command)
            codes.append(load(command).main(config, folder))
        # Not raised through Hydra, which would say it twice; the other runs of a sweep go on.
        except UserError as error:
            codes.append(complain(str(error)))
        except OmegaConfBaseException as error:
            codes.append(complain(explain(error, command, arguments)))
        except OSError as error:
            codes.append(complain_of_files(error, command))
        except (MemoryError, RuntimeError) as error:
            codes.append(complain_of_memory(error))
        finally:
            if command in KEEPS_RUNS:
                remove_if_empty(folder)
        return None

    job.__module__ = "anomaly_gan.cli"  # Hydra names the job after the task's module
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come here whole
    # For messages; a completion is installed for the program, whatever the command.
    name = "anomaly-gan" if "-sc" in arguments else f"anomaly-gan {command}"
    application = hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=command)(job)
    try:
        sys.argv = [name, *overrides(command, arguments)]
        with listening():
            application()
    except Stopped as stopped:
        in_sweep = command == "train" and sweep.Sweep.folder is not None
        complain(f"{stopped}{'; the same command goes on with the sweep' if in_sweep else ''}")
        return 128 + stopped.number
    except (HydraException, OmegaConfBaseException) as error:
        return complain(explain(error, command, arguments))
    except OSError as error:
        return complain_of_files(error, command)
    except Exception as error:  # before anything began it is what Hydra makes of odd values
        if began:
            raise
        return complain(explain(error, command, arguments))
    if command == "train" and sweep.Sweep.folder is not None:
        return sweep.finish(sweep.Sweep.folder, sweep.Sweep.runs)
    return max(codes, default=0)


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


def remove_if_empty(folder: Path) -> None:
    """Take away the folder of a run of which nothing came, and those above it that hold nothing else."""
    here = Path.cwd()
    for path in (folder, *folder.parents):
        if path == here or path in here.parents or not path.is_dir() or any(path.iterdir()):
            return
        path.rmdir()


def complain(message: str) -> int:
    """Say in one line what is wrong; the exit code for it."""
    print(f"anomaly-gan: {' '.join(message.split())}", file=sys.stderr)
    return 2


def complain_of_files(error: OSError, command: str) -> int:
    """Say in one line which file or folder of `command` cannot be used; the exit code for it."""
    if error.strerror is None:  # not from the file system
        raise error
    place = f"{error.filename}: " if error.filename else ""
    remedy = "; paths.runs=FOLDER chooses another place for runs" if command in KEEPS_RUNS else ""
    return complain(f"{place}{error.strerror}{remedy}")


def complain_of_memory(error: Exception) -> int:
    """Say in one line that memory, here or of the device, did not suffice; the exit code for it."""
    told = " ".join(str(error).split())
    if not isinstance(error, MemoryError) and not re.search(
        "out of memory|t allocate memory|overflowed", told
    ):
        raise error
    return complain(
        f"not enough memory ({told[:200] or 'none left'}); "
        "try a smaller batch_size, width, data.image_size or scoring.chunk"
    )


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
