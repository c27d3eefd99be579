"""Equations 1 to 4 against transcriptions, closed forms and finite differences."""

import math

import pytest
import torch

from anomaly_gan.losses.contrastive import nt_xent, shift_classification


def transcribed_nt_xent(embeddings: list[list[float]], temperature: float) -> float:
    """Eq. 1, term by term, with loops and nothing but exp and log."""
    views = len(embeddings)
    items = views // 2

    def similarity(a: list[float], b: list[float]) -> float:
        norm = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
        return sum(x * y for x, y in zip(a, b, strict=True)) / norm

    total = 0.0
    for view in range(views):
        positive = view + items if view < items else view - items
        numerator = math.exp(similarity(embeddings[view], embeddings[positive]) / temperature)
        denominator = sum(
            math.exp(similarity(embeddings[view], embeddings[other]) / temperature)
            for other in range(views)
            if other != view
        )
        total += -math.log(numerator / denominator)
    return total / views


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("items", [2, 3, 8])
def test_nt_xent_is_equation_1(items: int, temperature: float) -> None:
    embeddings = torch.randn(2 * items, 5, dtype=torch.float64) * 3
    expected = transcribed_nt_xent(embeddings.tolist(), temperature)
    assert nt_xent(embeddings, temperature).item() == pytest.approx(expected, rel=1e-12)


def test_nt_xent_of_embeddings_all_alike_is_the_log_of_the_number_of_candidates() -> None:
    embeddings = torch.ones(12, 7)
    assert nt_xent(embeddings).item() == pytest.approx(math.log(11), rel=1e-6)


def test_nt_xent_of_orthogonal_items_with_equal_views_has_its_closed_form() -> None:
    embeddings = torch.eye(4, dtype=torch.float64).repeat(2, 1) * 9
    e = math.exp(1 / 0.5)
    assert nt_xent(embeddings, 0.5).item() == pytest.approx(math.log((e + 6) / e), rel=1e-12)


def test_nt_xent_ignores_the_length_of_the_embeddings_and_the_order_of_the_items() -> None:
    first, second = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    loss = nt_xent(torch.cat([first, second]))
    order, lengths = torch.randperm(6), torch.rand(12, 1, dtype=torch.float64) + 0.1
    torch.testing.assert_close(nt_xent(torch.cat([first, second]) * lengths), loss)
    torch.testing.assert_close(nt_xent(torch.cat([first[order], second[order]])), loss)
    torch.testing.assert_close(nt_xent(torch.cat([second, first])), loss)


def test_nt_xent_stays_finite_where_exp_would_overflow() -> None:
    embeddings = torch.randn(8, 4)
    loss = nt_xent(embeddings, temperature=1e-3)
    assert math.isfinite(loss.item())
    assert loss.item() > 10


def test_nt_xent_works_in_float32_for_half_precision_inputs() -> None:
    embeddings = torch.randn(16, 8)
    half = nt_xent(embeddings.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, nt_xent(embeddings.bfloat16().float()))


def test_nt_xent_has_the_gradient_of_finite_differences() -> None:
    embeddings = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(nt_xent, (embeddings,))


def test_nt_xent_pulls_the_views_of_an_item_together() -> None:
    embeddings = torch.randn(8, 4, dtype=torch.float64, requires_grad=True)
    nt_xent(embeddings).backward()
    stepped = embeddings.detach() - 0.1 * embeddings.grad

    def closeness(e: torch.Tensor) -> torch.Tensor:
        return torch.cosine_similarity(e[:4], e[4:]).mean()

    assert nt_xent(stepped) < nt_xent(embeddings)
    assert closeness(stepped) > closeness(embeddings.detach())


def test_shift_classification_is_equation_3() -> None:
    logits = torch.randn(6, 4, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    expected = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        expected -= math.log(math.exp(row[label]) / sum(math.exp(x) for x in row)) / 6
    assert shift_classification(logits, labels).item() == pytest.approx(expected, rel=1e-12)


def test_shift_classification_without_knowledge_is_log_k() -> None:
    assert shift_classification(torch.zeros(8, 4), torch.arange(8) % 4).item() == pytest.approx(math.log(4))


def test_shift_classification_has_the_gradient_of_finite_differences() -> None:
    logits = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: shift_classification(x, torch.tensor([0, 1, 2, 3, 3])), (logits,)
    )


@pytest.mark.parametrize("sizes", [(6, 6), (4, 8), (2, 4, 6)])
def test_parts_of_a_batch_among_everyone_have_the_loss_of_the_whole(sizes: tuple[int, ...]) -> None:
    parts = [torch.randn(size, 5, dtype=torch.float64) for size in sizes]
    everyone = torch.cat(parts)
    losses = [
        nt_xent(part, 0.5, everyone, sum(sizes[:i])) * len(part) / len(everyone)
        for i, part in enumerate(parts)
    ]
    firsts = torch.cat([part[: len(part) // 2] for part in parts])
    seconds = torch.cat([part[len(part) // 2 :] for part in parts])
    torch.testing.assert_close(sum(losses), nt_xent(torch.cat([firsts, seconds]), 0.5))
