"""What every method promises (methods/base.py)."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from anomaly_gan import checkpoint
from anomaly_gan.data.normal_images import NormalImages
from anomaly_gan.methods.base import AnomalyDetector
from anomaly_gan.methods.raw_pixels import RawPixels
from anomaly_gan.scoring.scores import PARTS, SCORES

ABLATIONS = ["csi", "csi_g", "full"]
METHODS = [*ABLATIONS, "raw_pixels"]


@pytest.fixture
def fitted(make_detector) -> Callable[[str], AnomalyDetector]:
    def make(method: str) -> AnomalyDetector:
        torch.manual_seed(0)
        detector = RawPixels() if method == "raw_pixels" else make_detector(ablation=method)
        detector.fit_scorer(normal_images().split(7))
        return detector

    return make


def normal_images() -> torch.Tensor:
    return torch.rand(20, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def test_images() -> torch.Tensor:
    return torch.rand(9, 1, 16, 16, generator=torch.Generator().manual_seed(2))


test_images.__test__ = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", METHODS)
def test_a_score_is_one_finite_number_an_image(fitted, method: str) -> None:
    scores = fitted(method).score(test_images())
    assert scores.shape == (9,)
    assert scores.isfinite().all()
    assert len(scores.unique()) == 9


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_the_same_every_time(fitted, method: str) -> None:
    detector = fitted(method)
    assert torch.equal(detector.score(test_images()), detector.score(test_images()))


@pytest.mark.parametrize("method", METHODS)
def test_a_score_does_not_depend_on_what_else_is_in_the_batch(fitted, method: str) -> None:
    detector, images = fitted(method), test_images()
    together = detector.score_all(images)
    order = torch.randperm(9)
    shuffled = detector.score_all(images[order])
    alone = [detector.score_all(image[None]) for image in images]
    for name, values in together.items():
        torch.testing.assert_close(shuffled[name], values[order], rtol=1e-4, atol=1e-5, msg=name)
        torch.testing.assert_close(
            torch.cat([s[name] for s in alone]), values, rtol=1e-4, atol=1e-5, msg=name
        )


@pytest.mark.parametrize("method", METHODS)
def test_scoring_changes_nothing_in_the_detector(fitted, method: str) -> None:
    detector = fitted(method)
    before = copy.deepcopy(detector.state_dict())
    detector.score(test_images())
    for name, value in detector.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_scores_of_all_forms_and_parts_are_given(fitted) -> None:
    names = {name + form for name in SCORES + PARTS for form in ("", "_ens")}
    assert set(fitted("csi").score_all(test_images())) == names


def test_without_an_ensemble_there_are_no_ensemble_scores(make_detector) -> None:
    detector = make_detector(ensemble=0)
    detector.fit_scorer([normal_images()])
    assert set(detector.score_all(test_images())) == set(SCORES + PARTS)
    assert detector.primary == "csi"
    assert make_detector(ensemble=1, primary="paper").primary == "paper_ens"


def test_embeddings_and_logits_belong_to_their_own_image_and_shift(make_detector) -> None:
    detector, images = make_detector().eval(), test_images()
    embeddings, logits = detector.embed(images, "plain")
    for i, image in enumerate(images):
        for k in range(4):
            features = detector.networks["feature_extractor"](image.rot90(k, (1, 2))[None])
            torch.testing.assert_close(embeddings[i, k], features.embedding[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(logits[i, k], features.shift_logits[0, k], rtol=1e-4, atol=1e-5)


def test_the_ensemble_averages_embeddings_over_its_draws(make_detector) -> None:
    detector, images = make_detector(ensemble=3).eval(), test_images()
    embeddings, _ = detector.embed(images, "ensemble")
    network = detector.networks["feature_extractor"]
    draws = [network(detector.views.ensemble(images, r, 0)).embedding.view(4, 9, -1) for r in range(3)]
    expected = torch.stack(draws).mean(0).transpose(0, 1)
    torch.testing.assert_close(embeddings, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recalibrate", [False, True])
def test_the_chunk_does_not_change_a_score(make_detector, recalibrate: bool) -> None:
    scores = []
    # Recalibration sees the variance within a batch: batches of one image would be another matter.
    for chunk in (40, 64, 1000):
        torch.manual_seed(0)
        detector = make_detector(chunk=chunk, recalibrate_batch_norm=recalibrate)
        detector.fit_scorer([normal_images()])
        scores.append(detector.score(test_images()))
    tolerance = {"rtol": 0.05, "atol": 0.05} if recalibrate else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(scores[0], scores[2], **tolerance)
    torch.testing.assert_close(scores[1], scores[2], **tolerance)


def test_no_more_views_than_the_chunk_pass_through_f_at_once(make_detector) -> None:
    detector = make_detector(chunk=12)
    sizes = []
    detector.networks["feature_extractor"].register_forward_hook(
        lambda _, args, __: sizes.append(len(args[0]))
    )
    detector.fit_scorer([normal_images()])
    detector.score(test_images())
    assert max(sizes) == 12


def test_recalibration_gives_the_statistics_of_the_normal_images(make_detector) -> None:
    detector = make_detector(ensemble=0, chunk=1000)
    first = next(m for m in detector.modules() if isinstance(m, _BatchNorm))
    before = first.momentum
    inputs = []
    first.register_forward_hook(lambda _, args, __: inputs.append(args[0].detach()))
    detector.fit_scorer([normal_images()])
    seen = inputs[0]  # the one batch of the recalibration
    torch.testing.assert_close(first.running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.running_var, seen.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert first.momentum == before


def test_without_recalibration_the_training_statistics_stay(make_detector) -> None:
    detector = make_detector(recalibrate_batch_norm=False)
    before = {n: v.clone() for n, v in detector.named_buffers() if "running" in n}
    detector.fit_scorer([normal_images()])
    assert all(torch.equal(value, before[name]) for name, value in detector.named_buffers() if name in before)


def test_scoring_in_half_precision_changes_the_convolutions_and_little_else(make_detector) -> None:
    scores = {}
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        detector = make_detector(scoring_precision=precision)
        detector.fit_scorer(normal_images().split(7))
        scores[precision] = detector.score_all(test_images())
    whole, half = scores["32-true"]["paper"], scores["bf16-mixed"]["paper"]
    assert half.dtype == torch.float32
    assert not torch.equal(half, whole)
    torch.testing.assert_close(half, whole, rtol=0.05, atol=0.05)


def test_an_unsure_shift_head_is_said(make_detector) -> None:
    detector = make_detector()
    with torch.no_grad():
        detector.networks["feature_extractor"].shift_head.bias.copy_(torch.tensor([-9.0, 9.0, 9.0, 9.0]))
    with pytest.warns(UserWarning, match=r"shifts \[0\]"):
        detector.fit_scorer([normal_images()])


def test_a_normal_image_seen_in_training_is_the_least_anomalous_by_raw_pixels(fitted) -> None:
    scores = fitted("raw_pixels").score(torch.cat([normal_images()[:1], test_images()]))
    assert scores[0] < 1e-3
    assert scores[0] == scores.min()


def test_raw_pixels_is_the_distance_to_the_nearest_normal_image(fitted) -> None:
    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(n_neighbors=1).fit(normal_images().flatten(1).numpy())
    expected = neighbours.kneighbors(test_images().flatten(1).numpy())[0][:, 0]
    torch.testing.assert_close(fitted("raw_pixels").score(test_images()), torch.from_numpy(expected).float())


@pytest.mark.parametrize("method", METHODS)
def test_a_method_says_what_pictures_it_can_make(fitted, method: str) -> None:
    detector = fitted(method)
    assert detector.generates == (method in ("csi_g", "full"))
    assert detector.reconstructs == (method == "full")


@pytest.mark.parametrize("method", ["csi_g", "full"])
def test_generated_images_are_in_range_and_the_same_for_the_same_purpose(fitted, method: str) -> None:
    detector = fitted(method)
    before = torch.get_rng_state()
    images = detector.train().generate(70, "pictures")  # more than a chunk
    assert images.shape == (70, 1, 16, 16)
    assert images.min() >= 0
    assert images.max() <= 1
    assert len(images.flatten(1).unique(dim=0)) == 70
    assert torch.equal(detector.generate(70, "pictures"), images)
    assert not torch.isclose(detector.generate(70, "metrics"), images).all()
    assert not torch.isclose(detector.generate(70, "pictures", 1), images).all()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_reconstruction_has_the_shape_and_range_of_its_image_and_depends_on_it_alone(fitted) -> None:
    detector, images = fitted("full").train(), test_images()
    made = detector.reconstruct(images)
    assert made.shape == images.shape
    assert made.min() >= 0
    assert made.max() <= 1
    assert torch.equal(detector.reconstruct(images), made)
    assert len(made.flatten(1).unique(dim=0)) == 9
    alone = torch.cat([detector.reconstruct(image[None]) for image in images])
    torch.testing.assert_close(alone, made, rtol=1e-4, atol=1e-5)


def test_making_pictures_changes_nothing_in_the_detector(fitted) -> None:
    detector = fitted("full").train()
    before = copy.deepcopy(detector.state_dict())
    assert not detector.generate(3, "test").requires_grad
    assert not detector.reconstruct(test_images()).requires_grad
    for name, value in detector.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("method", ["raw_pixels", "csi"])
def test_a_method_without_a_generator_generates_nothing(fitted, method: str) -> None:
    with pytest.raises(TypeError, match="generates nothing"):
        fitted(method).generate(3, "test")


@pytest.mark.parametrize("method", ["raw_pixels", "csi", "csi_g"])
def test_a_method_without_an_encoder_reconstructs_nothing(fitted, method: str) -> None:
    with pytest.raises(TypeError, match="reconstructs nothing"):
        fitted(method).reconstruct(test_images())


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("average", [None, 0.5])
def test_a_detector_scores_and_draws_the_same_after_a_trip_through_its_file(
    small_method, tmp_path: Path, ablation: str, average: float | None
) -> None:
    torch.manual_seed(3)
    method = small_method(ablation=ablation, generator_average=average)
    of_data = {"dataset": "noise", "normal_class": "all", "class_names": ["all"], "resize": "stretch"}
    data = of_data | {"image_size": 16, "channels": 1, "iterations": 1}
    config = {"method": method, "data": {}, "ablation": {"name": ablation}, "seed": 0}
    detector = checkpoint.build_method(method, data)
    if detector.average is not None:  # not what a new one starts with
        detector.average.update_parameters(detector.networks["generator"])
        with torch.no_grad():
            for parameter in detector.networks["generator"].parameters():
                parameter.add_(0.1)
        detector.average.update_parameters(detector.networks["generator"])
    detector.fit_scorer([normal_images()])
    checkpoint.save(tmp_path / "detector.ckpt", detector, config, data, None, NormalImages([], None))
    loaded = checkpoint.read(tmp_path).build()
    for name, values in detector.score_all(test_images()).items():
        assert torch.equal(loaded.score_all(test_images())[name], values), name
    if detector.generates:
        assert torch.equal(loaded.generate(4, "test"), detector.generate(4, "test"))
        assert torch.equal(loaded.draw_latents(4, "test"), detector.draw_latents(4, "test"))
    if detector.reconstructs:
        assert torch.equal(loaded.reconstruct(test_images()), detector.reconstruct(test_images()))
