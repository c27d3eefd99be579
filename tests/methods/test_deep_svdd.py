"""Deep SVDD's losses, centre and range against naive loops; its learning rates against the released ones."""

import numpy as np
import pytest
import torch
from shipped import method_of, step_of
from torch import Tensor

from anomaly_gan.errors import UserError
from anomaly_gan.methods.base import Method
from anomaly_gan.methods.deep_svdd import LEAST, one_class, reconstruction


def make(channels: int = 1) -> Method:
    return method_of("deep_svdd", "width=16", "scoring.embedding_size=16", channels=channels)


def normal(channels: int = 1) -> list[Tensor]:
    """Batches, not all of one length."""
    return list(torch.rand(11, channels, 16, 16).split(4))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_range_is_from_the_least_to_the_largest_value_of_all_normal_images(channels: int) -> None:
    method, batches = make(channels=channels), normal(channels)
    method.set_range(batches)
    values = []
    for image in torch.cat(batches).numpy():
        deviations = image - image.mean()
        values.append(deviations / np.abs(deviations).mean())
    assert method.scorer.low.item() == pytest.approx(np.min(values), rel=1e-5)
    assert method.scorer.high.item() == pytest.approx(np.max(values), rel=1e-5)
    prepared = method.scorer.prepared(torch.cat(batches))
    assert prepared.min().item() == pytest.approx(0, abs=1e-6)
    assert prepared.max().item() == pytest.approx(1, abs=1e-6)


def test_images_without_contrast_are_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match=r"one colour.*method="):
        make().set_range([torch.full((3, 1, 16, 16), 0.5), torch.zeros(1, 1, 16, 16)])


def test_the_centre_is_the_mean_embedding_in_evaluation_mode() -> None:
    method, batches = make(), normal()
    network = method.scorer.network
    network.train()
    for images in batches:
        network(images)  # running statistics of their own
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        network.linear.weight.mul_(30)  # most coordinates away from 0
        method.set_range(batches)
        method.set_centre(batches)
        assert network.training
        network.eval()
        expected = torch.cat([method.scorer.embed(images) for images in batches]).double().mean(0)
    before["linear.weight"] = network.linear.weight
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    far = expected.abs() > LEAST
    assert far.sum() > 8
    torch.testing.assert_close(method.scorer.centre[far].double(), expected[far])


def test_no_coordinate_of_the_centre_is_near_0_but_an_exact_0_stays() -> None:
    method, batches = make(), normal()
    with torch.no_grad():
        network = method.scorer.network
        network.linear.weight[0] = 0.0
        network.linear.weight[1] = network.linear.weight[2].abs() / 100
        network.linear.weight[2] = -network.linear.weight[1]
        network.linear.weight[3] = 100 * network.linear.weight[1]
        network.eval()
        means = torch.cat([method.scorer.embed(images) for images in batches]).mean(0)
        method.set_centre(batches)
    centre = method.scorer.centre
    assert 0 < means[1] < LEAST  # the case that is asked for
    assert centre[0] == 0
    assert (centre[1:].abs() >= LEAST - 1e-7).all()
    assert torch.equal(centre.sign(), means.sign())
    assert centre[1:3].tolist() == pytest.approx([LEAST, -LEAST])
    torch.testing.assert_close(centre[3], means[3])


@pytest.mark.parametrize("channels", [1, 3])
def test_the_losses_are_those_of_the_paper(channels: int) -> None:
    method = make(channels=channels).double()
    method.set_range(normal(channels))
    method.scorer.centre = torch.randn(16, dtype=torch.float64)
    images = torch.rand(5, channels, 16, 16, dtype=torch.float64)
    step = step_of(method, images)
    assert torch.equal(step.images, method.scorer.prepared(images))
    embeddings = method.networks["encoder"](step.images)
    made = method.networks["decoder"](embeddings)
    squares = [
        sum((a - b) ** 2 for a, b in zip(one.flatten().tolist(), two.flatten().tolist(), strict=True))
        for one, two in zip(made, step.images, strict=True)
    ]
    (found,) = reconstruction(step).values()
    assert found.item() == pytest.approx(sum(squares) / 5, rel=1e-10)
    distances = [
        sum((a - b) ** 2 for a, b in zip(row, method.scorer.centre.tolist(), strict=True))
        for row in embeddings.tolist()
    ]
    (found,) = one_class(step).values()
    assert found.item() == pytest.approx(sum(distances) / 5, rel=1e-10)


def test_the_two_stages_have_the_released_lengths_and_learning_rates() -> None:
    method = method_of("deep_svdd", side=32, channels=3, iterations=500 * 25)
    assert [method.timetable.start(stage) for stage in range(3)] == [0, 350 * 25, 500 * 25]
    for stage, passes, rate in [
        ("autoencoder", 0, 1e-4),
        ("autoencoder", 249, 1e-4),
        ("autoencoder", 250, 1e-5),
        ("autoencoder", 349, 1e-5),
        ("one_class", 350, 1e-4),
        ("one_class", 350 + 49, 1e-4),
        ("one_class", 350 + 50, 1e-5),
        ("one_class", 499, 1e-5),
    ]:
        of_stage = method.recipe(stage, "encoder")
        assert of_stage.rate(method.timetable.progress(25 * passes)) == pytest.approx(rate)
        (group,) = of_stage.optimizer(method.networks["encoder"].parameters()).param_groups
        assert group["weight_decay"] == 5e-7


def test_another_optimizer_can_be_chosen() -> None:
    method = method_of("deep_svdd", "optimizer=csi_sgd", "optimizer.learning_rate=0.003")
    for stage in ("autoencoder", "one_class"):
        recipe = method.recipe(stage, "encoder")
        assert isinstance(recipe.optimizer(method.networks["encoder"].parameters()), torch.optim.SGD)
        assert recipe.learning_rate == 0.003
    assert method.recipe("one_class", "encoder").milestones == [1 / 3]
