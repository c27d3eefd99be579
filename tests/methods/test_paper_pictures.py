"""The pictures that a detector of the paper makes, and what becomes of G, E and G's average in its file."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from anomaly_gan import checkpoint
from anomaly_gan.build import build_method
from anomaly_gan.data.normal_images import NormalImages
from anomaly_gan.errors import UserError
from anomaly_gan.methods.paper.algorithm import ABLATIONS
from anomaly_gan.scoring.neighbours import NearestNeighbours


def normal_images() -> torch.Tensor:
    return torch.rand(20, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def unseen_images() -> torch.Tensor:
    return torch.rand(9, 1, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def scorer_of(make_method) -> Callable[[str], NearestNeighbours]:
    return lambda name: make_method(name).scorer


@pytest.mark.parametrize("name", list(ABLATIONS))
def test_a_method_says_what_pictures_it_can_make(make_method, name: str) -> None:
    method = make_method(name)
    assert method.generates == method.scorer.generates == (name in ("csi_g", "full"))
    assert method.scorer.reconstructs == (name == "full")


@pytest.mark.parametrize("name", ["csi_g", "full"])
def test_generated_images_are_in_range_and_the_same_for_the_same_purpose(scorer_of, name: str) -> None:
    scorer = scorer_of(name)
    before = torch.get_rng_state()
    images = scorer.train().generate(70, "pictures")  # more than a chunk
    assert images.shape == (70, 1, 16, 16)
    assert images.min() >= 0
    assert images.max() <= 1
    assert len(images.flatten(1).unique(dim=0)) == 70
    assert torch.equal(scorer.generate(70, "pictures"), images)
    assert not torch.isclose(scorer.generate(70, "metrics"), images).all()
    assert not torch.isclose(scorer.generate(70, "pictures", 1), images).all()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_reconstruction_has_the_shape_and_range_of_its_image_and_depends_on_it_alone(scorer_of) -> None:
    scorer, images = scorer_of("full").train(), unseen_images()
    made = scorer.reconstruct(images)
    assert made.shape == images.shape
    assert made.min() >= 0
    assert made.max() <= 1
    assert torch.equal(scorer.reconstruct(images), made)
    assert len(made.flatten(1).unique(dim=0)) == 9
    alone = torch.cat([scorer.reconstruct(image[None]) for image in images])
    torch.testing.assert_close(alone, made, rtol=1e-4, atol=1e-5)


def test_making_pictures_changes_nothing_in_the_method(make_method) -> None:
    method = make_method("full").train()
    before = copy.deepcopy(method.state_dict())
    assert not method.scorer.generate(3, "test").requires_grad
    assert not method.scorer.reconstruct(unseen_images()).requires_grad
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_without_a_generator_nothing_is_generated(scorer_of) -> None:
    with pytest.raises(UserError, match=r"without a generator.*ablation=full has one"):
        scorer_of("csi").generate(3, "test")


@pytest.mark.parametrize("name", ["csi", "csi_g"])
def test_without_an_encoder_nothing_is_reconstructed(scorer_of, name: str) -> None:
    with pytest.raises(UserError, match=r"without an encoder.*ablation=full has one"):
        scorer_of(name).reconstruct(unseen_images())


@pytest.mark.parametrize("name", list(ABLATIONS))
@pytest.mark.parametrize("average", [None, 0.5])
def test_a_detector_scores_and_draws_the_same_after_a_trip_through_its_file(
    small_config, tmp_path: Path, name: str, average: float | None
) -> None:
    torch.manual_seed(3)
    config = small_config(name, generator_average=average) | {"data": {}, "seed": 0}
    of_data = {"dataset": "noise", "normal_class": "all", "class_names": ["all"], "resize": "stretch"}
    data = of_data | {"image_size": 16, "channels": 1, "iterations": 1}
    method = build_method(config, data)
    scorer = method.scorer
    if method.average is not None:  # not what a new one starts with
        method.average.update_parameters(method.networks["generator"])
        with torch.no_grad():
            for parameter in method.networks["generator"].parameters():
                parameter.add_(0.1)
        method.average.update_parameters(method.networks["generator"])
    scorer.fit([normal_images()])
    checkpoint.save(tmp_path / "detector.ckpt", scorer, config, data, None, NormalImages([], None))
    loaded = checkpoint.read(tmp_path).build()
    for key, values in scorer.scores(unseen_images()).items():
        assert torch.equal(loaded.scores(unseen_images())[key], values), key
    assert (loaded.generates, loaded.reconstructs) == (scorer.generates, scorer.reconstructs)
    if scorer.generates:
        assert torch.equal(loaded.generate(4, "test"), scorer.generate(4, "test"))
        assert torch.equal(loaded.draw_latents(4, "test"), scorer.draw_latents(4, "test"))
    if scorer.reconstructs:
        assert torch.equal(loaded.reconstruct(unseen_images()), scorer.reconstruct(unseen_images()))
