"""Losses, norms and scores are computed in float32 whatever autocast says, and come out the same."""

import copy
import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from anomaly_gan import Detector
from anomaly_gan.losses import adversarial, contrastive, reconstruction
from anomaly_gan.losses.adversarial import d_loss_made, d_loss_real, g_loss
from anomaly_gan.losses.contrastive import nt_xent, shift_classification
from anomaly_gan.losses.reconstruction import dissimilarity, latent_error, pixel_error
from anomaly_gan.metrics.generator import RandomResNet18, extract
from anomaly_gan.networks.blocks import normalise_spectrally
from anomaly_gan.networks.feature_extractor import FeatureExtractor
from anomaly_gan.networks.latent_discriminator import LatentDiscriminator
from anomaly_gan.randomness import RowRng, make_rng
from anomaly_gan.scoring import scores
from anomaly_gan.scoring.raw_pixels import distance
from anomaly_gan.scoring.scores import anomaly_scores, contributions, make_bank, most_similar, nearest
from anomaly_gan.transforms.augment import Augment
from anomaly_gan.transforms.diff_augment import DiffAugment
from anomaly_gan.transforms.shifts import Rotations
from anomaly_gan.transforms.views import ShiftedViews

B, N, K, D = 12, 20, 4, 32
HALF = {torch.bfloat16, torch.float16}


def normal(*shape: int) -> Callable[..., Tensor]:
    return lambda **of: torch.randn(*shape, **of)


def labels(**of: Any) -> Tensor:
    return torch.arange(B, device=of.get("device")) % K  # of no floating type


class Case(NamedTuple):
    """A function, what makes its tensors, and its other arguments."""

    function: Callable[..., Any]
    tensors: tuple[Callable[..., Tensor], ...]
    others: tuple[Any, ...] = ()


def among_everyone(embeddings: Tensor, everyone: Tensor) -> Tensor:
    return nt_xent(embeddings, 0.5, everyone, first=2)


