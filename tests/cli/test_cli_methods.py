"""One axis, the method, in two words: which of them holds, and what is refused."""

import re
import shlex
from itertools import product
from pathlib import Path

import pytest
from documentation import PAGES, ROOT, commands
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from anomaly_gan.build import build_method
from anomaly_gan.cli import auto
from anomaly_gan.cli.arguments import overrides
from anomaly_gan.cli.installed import config_folder
from anomaly_gan.cli.messages import groups, listed, options
from anomaly_gan.cli.sizes import choose_sizes
from anomaly_gan.cli.sweep import axes_beside

RECIPE_S = re.compile(r"(?:^ *|# Command: )anomaly-gan (train .+?)(?=  |$)", re.MULTILINE)
"""As recipes and help have commands: on a line of their own."""


def documented(file: Path) -> list[list[str]]:
    """The arguments of each training in a page of documentation, or in a recipe."""
    if file.suffix == ".md":
        found = [told.words[1:] for told in commands(file) if told.words[0] == "anomaly-gan"]
    else:
        found = [shlex.split(words, comments=True) for words in RECIPE_S.findall(file.read_text())]
    return [words for kind, *words in found if kind == "train" and any("=" in word for word in words)]


def composed(*arguments: str) -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("train", list(arguments), return_hydra_config=True)


def runs_of(arguments: list[str]) -> list[list[str]]:
    """The arguments of every run of a command, those that its experiment sweeps over included."""
    if auto.AUTO in arguments:
        given = [word for word in arguments if word != auto.AUTO]
        return [overrides("train", auto.run_of(method, given)) for method in auto.FROM_SCRATCH]
    given = overrides("train", [word for word in arguments if word != "-m"])
    one = composed(*(word for word in given if "," not in word or "=[" in word))
    params = one.hydra.sweeper.params or {}
    params = {key: params[key] for key in params if key != "normal_class"}  # it may ask for the data
    beside = axes_beside(given, params)
    words = [*(f"{key}={values}" for key, values in beside.items()), *given]
    parsed = OverridesParser.create().parse_overrides(words)
    axes = [
        [f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [override.input_line or ""]
        for override in parsed
    ]
    return [list(run) for run in product(*axes)]


@pytest.mark.parametrize(
    ("arguments", "method"),
    [
        ([], "csi"),
        (["method=geom"], "geom"),
        (["ablation=csi_g"], "csi_g"),
        (["method=csi", "ablation=csi"], "csi"),
        (["method=geom", "ablation=null"], "geom"),
        (["experiment=digits_demo"], "full"),
        (["experiment=digits_demo", "ablation=csi"], "csi"),
        (["experiment=digits_demo", "ablation=csi_g"], "csi_g"),
        (["experiment=digits_demo", "method=csi"], "csi"),
        (["experiment=digits_demo", "method=geom"], "geom"),
        (["ablation=csi", "experiment=digits_demo"], "csi"),
        (["experiment=fashion_mnist_cpu", "ablation=full"], "full"),
        (["experiment=fashion_mnist_cpu", "method=raw_pixels"], "raw_pixels"),
    ],
)
def test_the_command_line_goes_before_the_ablation_the_experiment_and_the_default(
    arguments: list[str], method: str
) -> None:
    assert composed(*overrides("train", arguments)).method.name == method


def test_a_method_brings_the_optimizer_of_its_recipe_and_the_command_line_another() -> None:
    assert composed("method=geom").method.optimizer.weight_decay == 5e-4
    assert composed("method=geom", "optimizer=adam_fast").method.optimizer.get("weight_decay") is None
    assert composed("method=csi").method.optimizer.learning_rate == 2e-4
    assert composed("experiment=digits_demo", "ablation=csi").method.optimizer.learning_rate == 1e-3


@pytest.mark.parametrize(
    "words",
    [
        "method=geom ablation=csi",
        "ablation=csi method=geom",
        "method=full ablation=csi",
        "method=geom,csi ablation=full",
        "-m method=geom,csi ablation=full",
        "-m method=raw_pixels,geom ablation=csi",
        "-m method=csi,full ablation=csi,full",
        "-m method=csi ablation=csi,full",
        "-m method=geom sweep=ablations",
        "-m sweep=[all_classes,ablations] method=geom",
        "experiment=digits_demo method=geom ablation=csi",
    ],
)
def test_two_words_for_one_choice_are_refused_in_a_line(command, words: str) -> None:
    for before in ([], ["--cfg", "job"]):
        outcome = command("train", *words.split(), *before)
        assert outcome.code == 2
        (line,) = outcome.err.splitlines()
        given = [word for word in words.split() if word.startswith(("method=", "ablation=", "sweep="))]
        assert all(word in line for word in given), line
        assert "two words for one choice; give one of them alone" in line
        assert not Path("runs").exists()


def test_a_search_refuses_them_as_well(command) -> None:
    outcome = command("search", "method=geom", "ablation=csi,full")
    assert outcome.code == 2
    assert "method=geom ablation=csi,full: two words for one choice" in outcome.err


def test_the_same_twice_is_one_choice(command) -> None:
    outcome = command("train", "method=csi_g", "ablation=csi_g", "--cfg", "job")
    assert outcome.code == 0
    assert "\n  name: csi_g\n" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["method=geom", "scoring.ensemble=1"], "scoring.ensemble: no such setting; did you mean scoring."),
        (["method=geom", "scoring.dept=1"], "did you mean scoring.depth"),
        (["method=geom", "method.every=2"], "method.every: no such setting; did you mean method."),
        (["ablation=csi", "scoring.depth=2"], "scoring.depth: no such setting; did you mean scoring.width"),
        (
            ["-m", "method=csi,geom", "scoring.ensemble=1"],
            "scoring.ensemble: no such setting with method=geom;",
        ),
        (["-m", "method=geom,csi", "scoring.depth=1"], "scoring.depth: no such setting with method=csi;"),
        (
            ["method=gem"],
            "there is no such method, and no package is installed that registers it; did you mean geom",
        ),
        (["~optimizer"], "method.optimizer takes its value from optimizer, which is not there; give method."),
        (["ablation=geom"], "ablation=geom: there is no such ablation; valid: csi, csi_g, full"),
    ],
)
def test_what_a_method_does_not_have_is_refused_with_what_is_nearest(
    command, arguments: list[str], word: str
) -> None:
    outcome = command("train", *arguments)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert word in line


