"""A detector small enough to train in a test."""

from collections.abc import Callable
from typing import Any

import pytest

from anomaly_gan.methods.anomaly_gan import AnomalyGAN
from anomaly_gan.optimizers import Adam
from anomaly_gan.transforms.augment import Augment
from anomaly_gan.transforms.shifts import Rotations
from anomaly_gan.transforms.views import ShiftedViews


@pytest.fixture
def make_detector() -> Callable[..., AnomalyGAN]:
    def make(**changes: Any) -> AnomalyGAN:
        settings: dict[str, Any] = {
            "image_size": 16,
            "channels": 1,
            "ablation": "csi",
            "width": 8,
            "embedding_size": 12,
            "views": ShiftedViews(Rotations(), Augment()),
            "optimizer": Adam(learning_rate=1e-3),
            "total_iterations": 10,
            "temperature": 0.5,
            "weights": {"feature": {"contrastive": 1.0, "shift_classification": 1.0}},
            "seed": 0,
            "log_every_iterations": 1,
            "primary": "csi",
            "ensemble": 2,
            "chunk": 64,
            "recalibrate_batch_norm": True,
        }
        return AnomalyGAN(**settings | changes)

    return make
