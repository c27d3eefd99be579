"""Which runs are of one kind, so that their AUROCs may be averaged, and how the kinds are called."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from anomaly_gan.reporting.collect import Run

SAME_KIND = {"seed", "normal_class", "name", "resume", "data.root"}
SAME_KIND |= {"data.seed", "data.normal_class", "method.seed", "scoring.seed"}
SAME_KIND |= {"schedule.on_cpu", "schedule.on_gpu", "data.batch_size", "data.total_images"}
SAME_KIND_GROUPS = {"paths", "logger", "callbacks", "hydra", "trainer"}
"""Settings in which runs of one kind may differ: what a row has several of; what names the row; what a rule
found for the class, where `batch_size` and `schedule` say what was asked for; what does not change what is
learned."""

OF_TRAINING = {"width", "batch_size", "schedule"}
"""Settings, or groups of them, that say nothing of a method without an optimizer: a budget sets them for all.
The width of what it scores with stands under `scoring`, too."""


NONE = ""
"""In place of a usual value: no value is."""


class Kind(NamedTuple):
    """What a row of a table is about."""

    method: str
    """As `method=` names it, and as published figures do."""
    variant: str
    """How its configuration differs from the method's usual one on the data set; empty where it does not."""

    @property
    def label(self) -> str:
        """For a person."""
        return ", ".join(word for word in (self.method, self.variant) if word)


TABLE_1 = ("deep_svdd", "ocgan", "geom", "rot_trans", "goad", "csi", "csi_g", "full")
"""The paper's order; methods that it does not have come after."""


def rank(kind: Kind) -> tuple[Any, ...]:
    """Sorts kinds as Table 1 does, the usual configuration of each first, numbers by their size."""
    place = TABLE_1.index(kind.method) if kind.method in TABLE_1 else len(TABLE_1)
    words = re.split(r"(\d+(?:\.\d+)?)", kind.variant)  # every other one is a number
    return place, kind.method, [float(word) if index % 2 else word for index, word in enumerate(words)]


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their dotted names; lists are values."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{name}.")
        else:
            found[name] = value
    return found


def compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that make a run of another kind."""
    settings = flat(config)
    learns = settings.get("method.optimizer", "of an older result") is not None
    groups = SAME_KIND_GROUPS if learns else SAME_KIND_GROUPS | OF_TRAINING
    found = {
        name: value
        for name, value in settings.items()
        if name not in SAME_KIND and name.split(".")[0] not in groups
    }
    if str(settings.get("data._target_")).endswith(".Folder") and settings.get("data.root"):
        # Folders of pictures have one label, and are other pictures; where they lie may differ by machine.
        found["data.root"] = "/".join(Path(str(settings["data.root"])).parts[-2:])
    if found.setdefault("schedule.timed_for", None) is not None:
        found["schedule.total_images"] = None  # found by timing, and each time a little different
    return found


def kinds(runs: Sequence[Run]) -> tuple[list[Kind], list[str]]:
    """The kind of each of `runs`, all of one data set, and notes for the reader.

    The usual value of a setting is the one that most runs of the same method have: one method's recipe says
    nothing of another's. Where two are as frequent there is none, and each row names its own. A setting that
    an older result does not record is taken to have had it, and a note says so.
    """
    by_method: dict[str, list[int]] = defaultdict(list)
    for index, run in enumerate(runs):
        by_method[run.result.method].append(index)
    found: dict[int, Kind] = {}
    older, unrecorded = 0, dict[str, None]()
    for indices in by_method.values():
        of_method, lacking = _kinds([runs[index] for index in indices])
        found |= dict(zip(indices, of_method, strict=True))
        older += max(lacking.values(), default=0)
        unrecorded |= dict.fromkeys(lacking)
    notes = []
    if unrecorded:
        more = f" and {len(unrecorded) - 6} more" if len(unrecorded) > 6 else ""
        notes.append(
            f"{older} of {len(runs)} results do not record some settings that others of their method do"
            f" ({', '.join(list(unrecorded)[:6])}{more}): they are taken to have had the others' values."
        )
    return [found[index] for index in range(len(runs))], notes


def _kinds(runs: Sequence[Run]) -> tuple[list[Kind], Counter[str]]:
    """The kinds of one method's runs, and how many of these do not record a setting that others do."""
    all_settings = [compared(run.result.config) for run in runs]
    names = list(dict.fromkeys(name for settings in all_settings for name in settings))
    usual: dict[str, str] = {}
    for name in names:
        values = Counter(_text(settings[name]) for settings in all_settings if name in settings)
        (value, most), *others = values.most_common(2)
        usual[name] = value if all(count < most for _, count in others) else NONE
    different = [
        tuple((name, value) for name, value in settings.items() if _text(value) != usual[name])
        for settings in all_settings
    ]
    keys = [(run.result.method, _text(d)) for run, d in zip(runs, different, strict=True)]
    groups = dict(zip(keys, different, strict=True))
    short = {key: _label(d) for key, d in groups.items()}
    taken = Counter((key[0], label) for key, label in short.items())
    labels = {
        key: label if taken[key[0], label] == 1 else ", ".join(f"{n}={_show(v)}" for n, v in groups[key])
        for key, label in short.items()
    }
    found = [Kind(key[0], labels[key]) for key in keys]
    return found, Counter(name for settings in all_settings for name in names if name not in settings)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _show(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _label(different: Sequence[tuple[str, Any]]) -> str:
    """The differences in words; a value that is interpolated into several places is said once."""
    # The groups into which others are copied come last.
    copies = ("method.", "scoring.", "data.")
    ordered = sorted(different, key=lambda item: (item[0].startswith(copies), item[0].count(".")))
    said, words = set(), []
    for name, value in ordered:
        leaf = name.rpartition(".")[2]
        if (leaf, _text(value)) in said:
            continue
        said.add((leaf, _text(value)))
        if leaf == "_target_":
            words.append(f"{name.removesuffix('._target_')}={str(value).rpartition('.')[2]}")
        else:
            words.append(f"{name}={_show(value)}")
    return ", ".join(words)