def scored(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of a bank, which is made as it is made everywhere."""

    def of_bank(embeddings: Tensor, logits: Tensor, rows: Tensor, row_logits: Tensor) -> Any:
        return function(embeddings, logits, make_bank(rows, row_logits), 7)

    return of_bank


LOSSES = [
    nt_xent,
    among_everyone,
    shift_classification,
    d_loss_real,
    d_loss_made,
    g_loss,
]
LOSSES += [pixel_error, dissimilarity, latent_error]
ASKED, BANK = (normal(B, K, D), normal(B, K)), (normal(N, K, D), normal(N, K))
CASES = {
    "nt_xent": Case(nt_xent, (normal(B, D),)),
    "nt_xent among everyone": Case(among_everyone, (normal(B, D), normal(N, D))),
    "shift_classification": Case(shift_classification, (normal(B, K), labels)),
    **{
        f"{loss.__name__} {form}": Case(loss, (normal(B),), (form,))
        for loss in (d_loss_real, d_loss_made, g_loss)
        for form in ("non_saturating", "saturating", "hinge")
    },
    "pixel_error": Case(pixel_error, (normal(B, 3, 8, 8), normal(B, 3, 8, 8))),
    "dissimilarity": Case(dissimilarity, (normal(B, D), normal(B, D))),
    "latent_error": Case(latent_error, (normal(B, D), normal(B, D))),
    "make_bank": Case(make_bank, BANK),
    "nearest": Case(nearest, (ASKED[0], BANK[0]), (7,)),
    "anomaly_scores": Case(scored(anomaly_scores), ASKED + BANK),
    "contributions": Case(scored(contributions), ASKED + BANK),
    "most_similar": Case(most_similar, (ASKED[0], BANK[0]), (5, 7)),
    "distance": Case(distance, (normal(B, D), normal(N, D))),
}


@pytest.mark.parametrize("module", [contrastive, adversarial, reconstruction, scores])
def test_every_loss_and_score_is_among_the_cases(module: ModuleType) -> None:
    own = {
        name
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    assert own
    assert own <= {name.split()[0] for name in CASES}


def tensors_of(result: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]


def value_and_gradient(case: Case, inputs: list[Tensor]) -> list[Tensor]:
    """What `case` makes of `inputs`; of a loss, its gradient in each as well."""
    inputs = [x.clone() for x in inputs]
    if case.function not in LOSSES:
        return tensors_of(case.function(*inputs, *case.others))
    differentiable = [x.requires_grad_() for x in inputs if x.is_floating_point()]
    value = case.function(*inputs, *case.others)
    with torch.autocast("cpu", enabled=False):  # as in a training: test_paper_training.py
        gradients = torch.autograd.grad(value, differentiable)
    return [value.detach(), *gradients]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", list(CASES))
def test_autocast_moves_no_bit_of_a_loss_or_score_nor_of_a_gradient(name: str, dtype: torch.dtype) -> None:
    inputs = [make(dtype=dtype) for make in CASES[name].tensors]
    expected = value_and_gradient(CASES[name], inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = value_and_gradient(CASES[name], inputs)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype in (dtype, torch.int64)
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", list(CASES))
def test_half_precision_is_lifted_before_anything_is_computed(name: str) -> None:
    case = CASES[name]
    inputs = [make(dtype=torch.bfloat16) for make in case.tensors]
    lifted = [x.float() if x.is_floating_point() else x for x in inputs]
    expected = tensors_of(case.function(*lifted, *case.others))
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = tensors_of(case.function(*inputs, *case.others))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("function", [*LOSSES, make_bank, nearest, most_similar, distance])
def test_without_autocast_the_guard_moves_no_bit(function: Callable[..., Any]) -> None:
    (case, *_) = (case for case in CASES.values() if case.function is function)
    inputs = [make() for make in case.tensors]
    plain = getattr(function, "__wrapped__", function)
    expected = tensors_of(plain(*inputs, *case.others))
    for ours, theirs in zip(tensors_of(function(*inputs, *case.others)), expected, strict=True):
        assert torch.equal(ours, theirs)


class Types(TorchDispatchMode):
    """By operation, the types of the floating tensors that went into it or came out."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[torch.dtype]] = defaultdict(set)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = tensors_of((args, kwargs, result))
        self.seen[function.overloadpacket.__name__] |= {t.dtype for t in tensors if t.is_floating_point()}
        return result


@contextmanager
def autocast_of_a_gpu() -> Iterator[Types]:
    """CUDA's list of what is cast, which is not the CPU's, on tensors without values: no GPU needed."""
    with FakeTensorMode(), torch.device("cuda"), Types() as types:
        before = torch.get_autocast_dtype("cuda")
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        try:
            assert (torch.randn(2, 2) @ torch.randn(2, 2)).dtype == torch.bfloat16
            assert torch.mv(torch.randn(2, 2), torch.randn(2)).dtype == torch.bfloat16
            types.seen.clear()
            yield types
        finally:
            torch.set_autocast_enabled("cuda", False)
            torch.set_autocast_dtype("cuda", before)


@pytest.mark.parametrize("name", list(CASES))
def test_no_loss_or_score_computes_anything_in_half_precision_on_a_gpu(name: str) -> None:
    case = CASES[name]
    with autocast_of_a_gpu() as types:
        case.function(*(make(device="cuda") for make in case.tensors), *case.others)
    assert types.seen
    assert not set().union(*types.seen.values()) & HALF


def test_spectral_norm_is_computed_in_float32_on_a_gpu_and_the_layers_in_half_precision() -> None:
    with autocast_of_a_gpu() as types:
        network = LatentDiscriminator(6).train()
        types.seen.clear()
        network(torch.randn(3, 6))
    assert types.seen["mv"] == types.seen["vdot"] == {torch.float32}
    assert types.seen["addmm"] == {torch.bfloat16}


def test_spectral_norm_is_torch_s_to_the_bit_with_its_names_and_random_draws() -> None:
    ours, theirs = (nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(20, 2)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    torch.manual_seed(1)
    normalise_spectrally(ours)
    torch.manual_seed(1)
    for layer in (theirs[0], theirs[2]):
        spectral_norm(layer)
    images = torch.rand(4, 3, 4, 4)
    for _ in range(3):
        assert torch.equal(ours(images), theirs(images))
        left, right = ours.state_dict(), theirs.state_dict()
        assert list(left) == list(right)
        assert all(torch.equal(left[name], right[name]) for name in left)
    copied = copy.deepcopy(ours)
    copied(images)
    assert all(torch.equal(ours.state_dict()[name], value) for name, value in left.items())  # its own vectors


def test_the_heads_of_f_are_never_in_half_precision_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    # Weights without values cannot be brought into another layout.
    monkeypatch.setattr(FeatureExtractor, "to", lambda self, **_: self)
    with autocast_of_a_gpu() as types:
        features = FeatureExtractor(16, 1, width=8)(torch.rand(2, 1, 16, 16))
    assert {value.dtype for value in features} == {torch.float32}
    assert types.seen["addmm"] == {torch.float32}
    assert torch.bfloat16 in types.seen["convolution"]


@pytest.mark.parametrize("channels", [1, 3])
def test_no_view_is_computed_in_half_precision_on_a_gpu(channels: int) -> None:
    views = ShiftedViews(Rotations(), Augment(blur=True))
    with autocast_of_a_gpu() as types:
        images = torch.rand(4, channels, 24, 24)
        draws = views.augment.draw(16, RowRng(make_rng("cpu", 0)))
        views.apply(views.plain(images), draws.to(images.device))
    assert types.seen
    assert not set().union(*types.seen.values()) & HALF


@pytest.mark.parametrize("channels", [1, 3])
def test_autocast_moves_no_bit_of_a_view(channels: int) -> None:
    views, images = ShiftedViews(Rotations(), Augment(blur=True)), torch.rand(4, channels, 24, 24)
    change = DiffAugment(("color", "translation", "cutout"))

    def seen() -> list[Tensor]:
        return [
            views.plain(images),
            views.drawn(images, views.scoring_draw(1, seed=0)),
            views.training(images, RowRng(make_rng("cpu", 0))),
            change(images, RowRng(make_rng("cpu", 0))),
        ]

    expected = seen()
    with torch.autocast("cpu", torch.bfloat16):
        found = seen()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_autocast_moves_no_bit_of_the_features_that_generators_are_measured_by() -> None:
    network, images = RandomResNet18(), torch.rand(3, 1, 16, 16)
    expected = extract(network, [images])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(extract(network, [images]), expected)


def test_a_program_that_has_autocast_on_gets_the_scores_and_explanations_of_one_that_has_not(
    trained: Path,
) -> None:
    detector = Detector.load(trained)
    images = np.random.default_rng(0).integers(0, 255, (5, 16, 16, 1), dtype=np.uint8)
    expected, why = list(detector.examine(images)), detector.explain(images[0])
    with torch.autocast("cpu", torch.bfloat16):
        assert list(detector.examine(images)) == expected
        found = detector.explain(images[0])
    assert np.array_equal(found.heat, why.heat)
    assert [(n.name, n.likeness) for n in found.neighbours] == [(n.name, n.likeness) for n in why.neighbours]
