"""Paths and names on the command line: the text after `=` is taken as it stands."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image

from anomaly_gan.cli.arguments import TEXTS, as_override, overrides
from anomaly_gan.cli.installed import config_folder

ODD = 'a=b, c [x] {y} \'z "q" #~!&;'
"""What a folder may well be called."""

SIGNS = [*"a1_-./'\"\\=,[]{}()#~!&;$ \t\n:@%?*|+ü☃", "\udcff", "true", "null", "1e3"]
PARSER = OverridesParser.create()


def as_it_stands(text: str) -> bool:
    """Whether `text` is not quoted, in brackets, null, or what OmegaConf gives a meaning of its own."""
    quoted = re.fullmatch(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", text, re.DOTALL)
    bracketed = text.startswith("[") and text.endswith("]")
    return not (quoted or bracketed or text in ("", "null", "???") or "${" in text)


texts = st.lists(st.sampled_from(SIGNS) | st.characters(exclude_characters="\0"), min_size=1).map("".join)
texts = texts.filter(as_it_stands)


@pytest.mark.slow
@given(texts)
@example(ODD)
@example("2024_01_15")
@example("1.50")
@example("1e3")
@example("true")
@example(" a ")
@example("C:\\images\\")
@example("'a' and 'b'")
@settings(max_examples=500, deadline=None)
def test_hydra_reads_the_text_of_a_path_as_it_stands_however_often_it_is_prepared(text: str) -> None:
    for key in ("data.root", "+normal_class", "++name", "~resume"):
        prepared = as_override(f"{key}={text}")
        assert as_override(prepared) == prepared
        if not text.isdecimal():  # the index of a class
            assert PARSER.parse_override(prepared).value() == text
    # Nor is it changed on its way through a sweep to the run of its own.
    given = PARSER.parse_override(as_override(f"data.root={text}"))
    [[[job]]] = BasicSweeper.split_arguments([given], None)
    assert as_override(job) == job
    assert PARSER.parse_override(job).value() == text


@pytest.mark.slow
@given(texts)
@example(ODD)
@settings(max_examples=30, deadline=None)
def test_what_the_configuration_holds_is_the_text_that_was_given(text: str) -> None:
    keys = ("checkpoint", "inputs", "output")
    given = overrides("predict", [f"{key}={text}" for key in keys])
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("predict", given)
    assert [config[key] for key in keys] == [text] * len(keys)


def is_element(text: str) -> bool:
    """Whether `text` can stand in a list as it is: without a comma, and without quotes around one."""
    bare = text.strip(" \t")
    return "," not in bare and bare[:1] not in ("'", '"') and as_it_stands(bare)


@given(st.lists(texts.filter(is_element), min_size=1))
@settings(deadline=None)
def test_each_element_of_a_list_is_taken_as_it_stands(elements: list[str]) -> None:
    prepared = as_override(f"inputs=[{','.join(elements)}]")
    assert as_override(prepared) == prepared
    assert PARSER.parse_override(prepared).value() == [element.strip(" \t") for element in elements]


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ("normal_class=3", 3),
        ("normal_class=003", "003"),
        ("normal_class=3_0", "3_0"),
        ("normal_class='3'", "3"),
        ("normal_class=null", None),
        ("data.root=3", "3"),
        ("data.root=", ""),
        ("data.root=[]", []),
        ("data.root=\"a 'b' c\"", "a 'b' c"),
        ("data.root='a,b'", "a,b"),
        ("data.root=${paths.data_dir}", "${paths.data_dir}"),
        ("data.root=${paths.data_dir}/a=b", "${paths.data_dir}/a=b"),
        ("inputs=['a,b',c d]", ["a,b", "c d"]),
        ("inputs=[a[1].png, ünï.png]", ["a[1].png", "ünï.png"]),
        ("hydra.launcher.exclude=node[1-3],node5", "node[1-3],node5"),
        ("seed=1_0", 10),  # no text
        ("optimizer.betas=[0.9,0.99]", [0.9, 0.99]),
    ],
)
def test_quotes_brackets_null_and_indices_mean_what_they_did(given: str, means: object) -> None:
    value = PARSER.parse_override(as_override(given)).value()
    assert (value, type(value)) == (means, type(means))


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ("normal_class=0,1,2", ["0", "1", "2"]),
        ("normal_class=range(3)", ["0", "1", "2"]),
        ("normal_class=choice(a b,1.50)", ["'a b'", "'1.50'"]),
        ("normal_class=metal nut,ünï,true", ["'metal nut'", "'ünï'", "'true'"]),
        ("data.root='a,b',c", ["'a,b'", "c"]),
        ("seed=1,2", ["1", "2"]),
    ],
)
@pytest.mark.parametrize(
    "how",
    [
        ["-m"],
        ["--multirun"],
        ["hydra.mode=MULTIRUN"],
        ["experiment=digits_table"],
        ["experiment=ablation_cifar10"],
    ],
)
def test_a_sweep_takes_each_piece_as_it_stands(how: list[str], given: str, means: list[str]) -> None:
    prepared = overrides("train", [*how, given])
    assert overrides("train", prepared) == prepared
    assert list(PARSER.parse_override(prepared[-1]).sweep_string_iterator()) == means


@pytest.mark.parametrize(
    "how", [[], ["experiment=digits_demo"], ["experiment=digits_table", "hydra.mode=RUN"]]
)
def test_a_single_run_takes_commas_as_they_stand(how: list[str]) -> None:
    (*_, given) = overrides("train", [*how, "normal_class=a,b"])
    assert PARSER.parse_override(given).value() == "a,b"


def test_every_setting_that_holds_a_text_is_a_path_or_name_or_one_of_a_few_words() -> None:
    words = {
        "method.name",
        "device",
        "format",
        "logger.wandb.mode",
        "method.adversarial",
        "method.on_non_finite",
    }
    words |= {"method.views.first_draw", "callbacks.health.on_collapse", "data.on_corrupt", "data.resize"}
    words |= {"data.superclass_map", "optimizer.decay", "scoring.primary", "scoring.precision"}
    words |= {"scoring.shifts.border", "method.synthetic_as"}
    words |= {"scoring.body", "schedule.minutes_of"}
    words |= {"trainer.accelerator", "trainer.devices", "trainer.precision", "trainer.cuda_graphs"}
    found = set()
    for file in sorted(config_folder().rglob("*.yaml")):
        if file.parent.name in ("experiment", "sweep", "launcher", "debug", "budget", "of"):
            continue  # they set what others have
        group = file.parent.name if file.parent != config_folder() else ""
        group = {"score": "scoring", "method": ""}.get(group, group)
        stack = [(group, OmegaConf.to_container(OmegaConf.load(file)))]
        while stack:
            path, node = stack.pop()
            if isinstance(node, dict):
                stack += [(f"{path}.{key}".lstrip("."), value) for key, value in node.items()]
            elif isinstance(node, str) and (path in TEXTS or not node.startswith("${")):
                found.add(path)
    own = {path for path in found if not re.search(r"^hydra|^defaults|_target_", path)}
    assert own - TEXTS == words
    assert {"normal_class", "data.root", "name", "checkpoint", "inputs", "output", "paths.runs"} < TEXTS


def images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 255, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")


def test_a_folder_and_its_runs_may_have_any_name(command, tmp_path: Path) -> None:
    images(tmp_path / ODD, 20)
    tiny = ("debug=fast", "data=folder", "data.image_size=16")
    outcome = command("train", *tiny, f"data.root={ODD}", f"name={ODD}", "paths.runs=ünï")
    assert outcome.code == 0, outcome.err
    (run,) = (tmp_path / "ünï" / ODD).iterdir()
    outcome = command("predict", f"checkpoint={run}", f"inputs={ODD}", "output=a=b")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "a=b.csv").is_file()


@pytest.mark.slow
def test_the_runs_of_a_sweep_get_the_names_that_were_given(command, tmp_path: Path) -> None:
    for name in ("it's [1]", "1.50"):
        for split in ("train", "test"):
            images(tmp_path / "a b" / split / name, 12)
    tiny = ("debug=fast", "schedule.total_images=16", "data=folder", "data.root=a b", "data.image_size=16")
    outcome = command("train", "-m", *tiny, "name=ünï", "normal_class=it's [1],1.50")
    assert outcome.code == 0, outcome.err
    assert "2 of 2 runs finished" in outcome.out
    outcome = command("train", "-m", *tiny, "name=ünï", "sweep=all_classes")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("finished before") == 2


@pytest.mark.parametrize("wrong", ["device=ünï", "batch_size=3;", "seed=a=b", "inputs=[a,,b]", "ünï=3"])
def test_what_cannot_be_read_is_answered_with_quotes_not_with_a_lexer(command, wrong: str) -> None:
    outcome = command("predict", "checkpoint=missing", wrong)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    key, _, value = wrong.partition("=")
    assert line.startswith(f"anomaly-gan: {wrong}: ")
    assert line.endswith(f"in quotes: \"{key}='{value}'\"")


@pytest.mark.parametrize("wrong", ["inputs=a${x", "inputs=${x}"])
def test_an_interpolation_that_leads_nowhere_is_told_how_to_be_a_text(command, wrong: str) -> None:
    outcome = command("predict", "checkpoint=missing", wrong)
    assert outcome.code == 2
    assert outcome.err.strip().endswith("\\${ for the signs themselves")
    outcome = command("predict", "checkpoint=missing", wrong.replace("$", "\\$"))
    assert outcome.err == f"anomaly-gan: {wrong}: no such file or folder\n"


@pytest.mark.parametrize("word", ["no", "Off", "yes"])
def test_what_hydra_would_take_for_a_text_is_no_flag(command, word: str) -> None:
    outcome = command("train", "debug=fast", f"trainer.compile={word}")
    assert outcome.code == 2
    assert outcome.err == f"anomaly-gan: trainer.compile={word}: write true or false\n"
    assert overrides("train", [f"normal_class={word}"]) == [
        f"normal_class={word}"
    ]  # a class may be called so


def test_the_folder_of_runs_may_be_in_the_home_folder() -> None:
    """Behind `paths.runs=` no shell puts it in the place of ~."""
    home = os.path.expanduser("~")
    assert overrides("train", ["paths.runs=~/a"]) in ([f"paths.runs={home}/a"], [f"paths.runs='{home}/a'"])
