"""From what a user writes after a command to overrides in Hydra's grammar.

In that grammar `= , [ ] { } ' " # ~ & ;`, spaces, letters beyond ASCII, numbers and `true` mean something
else than themselves, or nothing. In a path or a name they are themselves: it is put into Hydra's quotes here.
"""

import os
import re
from collections.abc import Sequence

from hydra.core.override_parser.types import Quote, QuotedString

from anomaly_gan.cli.messages import composed, groups
from anomaly_gan.errors import UserError

TEXTS = {
    *("normal_class", "data.normal_class", "data.root", "data.name", "data.group", "data.split_file"),
    *("name", "resume", "paths.data_dir", "paths.runs", "generator_metrics.inception_weights"),
    *("checkpoint", "inputs", "labels", "output", "on_alarm", "host", "method.weights", "scoring.backbone"),
    *(f"logger.wandb.{name}" for name in ("project", "group", "job_type", "name", "run")),
    *(f"hydra.launcher.{name}" for name in ("account", "comment", "constraint", "exclude", "gres")),
    *(f"hydra.launcher.{name}" for name in ("partition", "qos")),
}
"""The settings that are paths or names."""

NO_FLAGS = {"yes", "no", "on", "off", "y", "n"}
"""What may be meant for true or false, and is neither."""

NUMBERED = ("normal_class", "data.normal_class")
"""Those of TEXTS that may also be an index."""

PLAIN = re.compile(r"(?!(?:true|false|null|inf|nan)$)(?:\.{0,2}/|[a-z_])[\w/.-]*", re.ASCII | re.IGNORECASE)
"""A text that is the same in and without quotes."""

QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
PIECE = re.compile(rf"(?:^|,)([ \t]*(?:{QUOTED})[ \t]*(?=,|$)|[^,]*)", re.DOTALL)


def overrides(command: str, arguments: list[str]) -> list[str]:
    """`arguments` of `command` as Hydra understands them; to do it twice changes nothing more.

    The value of a path or a name is taken as it stands, but for what is quoted, a list in brackets, null, an
    interpolation (`${...}`) and the index of a class. Where the command is a sweep, commas and `choice(...)`
    separate values, each taken so.
    """
    given = split(command, arguments)
    one = [as_override(argument) for argument in given]
    several = [as_override(argument, sweeps=True) for argument in given]
    return several if several != one and _sweeps(command, arguments) else one


def split(command: str, arguments: Sequence[str]) -> list[str]:
    """`arguments` without groups that are null anyway, and a budget of time as the settings that it is.

    Raises:
        UserError: one is given a word that may be meant for true or false, and is neither.
    """
    idle = {f"{group}=null" for group, option in groups(command).items() if option is None}  # errors to Hydra
    for argument in arguments:
        key, _, value = argument.partition("=")
        if value.strip().lower() in NO_FLAGS and key.lstrip("+") not in TEXTS | groups(command).keys():
            raise UserError(f"{argument}: write true or false")  # to Hydra it is a text, which is true
    return [word for argument in arguments if argument not in idle for word in _time_apart(argument)]


def as_override(argument: str, sweeps: bool = False) -> str:
    """`argument` with the value of a path or name in Hydra's grammar; of a sweep, each of its values."""
    parts = re.fullmatch(r"((?:~|\+{0,2})([\w.]+)=)(.*)", argument, re.DOTALL)
    if parts is None or parts[2] not in TEXTS:
        return argument
    start, key, value = parts.groups()
    if value.startswith("[") and value.endswith("]"):
        return f"{start}[{_pieces(key, value[1:-1])}]"
    if not sweeps or key.startswith("hydra."):  # of which Hydra makes no sweep
        return start + _quoted(key, value)
    function = re.fullmatch(r"(\w+) ?\((.*)\)", value, re.DOTALL)
    if function and function[1] == "choice":  # which Hydra would take out of their quotes
        return start + _pieces(key, function[2])
    if function and function[1] in ("range", "glob", "shuffle", "sort", "tag") and key in NUMBERED:
        return argument
    return start + _pieces(key, value)


def minutes_of(argument: str) -> str | None:
    """The minutes of a budget of time (`budget=10min`), as they are written; None of any other argument."""
    time = re.fullmatch(r"budget=(\d+\.?\d*|\.\d+)min", argument)
    return None if time is None else time[1]


def _time_apart(argument: str) -> list[str]:
    """A budget of time as the two arguments that it stands for."""
    minutes = minutes_of(argument)
    return [argument] if minutes is None else ["budget=minutes", f"schedule.minutes={minutes}"]


def _pieces(key: str, text: str) -> str:
    """The values that commas separate in `text`, each in Hydra's grammar."""
    return ",".join(_quoted(key, piece.strip(" \t")) for piece in PIECE.findall(text))


def _quoted(key: str, text: str) -> str:
    """One value in Hydra's grammar: in quotes, where it is not read as it stands."""
    if key.startswith("paths."):  # which the shell does not expand behind a sign of equality
        text = os.path.expanduser(text)
    same = text in ("", "null") or PLAIN.fullmatch(text) or re.fullmatch(QUOTED, text, re.DOTALL)
    if same or (key in NUMBERED and re.fullmatch(r"0|[1-9][0-9]*", text)):
        return text
    return QuotedString(text, Quote.single).with_quotes()


def _sweeps(command: str, arguments: list[str]) -> bool:
    """Whether a command has several runs."""
    if {"-m", "--multirun"} & set(arguments):
        return True
    modes = [argument.partition("=")[2] for argument in arguments if argument.startswith("hydra.mode=")]
    mode = modes[-1] if modes else composed(command, arguments).hydra.mode  # as the experiment says
    return "MULTIRUN" in str(mode)
