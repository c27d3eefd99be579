"""Methods of the paper small enough to train in a test."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from anomaly_gan.methods.paper.method import AnomalyGAN
from anomaly_gan.methods.paper.objectives import Step
from anomaly_gan.randomness import RowRng, make_rng
from anomaly_gan.sharding import Shard
from anomaly_gan.training.optimizers import Adam
from anomaly_gan.training.phases import PhaseSettings
from anomaly_gan.transforms.diff_augment import DiffAugment

SHIPPED = Path(__file__).parents[2] / "conf" / "method" / "full.yaml"

OF_BOTH = ("views", "seed")
"""Settings that a method shares with its scorer."""

OF_SCORER = ("image_size", "channels", "width", "embedding_size", "networks", "primary", "ensemble")
OF_SCORER += ("chunk", "precision", "recalibrate_batch_norm")


@pytest.fixture(scope="session")
def shipped() -> dict[str, Any]:
    """The settings of Algorithm 1 as they are shipped."""
    return yaml.safe_load(SHIPPED.read_text())["method"]


@pytest.fixture
def phase_settings(shipped) -> Callable[..., dict[str, PhaseSettings]]:
    """The shipped settings of all phases but for the changes: `all_phases=` of each, others by name."""

    def make(all_phases: dict[str, Any] | None = None, **phases: dict[str, Any]) -> dict[str, PhaseSettings]:
        unknown = set(phases) - set(shipped["phases"])
        assert not unknown
        return {
            name: PhaseSettings(
                **{key: value for key, value in settings.items() if key != "_target_"}
                | (all_phases or {})
                | phases.get(name, {})
            )
            for name, settings in shipped["phases"].items()
        }

    return make


@pytest.fixture
def make_method(make_scorer, phase_settings) -> Callable[..., AnomalyGAN]:
    """Algorithm 1 but for the changes, which may be of the method or of its scorer."""

    def make(name: str = "csi", **changes: Any) -> AnomalyGAN:
        of_scorer = {key: changes[key] for key in (*OF_BOTH, *OF_SCORER) if key in changes}
        scorer = make_scorer(**of_scorer)
        settings: dict[str, Any] = {
            "views": scorer.views,
            "phases": phase_settings(),
            "every": 5,
            "temperature": 0.5,
            "adversarial": "non_saturating",
            "latents_per_image": 1,
            "diff_augment": DiffAugment(),
            "share_generator_forward": False,
            "generator_average": None,
            "optimizer": Adam(learning_rate=1e-3),
            "total_iterations": 10,
            "on_non_finite": "raise",
            "seed": 0,
            "log_every_iterations": 1,
        }
        of_method = {key: value for key, value in changes.items() if key not in OF_SCORER}
        return AnomalyGAN(name=name, scorer=scorer, **settings | of_method)

    return make


@pytest.fixture
def make_step() -> Callable[..., Step]:
    """A step of `method` outside of a training: four inliers and h of their number, by `seed`."""

    def make(method: AnomalyGAN, seed: int = 0, images: torch.Tensor | None = None) -> Step:
        generator = make_rng("cpu", seed, "test")
        side, count = method.scorer.image_size, 4 * method.latents_per_image
        if images is None:
            images = torch.rand(4, 1, side, side, generator=generator)
        return Step(
            networks=dict(method.networks.items()),
            images=images,
            latents=torch.randn(count, method.latent_size, generator=generator),
            views=method.views,
            temperature=method.temperature,
            adversarial=method.adversarial,
            diff_augment=method.diff_augment,
            generator_side=method.generator_side,
            shard=Shard(len(images)),
            rng=RowRng(generator),
        )

    return make


@pytest.fixture
def small_config(shipped) -> Callable[..., dict[str, Any]]:
    """The shipped settings with small networks, for `build.build_method`; the changes are of the method."""

    def make(name: str = "csi", **changes: Any) -> dict[str, Any]:
        method = copy.deepcopy(shipped) | {
            "name": name,
            "optimizer": {"_target_": "anomaly_gan.training.optimizers.Adam"},
            "seed": 0,
            "log_every_iterations": 1,
        }
        scoring = {
            "_target_": "anomaly_gan.scoring.neighbours.NearestNeighbours",
            "width": 8,
            "embedding_size": 12,
            "networks": {
                "_target_": "anomaly_gan.networks.autoencoders.ResNet",
                "width": 8,
                "latent_size": 6,
            },
            "views": method["views"],
            "seed": 0,
            "primary": "csi",
            "ensemble": 1,
            "chunk": 64,
            "precision": "32-true",
            "recalibrate_batch_norm": True,
        }
        return {"method": method | changes, "scoring": scoring}

    return make
