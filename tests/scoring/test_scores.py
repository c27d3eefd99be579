"""The scores against naive transcriptions, loops over images, shifts and bank rows."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from anomaly_gan.scoring.hellinger import roots
from anomaly_gan.scoring.memory import MemoryBank
from anomaly_gan.scoring.scores import SMALLEST_MEAN_SHIFT_LOGIT, anomaly_scores, make_bank, nearest

B, N, K, D = 5, 23, 4, 6


def draw() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.randn(B, K, D, dtype=torch.float64) * 3,
        torch.randn(B, K, dtype=torch.float64),
        torch.randn(N, K, D, dtype=torch.float64) * 2,
        torch.randn(N, K, dtype=torch.float64) + 4,
    )


def m(x: Tensor, other: Tensor) -> float:
    """m of eq. 11: sim(F(x), F(x')) * ||F(x)||."""
    return float(F.cosine_similarity(x, other, dim=0) * x.norm())


def test_the_paper_score_is_minus_equation_11() -> None:
    query, logits, rows, row_logits = draw()
    scores = anomaly_scores(query, logits, make_bank(rows, row_logits), chunk=7)
    for i in range(B):
        best = max(sum(m(query[i, k], rows[n, k]) for k in range(K)) for n in range(N))
        assert scores["paper"][i].item() == pytest.approx(-best, rel=1e-10)


def test_the_paper_score_uses_one_neighbour_for_all_shifts() -> None:
    query, logits, rows, row_logits = draw()
    scores = anomaly_scores(query, logits, make_bank(rows, row_logits), chunk=7)
    own_neighbours = [sum(max(m(q[k], r[k]) for r in rows) for k in range(K)) for q in query]
    assert any(-s.item() < own - 1e-6 for s, own in zip(scores["paper"], own_neighbours, strict=True))


def test_the_csi_score_is_that_of_the_released_code() -> None:
    query, logits, rows, row_logits = draw()
    scores = anomaly_scores(query, logits, make_bank(rows, row_logits), chunk=7)
    for i in range(B):
        contrastive = shift = 0.0
        for k in range(K):
            axis = [rows[n, k] / rows[n, k].norm() for n in range(N)]
            weight_sim = 1 / (sum(float(rows[n, k].norm()) for n in range(N)) / N)
            weight_shift = 1 / (sum(float(row_logits[n, k]) for n in range(N)) / N)
            contrastive += max(float(query[i, k] @ a) for a in axis) * weight_sim / K
            shift += float(logits[i, k]) * weight_shift / K
        assert scores["contrastive"][i].item() == pytest.approx(-contrastive, rel=1e-10)
        assert scores["shift"][i].item() == pytest.approx(-shift, rel=1e-10)
        assert scores["csi"][i].item() == pytest.approx(-contrastive - shift, rel=1e-10)


def test_the_cosine_part_is_equation_11_without_the_norm() -> None:
    query, logits, rows, row_logits = draw()
    scores = anomaly_scores(query, logits, make_bank(rows, row_logits), chunk=7)
    for i in range(B):
        cosines = F.cosine_similarity(query[i][None], rows, dim=2).mean(1)
        assert scores["cosine"][i].item() == pytest.approx(-cosines.max().item(), rel=1e-10)


@pytest.mark.parametrize("chunk", [1, 5, 23, 1000])
def test_no_score_depends_on_the_chunk(chunk: int) -> None:
    query, logits, rows, row_logits = draw()
    bank = make_bank(rows, row_logits)
    expected = anomaly_scores(query, logits, bank, chunk=N)
    for name, values in anomaly_scores(query, logits, bank, chunk).items():
        torch.testing.assert_close(values, expected[name], msg=name)


@pytest.mark.parametrize("chunk", [4, 100])
def test_the_joint_neighbour_is_the_row_that_attains_the_maximum(chunk: int) -> None:
    query, _, rows, row_logits = draw()
    unit = make_bank(rows, row_logits).unit
    expected = torch.einsum("bkd,nkd->bn", query, unit)
    found = nearest(query, unit, chunk)
    assert torch.equal(found.joint_row, expected.argmax(1))


def test_a_training_image_is_less_anomalous_than_a_stranger() -> None:
    rows = torch.randn(N, K, D)
    bank = make_bank(rows, torch.ones(N, K))
    member = anomaly_scores(rows[:1], torch.ones(1, K), bank, chunk=8)
    stranger = anomaly_scores(-rows.mean(0, keepdim=True), torch.zeros(1, K), bank, chunk=8)
    assert all(member[name] < stranger[name] for name in member)


def test_a_small_or_negative_mean_logit_neither_explodes_nor_flips_the_score() -> None:
    query, logits, rows, _ = draw()
    for mean in (-5.0, 0.0, 1e-9):
        bank = make_bank(rows, torch.full((N, K), mean, dtype=torch.float64))
        scores = anomaly_scores(query, logits, bank, chunk=8)["shift"]
        expected = -logits.mean(1) / SMALLEST_MEAN_SHIFT_LOGIT
        torch.testing.assert_close(scores, expected)


class LargestTensor(TorchDispatchMode):
    """Records the size of the largest tensor that any operation inside gives."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        outputs = result if isinstance(result, tuple) else (result,)
        for output in outputs:
            if isinstance(output, Tensor):
                self.elements = max(self.elements, output.numel())
        return result


def test_search_memory_is_set_by_the_chunk_and_not_by_the_bank() -> None:
    query, unit = torch.randn(8, K, 16), F.normalize(torch.randn(5_000, K, 16), dim=2)
    with LargestTensor() as largest:
        nearest(query, unit, chunk=100)
    assert largest.elements <= 100 * max(8, K * 16)  # a product, or the chunk's own rows
    assert largest.elements < unit.numel() / 10


def test_an_empty_bank_says_what_comes_first() -> None:
    with pytest.raises(RuntimeError, match="call fit before scoring"):
        _ = MemoryBank().bank


@pytest.mark.parametrize("features", [False, True])
def test_the_bank_travels_through_a_state_dict_of_any_size(features: bool) -> None:
    rows, logits = torch.randn(N, K, D), torch.randn(N, K)
    memory, fresh = MemoryBank(), MemoryBank()
    bank = make_bank(rows, logits)
    memory.fill(bank._replace(roots=roots(rows)) if features else bank)
    fresh.load_state_dict(memory.state_dict())
    assert (fresh.bank.roots is not None) == features
    held = memory.bank._asdict().items()
    for name, theirs in held:
        assert theirs is None or torch.equal(getattr(fresh.bank, name), theirs)
