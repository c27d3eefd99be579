import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from anomaly_gan.data.module import OneClassData
from hydra_plugins import anomaly_gan_launchers  # noqa: F401  # resolvers of the configurations

FOLDER = Path(__file__).parents[2] / "conf" / "data"
CONFIGS = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "base")


def composed(name: str) -> dict[str, Any]:
    """A data config over its defaults, as Hydra merges them."""
    own = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"), resolve=False)
    assert isinstance(own, dict)
    below: dict[str, Any] = {}
    for default in own.pop("defaults", []):
        if default != "_self_":
            below |= composed(default)
    return below | own


def target(config: dict[str, Any]) -> type[OneClassData]:
    module, _, name = config["_target_"].rpartition(".")
    return getattr(importlib.import_module(module), name)


def parameters(cls: type) -> set[str]:
    calls = [
        vars(base)["__init__"]
        for base in cls.__mro__
        if issubclass(base, OneClassData) and "__init__" in vars(base)
    ]
    found = {
        p.name
        for call in calls
        for p in inspect.signature(call).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    }
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_has_exactly_the_settings_of_its_class(name: str) -> None:
    config = composed(name)
    cls = target(config)
    assert issubclass(cls, OneClassData)
    assert set(config) - {"_target_"} == parameters(cls)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_builds_its_data_set(name: str) -> None:
    outer = {
        "data": composed(name),
        "normal_class": 0,
        "batch_size": 4,
        "seed": 0,
        "image_size": None,
        "schedule": {"total_images": 8, "passes": None},
        "paths": {"data_dir": "data"},
    }
    if name == "folder":
        assert OmegaConf.is_missing(OmegaConf.create(outer["data"]), "root")
        outer["data"]["root"] = "somewhere"
    values: Any = OmegaConf.to_container(OmegaConf.create(outer), resolve=True)
    cls = target(values["data"])
    data = cls(**{key: value for key, value in values["data"].items() if key != "_target_"})
    assert data.name == values["data"]["name"]
    assert (data.batch_size, data._asked_images, data.passes) == (4, 8, None)


@pytest.mark.parametrize("name", ["base", *CONFIGS])
def test_a_config_has_a_header_and_a_comment_on_every_setting(name: str) -> None:
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    assert lines[0].startswith("# ")
    settings = [
        line for line in lines if re.match(r"\w+:", line) and not re.match(r"(defaults|_target_):", line)
    ]
    assert settings
    assert all("  # " in line for line in settings)
