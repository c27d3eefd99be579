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


def parts_imported_by(part: str) -> set[str]:
    """The package's parts (sub-packages and modules) that `part` imports, itself left out."""
    files = (PACKAGE / part).rglob("*.py") if (PACKAGE / part).is_dir() else [PACKAGE / f"{part}.py"]
    names = set().union(*(imports_of(file) for file in files))
    return {name.split(".")[1] for name in names if name.startswith("anomaly_gan.")} - {part}


SMALL = {"types", "errors", "precision", "names", "durable", "safe_load", "own_files", "__version__"}
"""What everything may import."""

SHARED = {"randomness", "sharding", "distributed"}
"""What makes several processes one."""


@pytest.mark.parametrize(
    ("part", "allowed"),
    [
        ("types", set()),
        ("errors", set()),
        ("precision", set()),
        ("names", set()),
        ("durable", set()),
        ("safe_load", set()),
        ("own_files", set()),
        ("losses", set()),
        ("networks", {"randomness"}),
        ("scoring", set()),
        ("metrics", set()),
        ("sharding", set()),
        ("randomness", {"sharding"}),
        ("distributed", set()),
        ("transforms", {"randomness"}),
        ("objectives", {"losses", "transforms", "networks"} | SHARED),
        ("algorithm", {"objectives"}),
        ("data", {"progress", "randomness", "sharding"}),
        ("methods", {"algorithm", "objectives", "losses", "networks", "scoring", "transforms"}
         | {"optimizers", "data"} | SHARED),
        ("reporting", {"explanation", "metrics", "results"}),
        ("explanation", {"data", "methods", "scoring", "transforms"}),
        ("results", set()),
        ("demo", {"explanation", "inference", "reporting"}),
        ("export", {"checkpoint", "methods", "progress", "randomness", "scoring", "transforms"}),
        ("runs", {"checkpoint", "data", "distributed", "evaluation", "explanation", "generation", "methods"}
         | {"metrics", "reporting", "results", "scoring", "transforms", "validation"}),
        ("inference", {"checkpoint", "data", "explanation", "methods", "scoring", "transforms"}),
    ],
)  # fmt: skip
def test_a_part_imports_only_what_lies_before_it(part: str, allowed: set[str]) -> None:
    assert parts_imported_by(part) - SMALL <= allowed


def test_only_the_commands_import_hydra() -> None:
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
    assert len(list((installed / "anomaly_gan" / "reporting" / "page").iterdir())) == 3
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
