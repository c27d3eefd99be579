"""CSI-S against finite differences: the gradient that G gets through T, F and itself is the derivative."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError
from torch.func import functional_call

from anomaly_gan.methods.paper import objectives
from anomaly_gan.methods.paper.objectives import Step
from anomaly_gan.networks.feature_extractor import FeatureExtractor
from anomaly_gan.networks.generator import residual_generator
from anomaly_gan.networks.modes import frozen
from anomaly_gan.randomness import RowRng
from anomaly_gan.sharding import Shard
from anomaly_gan.transforms.augment import Augment, AugmentDraws
from anomaly_gan.transforms.diff_augment import DiffAugment
from anomaly_gan.transforms.shifts import Rotations
from anomaly_gan.transforms.views import ShiftedViews

EPSILON = 1e-8
"""Small enough to cross hardly any of the thousand kinks (ReLU, clamps, the hue's sectors)."""


class Detached(Augment):
    """T whose gradient is cut."""

    def __call__(self, images: Tensor, draws: AugmentDraws) -> Tensor:
        return super().__call__(images.detach(), draws)


class StraightThrough(Augment):
    """T as if it changed nothing: CSI's released code does so with its colour jitter."""

    def __call__(self, images: Tensor, draws: AugmentDraws) -> Tensor:
        return images + (super().__call__(images, draws) - images).detach()


class Problem:
    """The loss of the line `synthetic_contrast` on two latents, in float64, with the same draws each time."""

    def __init__(self, channels: int, augment: Augment, image_size: int = 16, seed: int = 0):
        torch.manual_seed(seed)
        self.generator = residual_generator(16, channels, width=8, latent_size=3).double().train()
        self.extractor = FeatureExtractor(image_size, channels, width=8, embedding_size=6).double().train()
        self.latents = torch.randn(2, 3, dtype=torch.float64)
        self.views = ShiftedViews(Rotations(), augment)
        self.images = torch.rand(2, channels, image_size, image_size, dtype=torch.float64)
        self.of_generator = dict(self.generator.named_parameters())

    def loss(self, latents: Tensor, weights: dict[str, Tensor] | None = None) -> Tensor:
        outer = self

        class G(torch.nn.Module):
            def forward(self, latents: Tensor) -> Tensor:
                return functional_call(outer.generator, weights or {}, (latents,))

        step = Step(
            networks={"generator": G(), "feature_extractor": self.extractor},
            images=self.images,
            latents=latents,
            views=self.views,
            temperature=0.5,
            adversarial="non_saturating",
            diff_augment=DiffAugment(),
            generator_side=16,
            shard=Shard(2),
            rng=RowRng(torch.Generator().manual_seed(5)),
        )
        with frozen([self.extractor]):
            return sum(objectives.synthetic_contrast(step).values())

    def check_latents(self) -> bool:
        return torch.autograd.gradcheck(
            self.loss, (self.latents.clone().requires_grad_(),), eps=EPSILON, atol=1e-5, rtol=1e-4
        )


AUGMENT: dict[str, Any] = {"jitter_probability": 1.0, "gray_probability": 0.5}


@pytest.fixture(params=[1, 3])
def channels(request) -> int:
    return request.param


def test_the_gradient_in_the_latents_is_the_derivative_through_t_f_and_g(channels: int) -> None:
    problem = Problem(channels, Augment(**AUGMENT))
    assert torch.equal(problem.loss(problem.latents), problem.loss(problem.latents))  # the draws are the same
    assert problem.check_latents()


def test_the_gradient_is_the_derivative_through_the_resizing_to_larger_images_and_blur_too() -> None:
    assert Problem(3, Augment(blur=True, **AUGMENT), image_size=24).check_latents()


def largest(gradient: Tensor, count: int = 3) -> list[tuple[int, ...]]:
    places = gradient.abs().flatten().topk(count).indices
    return [tuple(int(i) for i in torch.unravel_index(place, gradient.shape)) for place in places]


def test_the_gradient_in_the_weights_of_g_is_the_derivative_by_central_differences(channels: int) -> None:
    problem = Problem(channels, Augment(**AUGMENT))
    problem.loss(problem.latents).backward()
    weights = ["bottom.weight", "body.0.first_norm.weight", "body.0.first.weight", "body.1.shortcut.weight"]
    weights.append("body.4.weight")  # the last convolution, before tanh
    for name in weights:
        parameter = problem.of_generator[name]
        assert parameter.grad.abs().max() > 1e-4
        for place in largest(parameter.grad):
            sides = []
            for sign in (1, -1):
                changed = parameter.detach().clone()
                changed[place] += sign * EPSILON
                with torch.no_grad():
                    sides.append(problem.loss(problem.latents, {name: changed}).item())
            slope = (sides[0] - sides[1]) / (2 * EPSILON)
            assert slope == pytest.approx(parameter.grad[place].item(), rel=1e-3, abs=1e-5), (name, place)


def test_f_gets_no_gradient_and_keeps_its_statistics() -> None:
    problem = Problem(1, Augment())
    before = {name: value.clone() for name, value in problem.extractor.state_dict().items()}
    problem.loss(problem.latents).backward()
    assert all(p.grad is None for p in problem.extractor.parameters())
    assert all(torch.equal(value, before[name]) for name, value in problem.extractor.state_dict().items())
    assert all(p.grad is not None for p in problem.generator.parameters())


def test_a_cut_through_t_would_leave_g_without_a_gradient() -> None:
    problem = Problem(3, Detached(**AUGMENT))
    torch.testing.assert_close(  # the loss alone shows nothing
        problem.loss(problem.latents), Problem(3, Augment(**AUGMENT)).loss(problem.latents)
    )
    assert not problem.loss(problem.latents.clone().requires_grad_()).requires_grad


def test_the_check_tells_a_gradient_that_is_not_ts_own(channels: int) -> None:
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        Problem(channels, StraightThrough(**AUGMENT)).check_latents()
