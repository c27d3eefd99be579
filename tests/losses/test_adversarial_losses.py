"""Equations 7 and 9 against transcriptions, closed forms, and what a step on them does to the logits."""

import math

import pytest
import torch

from anomaly_gan.losses.adversarial import d_loss_made, d_loss_real, g_loss

FORMS = ["non_saturating", "saturating", "hinge"]
LOSSES = [d_loss_real, d_loss_made, g_loss]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def logits(count: int = 7) -> torch.Tensor:
    return torch.randn(count, dtype=torch.float64) * 3


@pytest.mark.parametrize("form", ["non_saturating", "saturating"])
def test_the_judge_maximises_equation_7(form: str) -> None:
    """log D(x) + log(1 - D(made)): means over the batch, the sign the judge's, whatever the maker does."""
    real, made = logits(), logits(5)
    printed = sum(math.log(sigmoid(x)) for x in real.tolist()) / 7
    printed += sum(math.log(1 - sigmoid(x)) for x in made.tolist()) / 5
    assert (d_loss_real(real, form) + d_loss_made(made, form)).item() == pytest.approx(-printed, rel=1e-12)


def test_the_saturating_maker_minimises_equation_7_to_the_letter() -> None:
    made = logits()
    printed = sum(math.log(1 - sigmoid(x)) for x in made.tolist()) / 7
    assert g_loss(made, "saturating").item() == pytest.approx(printed, rel=1e-12)
    assert g_loss(made, "saturating").item() == pytest.approx(-d_loss_made(made, "saturating").item())


def test_the_non_saturating_maker_maximises_the_log_of_d() -> None:
    made = logits()
    expected = -sum(math.log(sigmoid(x)) for x in made.tolist()) / 7
    assert g_loss(made, "non_saturating").item() == pytest.approx(expected, rel=1e-12)


def test_hinge_losses_have_their_closed_forms() -> None:
    values = torch.tensor([-3.0, -1.0, -0.25, 0.0, 0.5, 1.0, 4.0], dtype=torch.float64)
    assert d_loss_real(values, "hinge").item() == pytest.approx((4 + 2 + 1.25 + 1 + 0.5 + 0 + 0) / 7)
    assert d_loss_made(values, "hinge").item() == pytest.approx((0 + 0 + 0.75 + 1 + 1.5 + 2 + 5) / 7)
    assert g_loss(values, "hinge").item() == pytest.approx(-1.25 / 7)


@pytest.mark.parametrize("form", ["non_saturating", "saturating"])
def test_a_judge_without_an_opinion_loses_log_2_on_each_side(form: str) -> None:
    nothing = torch.zeros(4)
    assert d_loss_real(nothing, form).item() == pytest.approx(math.log(2))
    assert d_loss_made(nothing, form).item() == pytest.approx(math.log(2))


def after_a_step(loss, values: torch.Tensor, form: str) -> torch.Tensor:
    values = values.clone().requires_grad_()
    loss(values, form).backward()
    return (values - 0.5 * values.grad).detach()


@pytest.mark.parametrize("form", FORMS)
def test_a_step_of_the_judge_raises_real_logits_and_lowers_made_ones(form: str) -> None:
    undecided = torch.linspace(-0.9, 0.9, 7, dtype=torch.float64)  # within the hinge's margins
    assert (after_a_step(d_loss_real, undecided, form) > undecided).all()
    assert (after_a_step(d_loss_made, undecided, form) < undecided).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_step_of_the_maker_raises_the_logits_of_what_it_made(form: str) -> None:
    made = logits()
    assert (after_a_step(g_loss, made, form) > made).all()


def test_the_maker_that_is_losing_learns_in_all_forms_but_the_saturating_one() -> None:
    lost = torch.full((1,), -20.0, dtype=torch.float64)
    moved = {form: (after_a_step(g_loss, lost, form) - lost).item() for form in FORMS}
    assert moved["non_saturating"] == pytest.approx(0.5, rel=1e-6)
    assert moved["hinge"] == pytest.approx(0.5)
    assert 0 < moved["saturating"] < 1e-8


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", LOSSES)
def test_logits_of_any_size_overflow_nothing(loss, form: str) -> None:
    for sign in (-1, 1):
        values = torch.full((3,), sign * 1e4, requires_grad=True)
        result = loss(values, form)
        result.backward()
        # Linear on one side, zero on the other.
        assert abs(result.item()) == pytest.approx(1e4, rel=1e-3) or result.item() == 0
        assert values.grad.isfinite().all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_means_so_that_the_batch_may_have_any_length(loss, form: str) -> None:
    values = logits()
    torch.testing.assert_close(loss(values.repeat(3), form), loss(values, form))
    torch.testing.assert_close(
        loss(values, form), torch.stack([loss(one[None], form) for one in values]).mean()
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_have_the_gradient_of_finite_differences(loss, form: str) -> None:
    assert torch.autograd.gradcheck(lambda x: loss(x, form), (logits().requires_grad_(),))
