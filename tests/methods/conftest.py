"""Detectors small enough to train in a test."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from anomaly_gan.methods.anomaly_gan import AnomalyGAN
from anomaly_gan.methods.phased import PhaseSettings
from anomaly_gan.networks.autoencoders import ResNet
from anomaly_gan.objectives import Step
from anomaly_gan.optimizers import Adam
from anomaly_gan.randomness import RowRng, make_rng
from anomaly_gan.sharding import Shard
from anomaly_gan.transforms.augment import Augment
from anomaly_gan.transforms.diff_augment import DiffAugment
from anomaly_gan.transforms.shifts import Rotations
from anomaly_gan.transforms.views import ShiftedViews

SHIPPED = Path(__file__).parents[2] / "conf" / "method" / "anomaly_gan.yaml"


@pytest.fixture(scope="session")
def shipped() -> dict[str, Any]:
    """The method's configuration as it is shipped."""
    return yaml.safe_load(SHIPPED.read_text())


@pytest.fixture
def phase_settings(shipped) -> Callable[..., dict[str, PhaseSettings]]:
    """The shipped settings of all lines but for the changes: `all_lines=` of each, others by name."""

    def make(all_lines: dict[str, Any] | None = None, **lines: dict[str, Any]) -> dict[str, PhaseSettings]:
        unknown = set(lines) - set(shipped["phases"])
        assert not unknown
        return {
            name: PhaseSettings(
                **{key: value for key, value in settings.items() if key != "_target_"}
                | (all_lines or {})
                | lines.get(name, {})
            )
            for name, settings in shipped["phases"].items()
        }

    return make


@pytest.fixture
def make_detector(phase_settings) -> Callable[..., AnomalyGAN]:
    def make(**changes: Any) -> AnomalyGAN:
        settings: dict[str, Any] = {
            "image_size": 16,
            "channels": 1,
            "ablation": "csi",
            "width": 8,
            "embedding_size": 12,
            "networks": ResNet(width=8, latent_size=6),
            "views": ShiftedViews(Rotations(), Augment()),
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
            "primary": "csi",
            "ensemble": 2,
            "chunk": 64,
            "scoring_precision": "32-true",
            "recalibrate_batch_norm": True,
        }
        return AnomalyGAN(**settings | changes)

    return make


@pytest.fixture
def make_step() -> Callable[..., Step]:
    """A step of `detector` outside of a training: four inliers and h of their number, by `seed`."""

    def make(detector: AnomalyGAN, seed: int = 0, images: torch.Tensor | None = None) -> Step:
        generator = make_rng("cpu", seed, "test")
        side, count = detector.image_size, 4 * detector.latents_per_image
        if images is None:
            images = torch.rand(4, 1, side, side, generator=generator)
        return Step(
            networks=dict(detector.networks.items()),
            images=images,
            latents=torch.randn(count, detector.latent_size, generator=generator),
            views=detector.views,
            temperature=detector.temperature,
            adversarial=detector.adversarial,
            diff_augment=detector.diff_augment,
            generator_side=detector.generator_side,
            shard=Shard(len(images)),
            rng=RowRng(generator),
        )

    return make


@pytest.fixture
def small_method(shipped) -> Callable[..., dict[str, Any]]:
    """The shipped configuration with small networks and no interpolations, for `checkpoint.build_method`."""

    def make(**changes: Any) -> dict[str, Any]:
        return (
            copy.deepcopy(shipped)
            | {
                "ablation": "csi",
                "width": 8,
                "embedding_size": 12,
                "networks": {
                    "_target_": "anomaly_gan.networks.autoencoders.ResNet",
                    "width": 8,
                    "latent_size": 6,
                },
                "optimizer": {"_target_": "anomaly_gan.optimizers.Adam"},
                "seed": 0,
                "log_every_iterations": 1,
                "primary": "csi",
                "ensemble": 1,
                "chunk": 64,
                "scoring_precision": "32-true",
                "recalibrate_batch_norm": True,
            }
            | changes
        )

    return make
