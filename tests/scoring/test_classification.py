"""The scores of Geom, Rot+Trans and GOAD against naive loops; Dirichlet fits against the released code's."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import gammaln, polygamma, psi
from torch import Tensor

from anomaly_gan.scoring.classification import (
    SMALLEST_PROBABILITY,
    Moments,
    dirichlet_score,
    fit_dirichlets,
    goad_score,
    rot_trans_score,
    simplified_score,
    softmax_moments,
)

B, K, D = 6, 5, 7


def released_fit(observations: np.ndarray) -> np.ndarray:
    """`_transformations_experiment` of the released code, on the softmax of one transform."""
    N = len(observations)
    f = np.mean(observations, axis=0)
    log_p_hat = np.log(observations).mean(axis=0)
    alpha_sum = (N * (len(f) - 1) * (-psi(1))) / (
        N * np.sum(f * np.log(f)) - np.sum(f * np.sum(np.log(observations), axis=0))
    )

    def inv_psi(y: np.ndarray, iters: int = 5) -> np.ndarray:
        cond = y >= -2.22
        x = cond * (np.exp(y) + 0.5) + (1 - cond) * -1 / (y - psi(1))
        for _ in range(iters):
            x = x - (psi(x) - y) / polygamma(1, x)
        return x

    alpha_new = alpha_old = f * alpha_sum
    for _ in range(1000):
        alpha_new = inv_psi(psi(np.sum(alpha_old)) + log_p_hat)
        if np.sqrt(np.sum((alpha_old - alpha_new) ** 2)) < 1e-9:
            break
        alpha_old = alpha_new
    return alpha_new


def samples(alphas: np.ndarray, count: int, seed: int = 0) -> Tensor:
    """Logits whose softmax is drawn from one Dirichlet a transform: [count, K, K]."""
    rng = np.random.default_rng(seed)
    drawn = np.stack([rng.dirichlet(alpha, count) for alpha in alphas], axis=1)
    return torch.from_numpy(np.log(drawn.clip(1e-30)))


def trained_alphas() -> np.ndarray:
    """Such as a trained classifier has: most of the mass on the right class, the rest below one."""
    rng = np.random.default_rng(1)
    alphas = rng.uniform(0.2, 1.5, (K, K))
    alphas[np.diag_indices(K)] = rng.uniform(2, 20, K)
    return alphas


def fit(logits: Tensor) -> Tensor:
    return fit_dirichlets(softmax_moments([logits]))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40), st.floats(0.1, 4))
def test_the_fit_is_the_released_code_s_for_every_transform(seed: int, count: int, spread: float) -> None:
    logits = torch.randn(count, K, K, generator=torch.Generator().manual_seed(seed)).double() * spread
    probabilities = logits.softmax(2).numpy()
    expected = np.stack([released_fit(probabilities[:, k]) for k in range(K)])
    np.testing.assert_allclose(fit(logits).numpy(), expected, rtol=1e-6)


def test_the_fit_of_72_transforms_together_is_that_of_each_alone() -> None:
    logits = torch.randn(30, 72, 72, dtype=torch.float64) + 6 * torch.eye(72)
    moments = softmax_moments([logits])
    together = fit_dirichlets(moments)
    for k in (0, 31, 71):
        alone = fit_dirichlets(Moments(*(values[k : k + 1] for values in moments)))
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-12, atol=0)
    expected = released_fit(logits[:, 31].softmax(1).numpy())
    np.testing.assert_allclose(together[31].numpy(), expected, rtol=1e-6)


def test_the_fit_maximises_the_likelihood() -> None:
    logits = samples(trained_alphas(), 300)
    mean_log = logits.log_softmax(2).mean(0).numpy()
    found = fit(logits).numpy()

    def minus_likelihood(log_alpha: np.ndarray, k: int) -> float:
        alpha = np.exp(log_alpha)
        return -(gammaln(alpha.sum()) - gammaln(alpha).sum() + ((alpha - 1) * mean_log[k]).sum())

    for k in range(K):
        best = minimize(minus_likelihood, np.zeros(K), (k,), method="BFGS", options={"gtol": 1e-9})
        np.testing.assert_allclose(found[k], np.exp(best.x), rtol=1e-4)
        assert minus_likelihood(np.log(found[k]), k) <= best.fun + 1e-10


def test_the_parameters_that_samples_were_drawn_with_are_recovered() -> None:
    alphas = trained_alphas()
    found = fit(samples(alphas, 40_000)).numpy()
    np.testing.assert_allclose(found, alphas, rtol=0.05)


def test_the_moments_do_not_depend_on_the_batches_or_their_order() -> None:
    logits = torch.randn(20, K, K) * 3
    whole = softmax_moments([logits])
    split = softmax_moments(logits[torch.randperm(20)].split([7, 1, 12]))
    for ours, theirs in zip(split, whole, strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(whole.probability, logits.softmax(2).double().mean(0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3, 1e6])
def test_the_fit_and_its_scores_are_finite_at_the_extremes(scale: float, alike: bool) -> None:
    # Probabilities that float32 rounds to 0 and 1; all images alike, so that no density is the best.
    normal = torch.randn(9, K, K) * scale
    alphas = fit(normal[:1].expand(9, K, K) if alike else normal)
    assert torch.isfinite(alphas).all()
    assert (alphas > 0).all()
    assert torch.isfinite(dirichlet_score(torch.randn(B, K, K) * scale, alphas)).all()


def test_geom_s_score_is_minus_the_mean_log_density_without_its_constant() -> None:
    logits, alphas = torch.randn(B, K, K, dtype=torch.float64) * 3, torch.rand(K, K, dtype=torch.float64) * 4
    found = dirichlet_score(logits, alphas)
    for i in range(B):
        total = 0.0
        for t in range(K):
            weights = [math.exp(v) for v in logits[i, t].tolist()]
            for k in range(K):
                total += (float(alphas[t, k]) - 1) * math.log(weights[k] / sum(weights))
        assert found[i].item() == pytest.approx(-total / K, rel=1e-10)


def test_geom_s_score_counts_a_vanished_probability_as_the_smallest() -> None:
    logits, alphas = torch.zeros(1, 2, 2), torch.full((2, 2), 3.0)
    logits[0, 0, 1] = -1e4
    expected = -(2 * math.log(SMALLEST_PROBABILITY) + 4 * math.log(0.5)) / 2
    assert dirichlet_score(logits, alphas).item() == pytest.approx(expected, rel=1e-6)


def test_an_image_whose_transforms_are_recognised_is_less_anomalous() -> None:
    alphas = trained_alphas()
    normal, other = samples(alphas, 200, seed=3), samples(np.ones((K, K)), 200, seed=4)
    fitted = fit(samples(alphas, 500))
    for score in (lambda x: dirichlet_score(x, fitted), simplified_score):
        # A normal image comes before another one, in far more than half of all pairs.
        assert (score(normal)[:, None] < score(other)).float().mean() > 0.95


def test_the_simplified_score_is_minus_the_mean_softmax_of_the_right_transform() -> None:
    logits = torch.randn(B, K, K, dtype=torch.float64) * 3
    found = simplified_score(logits)
    for i in range(B):
        right = [logits[i, t].exp()[t] / logits[i, t].exp().sum() for t in range(K)]
        assert found[i].item() == pytest.approx(-float(sum(right)) / K, rel=1e-10)


def test_rot_trans_s_score_is_minus_the_sum_of_the_right_probabilities() -> None:
    labels = torch.cartesian_prod(torch.arange(3), torch.arange(3), torch.arange(4))
    heads = [torch.randn(B, 36, classes, dtype=torch.float64) for classes in (3, 3, 4)]
    found = rot_trans_score(*heads, labels)
    for i in range(B):
        total = 0.0
        for view, right in enumerate(labels.tolist()):
            for logits, label in zip(heads, right, strict=True):
                total += float(logits[i, view].exp()[label] / logits[i, view].exp().sum())
        assert found[i].item() == pytest.approx(-total, rel=1e-10)


def test_goad_s_score_is_minus_the_log_softmax_of_the_distances() -> None:
    features, centres = torch.randn(B, K, D, dtype=torch.float64), torch.randn(K, D, dtype=torch.float64)
    found = goad_score(features, centres)
    for i in range(B):
        total = 0.0
        for m in range(K):
            distances = [float(((features[i, m] - centre) ** 2).sum()) for centre in centres]
            total += -distances[m] - math.log(sum(math.exp(-d) for d in distances))
        assert found[i].item() == pytest.approx(-total, rel=1e-10)


SCORES = {
    "dirichlet": lambda x: dirichlet_score(x, torch.linspace(0.1, 4, K * K).view(K, K)),
    "simplified": simplified_score,
    "rot_trans": lambda x: rot_trans_score(x, x[..., :3], x[..., :4], torch.arange(3 * K).view(K, 3) % 3),
    "goad": lambda x: goad_score(x, x.new_ones(K, K).triu()),
}


@pytest.mark.parametrize("name", list(SCORES))
def test_no_score_depends_on_the_order_of_the_batch(name: str) -> None:
    logits, order = torch.randn(B, K, K), torch.randperm(B)
    torch.testing.assert_close(SCORES[name](logits[order]), SCORES[name](logits)[order])
    torch.testing.assert_close(SCORES[name](logits[:1]), SCORES[name](logits)[:1])


@pytest.mark.parametrize("name", list(SCORES))
def test_scores_are_float32_whatever_autocast_says_and_the_same(name: str) -> None:
    logits = torch.randn(B, K, K)
    expected = SCORES[name](logits)
    with torch.autocast("cpu", torch.bfloat16):
        found, of_half = SCORES[name](logits), SCORES[name](logits.bfloat16())
        alphas = fit(logits)
    assert found.dtype == of_half.dtype == torch.float32
    assert torch.equal(found, expected)
    assert torch.equal(of_half, SCORES[name](logits.bfloat16().float()))
    assert torch.equal(alphas, fit(logits))
