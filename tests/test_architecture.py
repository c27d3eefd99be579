"""The house of docs/architecture.md: which part imports which, and that a wheel carries its configuration."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "anomaly_gan"
ROOT = PACKAGE.parent


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files_of(part: str) -> list[Path]:
    """The files of a sub-package or of a module."""
    return sorted((PACKAGE / part).rglob("*.py")) if (PACKAGE / part).is_dir() else [PACKAGE / f"{part}.py"]


def parts_imported_by(part: str) -> set[str]:
    """The parts that `part` imports, itself left out; the package's name and version are of no part."""
    names = set().union(*(imports_of(file) for file in files_of(part)))
    found = {name.split(".")[1] for name in names if name.startswith("anomaly_gan.")}
    return found - {part, "__version__"}


ARROWS: dict[str, set[str]] = {
    # What needs nothing.
    "types": set(),
    "errors": set(),
    "precision": set(),
    "names": set(),
    "own_files": set(),
    "progress": set(),
    "lifetime": set(),
    "terminal": set(),
    "allocator": set(),
    "outside": set(),
    "before": set(),
    "released": set(),
    "sharding": set(),
    "distributed": set(),
    # Tools.
    "randomness": {"errors", "sharding"},
    "device": {"errors"},
    "durable": {"names"},
    "safe_load": {"durable", "errors"},
    "strategies": {"distributed"},
    "launch": {"distributed", "errors", "lifetime", "terminal"},
    "config": {"errors", "outside"},
    "results": {"before", "durable"},
    "own_process": {"errors", "lifetime", "results"},
    "loggers": {"errors", "own_files", "results"},
    # What is computed.
    "losses": {"errors", "precision", "types"},
    "metrics": {"errors", "precision", "safe_load", "types"},  # the last reads the weights of Inception
    "transforms": {"errors", "precision", "randomness", "types"},
    "networks": {"errors", "precision", "randomness", "transforms", "types"},
    "data": {"errors", "lifetime", "names", "own_files", "progress", "randomness", "sharding", "types"},
    "batches": {"data", "progress", "transforms", "types"},
    "scoring": {"distributed", "errors", "networks", "precision", "randomness", "transforms", "types"},
    "training": {"batches", "data", "distributed", "errors", "networks", "precision", "randomness"}
    | {"sharding", "transforms", "types"},
    "methods": {"distributed", "errors", "losses", "metrics", "networks", "precision", "randomness"}
    | {"safe_load", "scoring", "sharding", "training", "transforms", "types"},  # weights made by others
    # What is made of it.
    "build": {"config", "errors", "methods", "outside", "scoring"},
    "checkpoint": {"before", "build", "data", "errors", "released", "safe_load", "scoring"},
    "evaluation": {"batches", "data", "distributed", "errors", "metrics", "scoring", "transforms", "types"},
    "validation": {"data", "errors", "metrics", "progress", "randomness", "scoring", "transforms", "types"},
    "explanation": {"data", "scoring", "transforms", "types"},
    "reporting": {"before", "errors", "explanation", "metrics", "names", "own_files", "results"},
    "generation": {"batches", "data", "metrics", "progress", "reporting", "scoring", "transforms", "types"},
    "runs": {"checkpoint", "data", "distributed", "evaluation", "explanation", "generation", "metrics"}
    | {"reporting", "results", "scoring", "transforms", "validation"},
    "callbacks": {"data", "distributed", "errors", "evaluation", "generation", "lifetime", "loggers"}
    | {"methods", "networks", "progress", "safe_load"},
    "export": {"checkpoint", "durable", "errors", "progress", "randomness", "scoring", "transforms", "types"},
    "estimator": {"checkpoint", "data", "device", "errors", "own_process", "precision", "results", "scoring"},
    "inference": {"checkpoint", "data", "errors", "estimator", "explanation", "scoring", "transforms"},
    "together": {"errors", "inference", "scoring"},
    "drift": {"errors"},
    "watching": {"checkpoint", "data", "drift", "durable", "errors", "inference", "scoring"},
    "serving": {"data", "errors", "lifetime", "names", "watching"},
    "demo": {"errors", "explanation", "inference", "reporting"},
    # The commands may use all of it.
    "cli": {"allocator", "build", "callbacks", "checkpoint", "config", "data", "demo", "device"}
    | {"distributed", "durable", "errors", "export", "inference", "launch", "lifetime", "loggers"}
    | {"methods", "metrics", "names", "outside", "own_process", "precision", "progress", "reporting"}
    | {"results", "runs", "scoring", "serving", "strategies", "terminal", "together", "training"}
    | {"transforms", "watching"},
    "__main__": {"cli"},
}  # fmt: skip
"""Each part (sub-package or module) with those that it may import, all of which stand before it."""

