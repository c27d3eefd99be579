"""Geom: cross-entropy of the transform that each image is under, drawn anew in every iteration."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from recipes import SMALL, Config, composed, loaded, of_images, train, untrained
from scipy import stats

from anomaly_gan.methods.geom import TransformedStep, classification
from anomaly_gan.randomness import RowRng, make_rng
from anomaly_gan.sharding import Shard
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.transforms.geometric import Geometric

K = Geometric().count


@pytest.fixture
def config() -> Config:
    return composed("geom", *SMALL)


def step(
    config: Config, images: torch.Tensor, iteration: int = 0, shard: Shard | None = None
) -> TransformedStep:
    """What `iteration` is made of: in a process that has the rows `shard` of its images."""
    geom = untrained(config, of_images(16, 1))
    shard = shard or Shard(len(images))

    def rng(purpose: str) -> RowRng:
        return RowRng(make_rng("cpu", 0, purpose, iteration), shard)

    found = geom.make_step(images[shard.first : shard.first + shard.rows], shard, rng)
    assert isinstance(found, TransformedStep)
    return found


def test_the_loss_is_the_mean_over_images_of_minus_the_log_softmax_of_their_transform(config: Config) -> None:
    given = step(config, torch.rand(6, 1, 16, 16))
    (found,) = classification(given).values()
    network = given.networks["classifier"]
    logits = network(given.images).logits.double().detach().numpy()
    naive = 0.0
    for row, label in zip(logits, given.labels.tolist(), strict=True):
        naive += np.log(np.exp(row).sum()) - row[label]
    assert found.item() == pytest.approx(naive / 6, rel=1e-5)


def test_the_gradient_is_that_of_the_softmax_less_the_label(config: Config) -> None:
    given = step(config, torch.rand(6, 1, 16, 16))
    head = given.networks["classifier"].head
    (loss,) = classification(given).values()
    (found,) = torch.autograd.grad(loss, [head.bias])
    with torch.no_grad():
        logits = given.networks["classifier"](given.images).logits
        expected = (logits.softmax(1) - F.one_hot(given.labels, K)).mean(0)
    torch.testing.assert_close(found, expected)


def test_each_image_is_under_the_transform_that_its_label_names(config: Config) -> None:
    images = torch.rand(20, 1, 16, 16)
    given = step(config, images)
    views = Geometric()(images).view(K, 20, 1, 16, 16)
    for row, label in enumerate(given.labels.tolist()):
        assert torch.equal(given.images[row], views[label, row])


def test_labels_are_uniform_over_all_transforms_and_new_in_every_iteration(config: Config) -> None:
    images = torch.zeros(1000, 1, 16, 16)
    drawn = [step(config, images, iteration).labels for iteration in range(36)]
    assert not torch.equal(drawn[0], drawn[1])
    counts = torch.cat(drawn).bincount(minlength=K)
    assert len(counts) == K
    # 500 of each on average. One in a million of such tests would find less likely counts by chance.
    assert stats.chisquare(counts.numpy()).pvalue > 1e-6


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_draw_together_what_one_draws(config: Config, processes: int) -> None:
    images = torch.rand(7, 1, 16, 16)
    whole = step(config, images, 5)
    shards = [step(config, images, 5, Shard(7, process, processes)) for process in range(processes)]
    assert torch.equal(torch.cat([shard.labels for shard in shards]), whole.labels)
    assert torch.equal(torch.cat([shard.images for shard in shards]), whole.images)


class Steps(pl.Callback):
    """Labels and images of every iteration."""

    def __init__(self) -> None:
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        given = pl_module.step_of(batch)
        self.seen.append((given.labels, given.images))
        assert torch.equal(given.images, Geometric().single(to_float(batch.images), given.labels))


def test_a_resumed_training_goes_on_with_the_transforms_of_the_uninterrupted_one(
    config: Config, tmp_path: Path
) -> None:
    whole, rest = Steps(), Steps()
    for start, steps in ((0, whole), (2, rest)):
        data = loaded(config, 4)
        geom = untrained(config, data.describe())
        keep = tmp_path / "2.ckpt"

        class Keep(pl.Callback):
            def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
                if pl_module.iteration == 1:
                    trainer.save_checkpoint(keep)  # noqa: B023

        data.start_iteration = start
        train(geom, data, config, tmp_path, steps, Keep(), resume=keep if start else None)
    assert len(whole.seen) == 4
    assert len(rest.seen) == 2
    for (labels, images), (again, same) in zip(whole.seen[2:], rest.seen, strict=True):
        assert torch.equal(labels, again)
        assert torch.equal(images, same)
