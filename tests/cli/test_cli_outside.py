"""Methods of other installed packages: found wherever ours are, and no more trusted than they have to be."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from anomaly_gan import outside
from anomaly_gan.build import build_scorer
from anomaly_gan.cli.messages import options
from anomaly_gan.config import build
from anomaly_gan.errors import UserError

DATA = {"image_size": 16, "channels": 1}

CODE = """
    import os
    import torch
    from anomaly_gan.scoring.base import Scorer

    class Brightness(Scorer):
        primary = "brightness"

        def __init__(self, *, power: float = 1.0, **form):
            super().__init__(**form)
            self.power = power
            self.register_buffer("mean", torch.zeros(()))

        def fit(self, normal):
            self.mean = torch.cat([images.mean((1, 2, 3)) for images in normal]).mean()

        def scores(self, images):
            return {"brightness": (images.mean((1, 2, 3)) - self.mean).abs() ** self.power}

    def anything(image_size, channels):
        raise AssertionError("a function of another package was called")
    """

RECIPE = """
    # @package _global_
    defaults:
      - override /networks: null
      - override /optimizer: null
      - override /score: null
      - _self_
    schedule: {{total_images: 1}}
    method:
      name: {name}
      _target_: anomaly_gan.methods.base.Method
      optimizer: null
    scoring:
      _target_: {package}.Brightness
      power: 1.0
    """

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a package where Python finds it, as an installer does; the package's folder."""
    before = set(sys.modules)

    def make(package: str, *methods: str, registers: str | None = None) -> Path:
        site = tmp_path / f"site_{package}"
        folder = site / package
        (folder / "conf" / "method").mkdir(parents=True)
        (folder / "__init__.py").write_text(dedent(CODE))
        for name in methods:
            recipe = dedent(RECIPE).format(name=name, package=package)
            (folder / "conf" / "method" / f"{name}.yaml").write_text(recipe)
        info = site / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        if registers != "":
            (info / "entry_points.txt").write_text(f"[{outside.GROUP}]\nany = {registers or package}\n")
        monkeypatch.syspath_prepend(site)
        forget()
        return folder

    yield make
    monkeypatch.undo()
    forget()
    for name in set(sys.modules) - before:
        if "brightness" in name:
            del sys.modules[name]


def forget() -> None:
    """Of what is installed, which a process looks at once."""
    importlib.invalidate_caches()
    outside.modules.cache_clear()
    outside.config_folders.cache_clear()


def scorer_of(target: str, **settings: Any) -> Any:
    config = {"method": {"name": "brightness"}, "scoring": {"_target_": target, **settings}}
    return build_scorer(config, DATA)


def edited(trained: Path, copy: Path, target: str) -> Path:
    """The detector of a run as one whose scorer is another."""
    content = torch.load(trained / "detector.ckpt")
    content["config"]["scoring"] = {"_target_": target}
    content["config"]["method"]["name"] = "brightness"
    torch.save(content, copy)
    return copy


def test_help_lists_a_method_of_another_package(install: Install, command) -> None:
    install("a_brightness", "brightness")
    assert "\nmethod: brightness, csi, csi_defects," in command("train", "--help").out


def test_tab_completion_knows_it_and_its_settings(
    install: Install, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("a_brightness", "brightness")
    for line, expected in (
        ("method=br", "method=brightness"),
        ("method=brightness scoring.p", "scoring.power="),
    ):
        monkeypatch.setenv("COMP_LINE", f"anomaly-gan train {line}")
        assert expected in command("-sc", "query=bash").out.split()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["method=brihgtness"], ["method=brihgtness", "did you mean brightness"]),
        (["method=brightness", "scoring.powr=2"], ["scoring.powr", "did you mean scoring.power"]),
        (["method=brightness", "scoring.power=loud"], ["power=loud", "a number"]),
    ],
)
def test_messages_name_what_is_nearest(
    install: Install, command, settings: list[str], words: list[str]
) -> None:
    install("a_brightness", "brightness")
    outcome = command("train", *settings)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert all(word in line for word in words), line


def test_it_trains_evaluates_predicts_and_exports_like_ours(
    install: Install, command, tmp_path: Path
) -> None:
    install("a_brightness", "brightness")
    done = command("train", "method=brightness", "data.limit=40", "normal_class=1")
    assert done.code == 0, done.err
    (run,) = (tmp_path / "runs" / "digits").iterdir()
    assert "brightness above" in done.out
    digit = next((run / "figures").glob("*.png"))
    for arguments in (
        ("evaluate", f"checkpoint={run}"),
        ("predict", f"checkpoint={run}", f"inputs={digit}"),
        ("export", f"checkpoint={run}", "format=torch", "output=brightness.pt2"),
    ):
        outcome = command(*arguments)
        assert outcome.code == 0, outcome.err