NEVER = {
    "losses": {"data", "methods", "networks", "scoring", "training", "transforms"},
    "metrics": {"data", "methods", "networks", "scoring", "training", "transforms"},
    "networks": {"data", "methods", "scoring", "training"},
    "scoring": {"data", "methods", "training"},
    "training": {"methods", "scoring"},
    "data": {"methods", "networks", "scoring", "training"},
}
"""What a part does not know, nor by way of others."""


def test_every_part_of_the_package_has_its_arrows() -> None:
    parts = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    parts |= {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert set(ARROWS) == parts


@pytest.mark.parametrize("part", list(ARROWS))
def test_a_part_imports_only_what_lies_before_it(part: str) -> None:
    before = list(ARROWS)[: list(ARROWS).index(part)]
    assert ARROWS[part] <= set(before)
    assert parts_imported_by(part) <= ARROWS[part]


@pytest.mark.parametrize("part", list(NEVER))
def test_what_a_part_must_not_know_it_does_not_know_by_way_of_others_either(part: str) -> None:
    reached, new = set(), {part}
    while new:
        reached |= new
        new = set().union(*(parts_imported_by(name) for name in new)) - reached
    assert not reached & NEVER[part]


def test_only_the_commands_import_hydra() -> None:
    """And the plugins in `hydra_plugins`, which lie beside the package and know its commands alone."""
    for file in (ROOT / "hydra_plugins").rglob("*.py"):
        own = {name for name in imports_of(file) if name.startswith("anomaly_gan")}
        assert all(name.startswith("anomaly_gan.cli.") for name in own), file
    for file in PACKAGE.rglob("*.py"):
        if any(name.split(".")[0] == "hydra" for name in imports_of(file)):
            assert file.parent.name == "cli", file


def test_pytorch_lightning_is_the_only_lightning() -> None:
    for file in PACKAGE.rglob("*.py"):
        assert not any(name.split(".")[0] == "lightning" for name in imports_of(file)), file


def test_an_installed_wheel_finds_its_configuration_from_any_folder(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(installed)
    elsewhere.mkdir()
    probe = [sys.executable, "-m", "anomaly_gan", "train", "--cfg", "job"]
    done = subprocess.run(
        probe, cwd=elsewhere, env={"PYTHONPATH": str(installed)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "normal_class: null" in done.stdout
    assert (installed / "anomaly_gan" / "conf" / "data" / "digits.yaml").exists()
    assert (installed / "anomaly_gan" / "reporting" / "published_auroc.csv").exists()
    assert len(list((installed / "anomaly_gan" / "reporting" / "page").iterdir())) == 6
    assert not any(elsewhere.iterdir())


def test_no_module_imports_itself_by_way_of_others() -> None:
    modules = {
        ".".join(("anomaly_gan", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in PACKAGE.rglob("*.py")
    }
    found = {
        name: {
            module
            for imported in imports_of(path)
            for module in (imported, imported.rpartition(".")[0])
            if module in modules and module not in (name, "anomaly_gan")  # which imports when it is asked
        }
        for name, path in modules.items()
    }
    left = dict(found)
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"circles among {sorted(left)}"