@pytest.mark.slow
def test_what_is_given_goes_before_what_an_experiment_sweeps_over(command) -> None:
    # The experiment sweeps over two ablations and ten classes.
    settings = ("data=digits", "normal_class=3", "data.limit=40", "schedule.total_images=1")
    outcome = command("train", "experiment=table1_cifar10", "method=raw_pixels", *settings)
    assert outcome.code == 0, outcome.err
    assert "run 1 of 1, 3_raw_pixels_seed0_" in outcome.out
    assert "1 of 1 runs finished" in outcome.out


@pytest.mark.parametrize(
    ("words", "methods"),
    [
        ("-m sweep=ablations", ["csi", "csi_g", "full"]),
        ("-m ablation=csi,csi_g,full", ["csi", "csi_g", "full"]),
        ("-m method=raw_pixels,geom,csi", ["raw_pixels", "geom", "csi"]),
        ("experiment=digits_table", ["raw_pixels", "geom", "csi", "csi_g", "full"]),
        ("experiment=digits_table ablation=csi", ["csi"]),
        ("experiment=digits_table sweep=ablations", ["csi", "csi_g", "full"]),
        ("experiment=fashion_mnist_table method=geom", ["geom"]),
        ("experiment=fashion_mnist_table ablation=csi", ["csi"]),
        ("experiment=table1_cifar100", ["geom", "rot_trans", "goad", "csi", "full"]),
    ],
)
def test_a_sweep_has_the_methods_that_it_names(words: str, methods: list[str]) -> None:
    found = [composed(*run).method.name for run in runs_of(words.split())]
    assert found == methods


def test_the_commands_of_the_documentation_are_found() -> None:
    found = documented(ROOT / "docs" / "start.md")
    assert ["data=digits", "normal_class=4", "budget=1min"] in found
    assert len(found) >= 4
    assert ["debug=fast"] in documented(ROOT / "conf" / "train.yaml")
    assert ["method=geom", "data=cifar10", "normal_class=automobile"] in documented(
        ROOT / "conf" / "method" / "geom.yaml"
    )


DOCUMENTS = [
    *(page for page in PAGES if page.name != "new_method.md"),
    *sorted((ROOT / "conf").rglob("*.yaml")),
]
"""The page left out has a method that is not installed here, and a test that runs its commands."""


@pytest.mark.parametrize(
    ("place", "arguments"),
    [
        pytest.param(str(file.relative_to(ROOT)), words, id=f"{file.relative_to(ROOT)}: {' '.join(words)}")
        for file in DOCUMENTS
        for words in documented(file)
    ],
)
def test_every_documented_command_composes_to_methods_that_can_be_built(
    place: str, arguments: list[str]
) -> None:
    for run in runs_of(arguments):
        config = composed(*run)
        choose_sizes(config)
        config.width = 16  # quick to build, and fits every method
        parts = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
        plain = OmegaConf.to_container(parts, resolve=True)
        method = build_method(plain, {"image_size": 32, "channels": 3, "iterations": 10})
        assert method.name in options("method"), place


def test_the_help_lists_groups_and_what_of_them_can_be_chosen(command) -> None:
    said = command("train", "--help").out
    assert listed("train") in said
    for group in groups("train"):
        assert f"\n{group}: " in said
    assert "/of" not in said  # what a budget means for a method: nobody chooses it
    assert not re.search(r"\bbase\b", said)  # what the files of a group begin with
    for name in options("method"):
        assert re.search(rf"\nmethod: .*\b{name}\b", said)
