"""Generator metrics against their definitions; the feature networks against what they promise."""

import json
import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from anomaly_gan.errors import UserError
from anomaly_gan.metrics import generator
from anomaly_gan.metrics.generator import (
    FeatureNetwork,
    Inception,
    RandomResNet18,
    compare,
    extract,
    feature_network,
    generator_quality,
)

SETTING = "generator_metrics.inception_weights=FILE"


@pytest.fixture(scope="module")
def stand_in() -> RandomResNet18:
    return RandomResNet18()


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The FID network's weights, but random."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        patch.setattr(
            "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *_, **__: {}
        )
        state = FeatureExtractorInceptionV3("any", ["2048"]).state_dict()
    for name in state:
        if name.endswith("conv.weight"):
            state[name] *= 6**0.5  # or the signal would be lost on its way through 90 layers
    file = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(state, file)
    return file


# Distances.


def test_the_frechet_distance_is_the_closed_form_of_two_gaussians() -> None:
    generated = torch.randn(60, 6) @ torch.randn(6, 6)
    real = torch.randn(90, 6) @ torch.randn(6, 6) + 1
    (m1, s1), (m2, s2) = [
        (x.double().numpy().mean(0), np.cov(x.double().numpy().T)) for x in (generated, real)
    ]
    truth = ((m1 - m2) ** 2).sum() + np.trace(s1 + s2 - 2 * scipy.linalg.sqrtm(s1 @ s2).real)
    assert compare("inception", generated, real)["fid"] == pytest.approx(truth, rel=1e-9)


def test_a_shift_moves_the_frechet_distance_by_its_squared_length_and_a_scale_by_the_variance() -> None:
    real = torch.randn(50, 8)
    for shift in (0.5, 1.0, 2.0):
        assert compare("inception", real + shift, real)["fid"] == pytest.approx(8 * shift**2, rel=1e-5)
    scaled = real.mean(0) + 3 * (real - real.mean(0))
    assert compare("inception", scaled, real)["fid"] == pytest.approx(4 * real.var(0).sum().item(), rel=1e-5)


