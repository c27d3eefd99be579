"""Methods built from the recipes that are shipped."""

from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from anomaly_gan.build import build_method
from anomaly_gan.cli.installed import config_folder
from anomaly_gan.methods.base import Method
from anomaly_gan.randomness import RowRng, make_rng
from anomaly_gan.sharding import Shard


def recipe(name: str, *overrides: str) -> dict[str, Any]:
    """The configuration of `method=name` with `overrides`, at the published width where they name none."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [f"method={name}", "width=64", *overrides])
    return {key: OmegaConf.to_container(config[key], resolve=True) for key in ("method", "scoring")}


def method_of(name: str, *overrides: str, side: int = 16, channels: int = 1, iterations: int = 10) -> Method:
    """The untrained method of a recipe, for images of `side` pixels."""
    data = {"image_size": side, "channels": channels, "iterations": iterations}
    return build_method(recipe(name, *overrides), data)


def step_of(method: Method, images: torch.Tensor, seed: int = 0) -> Any:
    """What the phases of an iteration are given whose images are `images`, outside of a training."""
    shard = Shard(len(images))
    return method.make_step(images, shard, lambda purpose: RowRng(make_rng("cpu", seed, purpose), shard))