@pytest.mark.slow
def test_it_is_swept_and_searched_in_processes_of_their_own(
    install: Install, command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = install("a_brightness", "brightness").parent
    monkeypatch.setenv("PYTHONPATH", ":".join([str(site), *sys.path]))
    swept = command("train", "-m", "method=brightness,raw_pixels", "data.limit=40", "normal_class=1")
    assert swept.code == 0, swept.err
    assert "2 of 2 runs finished" in swept.out
    page = (tmp_path / "runs" / "digits" / "report.md").read_text()
    assert "brightness" in page
    searched = command(
        "search", "method=brightness", "scoring.power=0.5,1.0", "data.limit=80", "--trials", "1"
    )
    assert searched.code == 0, searched.err
    assert "best of 1 trials" in searched.out


def test_a_detector_whose_package_is_not_here_says_which_method_and_how_to_get_it(
    trained: Path, tmp_path: Path, command
) -> None:
    file = edited(trained, tmp_path / "detector.ckpt", "far_brightness.Brightness")
    for arguments in (
        ("predict", f"checkpoint={file}", f"inputs={tmp_path}"),
        ("evaluate", f"checkpoint={file}"),
        ("export", f"checkpoint={file}", "format=torch", "output=a.pt2"),
        ("demo", f"checkpoint={file}"),
    ):
        (tmp_path / "1.png").write_bytes(next(trained.rglob("*.png")).read_bytes())
        outcome = command(*arguments)
        assert outcome.code == 2
        (line,) = outcome.err.splitlines()
        assert "method 'brightness' is not installed here" in line
        assert "install the package that registers it" in line


def test_a_file_cannot_name_a_package_that_is_installed_and_not_registered(
    install: Install, trained: Path, tmp_path: Path, command
) -> None:
    install("a_brightness", "brightness", registers="")
    file = edited(trained, tmp_path / "detector.ckpt", "a_brightness.Brightness")
    outcome = command("evaluate", f"checkpoint={file}")
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert "a_brightness.Brightness" in line
    assert "can be built here" in line
    assert "a_brightness" not in sys.modules  # nothing of it was executed
    assert "brightness" not in options("method")


def test_of_a_registered_package_only_what_is_below_the_registered_module_is_built(install: Install) -> None:
    folder = install("a_brightness", registers="a_brightness.scorer")
    (folder / "scorer.py").write_text(dedent(CODE))
    (folder / "tools.py").write_text("raise AssertionError('imported')\n")
    assert scorer_of("a_brightness.scorer.Brightness", power=2.0).power == 2.0
    for target in (
        "a_brightness.Brightness",
        "a_brightness.tools.Brightness",
        "a_brightness.scorer_.Brightness",
    ):
        with pytest.raises(UserError, match="can be built here"):
            scorer_of(target)


def test_of_a_registered_package_no_function_is_called_and_nothing_that_it_imported(install: Install) -> None:
    folder = install("a_brightness", "brightness")
    (folder / "__main__.py").write_text("raise AssertionError('run')\n")
    (folder / "lacking.py").write_text("import a_module_that_is_nowhere\n")
    for target in ("a_brightness.anything", "a_brightness.os", "a_brightness.torch.device"):
        with pytest.raises(UserError, match=r"not a class or function of that module|no such class"):
            scorer_of(target)
    for target in (
        "a_brightness.__main__.Brightness",
        "a_brightness.Darkness",
        "a_brightness.dark.Brightness",
    ):
        with pytest.raises(UserError, match="there is no such class"):
            scorer_of(target)
    with pytest.raises(UserError, match="cannot be imported: No module named 'a_module_that_is_nowhere'"):
        scorer_of("a_brightness.lacking.Brightness")


def test_other_packages_bring_methods_and_no_data_sets_callbacks_or_loggers(install: Install) -> None:
    install("a_brightness", "brightness")
    for part in ("data", "callbacks", "loggers"):
        with pytest.raises(UserError, match="can be built here"):
            build({"_target_": "a_brightness.Brightness"}, part, (part,))


@pytest.mark.parametrize(
    "target", ["os.system", "subprocess.Popen", "__main__.main", "torch.load", "", "os", "."]
)
def test_no_registration_opens_other_packages(install: Install, target: str) -> None:
    install("a_brightness", "brightness")
    with pytest.raises(UserError, match="can be built here"):
        scorer_of(target)


def test_a_name_of_ours_stays_ours_and_a_line_says_so(install: Install, command) -> None:
    install("a_brightness", "raw_pixels")
    done = command("train", "method=raw_pixels", "data.limit=40")
    assert done.code == 0
    assert "method=raw_pixels: that of anomaly_gan; one of that name in a_brightness is not used" in done.err
    assert "raw_pixels above" in done.out


def test_a_name_of_two_other_packages_is_nobodys(install: Install, command) -> None:
    install("a_brightness", "brightness")
    install("b_brightness", "brightness")
    outcome = command("train", "method=brightness", "data.limit=40")
    assert outcome.code == 2
    assert "method=brightness: both in a_brightness and b_brightness; uninstall all but one" in outcome.err
    assert command("train", "method=raw_pixels", "data.limit=40").code == 0


def test_other_applications_of_hydra_do_not_see_the_recipes(install: Install, tmp_path: Path) -> None:
    install("a_brightness", "brightness")
    elsewhere = tmp_path / "conf"
    elsewhere.mkdir()
    (elsewhere / "app.yaml").write_text("defaults: [_self_, optional method: brightness]\nmine: 1\n")
    with initialize_config_dir(str(elsewhere), version_base="1.3"):
        assert set(compose("app")) == {"mine"}