@pytest.mark.parametrize(("m", "n"), [(2, 2), (7, 12), (30, 50)])
def test_fewer_images_than_features_give_the_frechet_distance_all_the_same(m: int, n: int) -> None:
    generated, real = torch.rand(m, 128).double(), torch.rand(n, 128).double() + 0.1
    a, b = [(x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (generated, real)]
    overlap = torch.linalg.svdvals(a @ b.T).sum()  # the trace of (S1 S2)^(1/2), from the roots of S1 and S2
    truth = (
        (generated.mean(0) - real.mean(0)).square().sum() + a.square().sum() + b.square().sum() - 2 * overlap
    )
    found = compare("inception", generated.float(), real.float())["fid"]
    assert found == pytest.approx(truth.item(), rel=1e-5)


def test_the_kernel_distance_is_the_unbiased_squared_mmd_of_the_cubic_kernel() -> None:
    x, y = torch.randn(12, 5), torch.randn(12, 5) + 0.5

    def kernel(a: Tensor, b: Tensor) -> float:
        return (float(a.double() @ b.double()) / 5 + 1) ** 3

    within = sum(kernel(s[i], s[j]) for s in (x, y) for i in range(12) for j in range(12) if i != j) / (
        12 * 11
    )
    between = sum(kernel(a, b) for a in x for b in y) / 144
    assert compare("inception", x, y)["kid"] == pytest.approx(within - 2 * between, rel=1e-9)


def test_the_subsets_of_the_kernel_distance_are_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    generated, real = torch.randn(40, 5), torch.randn(30, 5)
    whole = compare("inception", generated[:30], real)["kid"]
    monkeypatch.setattr(generator, "KID_SUBSET_SIZE", 10)
    first = compare("inception", generated[:30], real)["kid"]
    np.random.seed(7)
    torch.manual_seed(7)
    assert compare("inception", generated[:30], real)["kid"] == first != whole
    assert np.isfinite(compare("inception", generated, real)["kid"])


def test_precision_and_recall_are_the_shares_of_images_inside_the_other_sets_balls() -> None:
    generated, real = torch.randn(40, 3) * 0.6 + 0.7, torch.randn(55, 3)

    def covered(inner: Tensor, outer: Tensor) -> float:
        hits = 0
        for point in inner:
            for centre in outer:
                radius = sorted(torch.dist(centre, other).item() for other in outer)[
                    3
                ]  # [0] is the centre itself
                if torch.dist(point, centre) <= radius:
                    hits += 1
                    break
        return hits / len(inner)

    found = compare("inception", generated, real)
    truth = covered(generated, real), covered(real, generated)
    assert truth[0] != pytest.approx(truth[1], abs=0.05)  # or the two could be swapped
    assert (found["precision"], found["recall"]) == pytest.approx(truth)


def test_a_generator_that_repeats_one_good_image_is_precise_and_recalls_nothing() -> None:
    real = torch.randn(50, 4)
    found = compare("inception", real[:1].expand(50, -1) * 1.01, real)
    assert (found["precision"], found["recall"]) == (1, 0)


def test_equal_sets_are_perfect() -> None:
    real = torch.rand(20, 64)
    found = compare("inception", real, real)
    assert 0 <= found["fid"] < 1e-4
    assert (found["precision"], found["recall"]) == (1, 1)


# What is said where there is little to say it from.


@pytest.mark.parametrize(("count", "absent"), [(1, {"fid", "kid", "precision", "recall"}),
                                               (3, {"precision", "recall"}), (4, set())])  # fmt: skip
def test_sets_too_small_for_a_metric_go_without_it(count: int, absent: set[str]) -> None:
    few, many = torch.randn(count, 5), torch.randn(10, 5)
    for found in (compare("inception", few, many), compare("inception", many, few)):
        assert {key for key, value in found.items() if value is None} == absent


def test_features_that_are_not_finite_are_compared_with_nothing() -> None:
    broken = torch.randn(10, 5)
    broken[3, 2] = torch.nan
    assert set(compare("inception", broken, torch.randn(10, 5)).values()) == {None}


def test_only_inception_figures_carry_the_bare_names() -> None:
    generated, real = torch.randn(8, 5), torch.randn(8, 5)
    bare, marked = compare("inception", generated, real), compare("random_resnet18", generated, real)
    assert list(bare) == ["fid", "kid", "precision", "recall"]
    assert list(marked) == [
        f"{metric}_random_resnet18" for metric in ("frechet", "kid", "precision", "recall")
    ]
    assert list(bare.values()) == list(marked.values())


# From images to figures.


def test_quality_sets_the_generated_beside_the_floor(stand_in: RandomResNet18) -> None:
    train, test = torch.rand(12, 1, 8, 8), torch.rand(6, 1, 8, 8)
    generated = torch.rand(8, 1, 8, 8) / 2
    batches = [train[:7], train[7:]]
    found = generator_quality(stand_in, [generated], batches, [test])
    train_features = extract(stand_in, [train])
    assert found["network"] == "random_resnet18"
    assert found["counts"] == {"generated": 8, "train": 12, "test": 6}
    for part, images in (("generated", generated), ("floor", test)):
        truth = compare("random_resnet18", extract(stand_in, [images]), train_features)
        assert found[part] == pytest.approx(truth, rel=1e-4)
    frechet = "frechet_random_resnet18"
    assert found["generated"][frechet] > found["floor"][frechet]
    assert json.loads(json.dumps(found)) == found


def test_the_floor_of_the_training_images_themselves_is_perfect_and_without_test_images_absent(
    stand_in: RandomResNet18,
) -> None:
    train = [torch.rand(6, 3, 8, 8)]
    floor = generator_quality(stand_in, train, train, train)["floor"]
    assert floor["frechet_random_resnet18"] < 1e-3
    assert floor["precision_random_resnet18"] == floor["recall_random_resnet18"] == 1
    found = generator_quality(stand_in, train, train, None)
    assert found["floor"] is None
    assert found["counts"]["test"] is None


def test_features_do_not_depend_on_the_batches_and_carry_no_gradient(stand_in: RandomResNet18) -> None:
    images = torch.rand(5, 3, 8, 8, requires_grad=True)
    together, apart = extract(stand_in, [images]), extract(stand_in, images.split(2))
    assert together.shape == (5, 512)
    assert together.dtype == torch.float32
    assert not together.requires_grad
    torch.testing.assert_close(together, apart)


# The stand-in.


def test_the_stand_in_is_the_same_under_every_seed_and_leaves_the_seed_alone(
    stand_in: RandomResNet18,
) -> None:
    images = torch.rand(2, 3, 16, 16)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    other = feature_network(None)
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(other, RandomResNet18)
    assert torch.equal(extract(other, [images]), extract(stand_in, [images]))


def test_the_stand_in_draws_the_weights_it_always_drew(stand_in: RandomResNet18) -> None:
    # Figures of different runs and machines are only comparable while these weights stay.
    first, last = stand_in.network.conv1.weight, stand_in.network.layer4[1].conv2.weight
    drawn = [*first.flatten()[:3].tolist(), *last.flatten()[-3:].tolist()]
    known = [0.0241096746, 0.0075287749, 0.0466583744, -0.0012728667, 0.0071107573, -0.0200143848]
    assert drawn == pytest.approx(known, rel=1e-4)


def test_the_stand_in_sees_grey_as_colour(stand_in: RandomResNet18) -> None:
    grey = torch.rand(4, 1, 8, 8)
    assert torch.equal(extract(stand_in, [grey]), extract(stand_in, [grey.repeat(1, 3, 1, 1)]))


def test_the_stand_in_enlarges_small_images(stand_in: RandomResNet18) -> None:
    plain = torch.rand(2, 3, 1, 1)  # images of one colour each: enlarging leaves them that
    small, large = plain.expand(2, 3, 8, 20), plain.expand(2, 3, 64, 64)
    torch.testing.assert_close(extract(stand_in, [small]), extract(stand_in, [large]))


def test_the_stand_in_takes_large_images_as_they_are(stand_in: RandomResNet18) -> None:
    images = torch.rand(1, 3, 64, 80)
    with torch.no_grad():
        assert torch.equal(stand_in(images), stand_in.network(images))


# The FID network.


def test_inception_gives_the_features_torch_fidelity_gives_for_eight_bit_images(weights_file: Path) -> None:
    state = torch.get_rng_state()
    network: FeatureNetwork = feature_network(str(weights_file))
    assert torch.equal(torch.get_rng_state(), state)
    original = FeatureExtractorInceptionV3("any", ["2048"], feature_extractor_weights_path=weights_file)
    pixels = torch.randint(0, 256, (2, 1, 9, 9), dtype=torch.uint8)
    (truth,) = original(pixels.repeat(1, 3, 1, 1))
    off_grid = (pixels + torch.rand(pixels.shape) * 0.8 - 0.4) / 255  # rounds to the same
    features = extract(network, [off_grid])
    assert network.name == "inception"
    assert features.shape == (2, 2048)
    torch.testing.assert_close(features, truth)
    assert not torch.allclose(features[0], features[1])


def test_the_download_is_read_safely_and_checked(weights_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def download(url: str, **options: object) -> dict[str, Tensor]:
        asked.update(options, url=url)
        return torch.load(weights_file, weights_only=True)

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    network = Inception("download")
    assert asked["url"].endswith("weights-inception-2015-12-05-6726825d.pth")
    assert asked["weights_only"] is asked["check_hash"] is True
    saved = torch.load(weights_file, weights_only=True)
    assert all(torch.equal(value, saved[key]) for key, value in network.network.state_dict().items())


def test_a_download_that_fails_says_how_to_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("offline")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(UserError, match=SETTING):
        Inception("download")


@pytest.mark.parametrize(
    "content", ["missing", "folder", "empty", "text", "tensor", "other network", "numbered"]
)
def test_an_unusable_weights_file_is_said_in_one_line_that_names_the_setting(
    content: str, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pth"
    match content:
        case "folder":
            file.mkdir()
        case "empty":
            file.touch()
        case "text":
            file.write_text("<html>not found</html>")
        case "tensor":
            torch.save(torch.zeros(3), file)
        case "other network":
            torch.save(torch.nn.Linear(2, 2).state_dict(), file)
        case "numbered":
            torch.save({0: torch.zeros(3)}, file)
    with pytest.raises(UserError, match=SETTING) as caught:
        feature_network(str(file))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


class Trap:
    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.sprung,)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_code_hidden_in_a_weights_file_is_not_run(form: str, tmp_path: Path) -> None:
    file, sprung = tmp_path / "weights.pth", tmp_path / "sprung"
    if form == "torch":
        torch.save({"fc.weight": Trap(sprung)}, file)
    else:
        file.write_bytes(pickle.dumps(Trap(sprung), protocol=2))
    with pytest.raises(UserError, match=SETTING):
        Inception(str(file))
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap does work
