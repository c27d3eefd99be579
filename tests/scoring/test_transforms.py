"""Geom's scorer: Dirichlets fitted through the network, in one process and in several."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from scipy.special import polygamma, psi
from torch import Tensor

from anomaly_gan.errors import UserError
from anomaly_gan.launch import in_processes
from anomaly_gan.scoring.classification import SMALLEST_PROBABILITY
from anomaly_gan.scoring.transforms import TransformClassifier
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.transforms.geometric import Geometric

K = Geometric().count


def classifier(**changes: Any) -> TransformClassifier:
    """With a network as it starts, whose logits are made larger: a trained one is surer."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "image_size": 16, "channels": 1, "shifts": Geometric(), "depth": 10, "width": 16,
        "primary": "dirichlet", "chunk": 512, "precision": "32-true",
    }  # fmt: skip
    made = TransformClassifier(**settings | changes)
    with torch.no_grad():
        made.network.head.weight *= 4
    return made


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def log_softmax(scorer: TransformClassifier, given: Tensor) -> np.ndarray:
    """Image by image, transform by transform, in the shape [N, K, K]."""
    scorer.eval()
    rows = []
    with torch.no_grad():
        for image in given:
            views = scorer.shifts(image[None])
            rows.append(torch.stack([scorer.network(view[None]).logits[0] for view in views]))
    logits = torch.stack(rows).double()
    return logits.log_softmax(2).clamp_min(np.log(SMALLEST_PROBABILITY)).numpy()


def naive_fit(logs: np.ndarray) -> np.ndarray:
    """Minka's fixed point for one transform, with scipy: from log p [N, K] to alpha [K]."""
    mean, mean_log = np.exp(logs).mean(0), logs.mean(0)
    alpha = mean * (len(mean) - 1) * -psi(1) / (mean * (np.log(mean) - mean_log)).sum()
    for _ in range(1000):
        wanted = psi(alpha.sum()) + mean_log
        x = np.where(wanted >= -2.22, np.exp(wanted) + 0.5, -1 / (wanted - psi(1)))
        for _ in range(5):
            x = x - (psi(x) - wanted) / polygamma(1, x)
        if np.linalg.norm(x - alpha) < 1e-9:
            return x
        alpha = x
    return alpha


@pytest.fixture(scope="module")
def fitted() -> TransformClassifier:
    scorer = classifier()
    scorer.fit(images(12).split(5))
    return scorer


def test_the_dirichlets_are_those_of_a_naive_fit_through_the_network(fitted: TransformClassifier) -> None:
    logs = log_softmax(fitted, images(12))
    assert fitted.alphas.shape == (K, K)
    for k in (0, 1, 17, 36, 71):
        np.testing.assert_allclose(fitted.alphas[k].numpy(), naive_fit(logs[:, k]), rtol=1e-3)


def test_scores_are_those_of_the_dirichlets_image_by_image(fitted: TransformClassifier) -> None:
    given = images(3, seed=1)
    logs, alphas = log_softmax(fitted, given), fitted.alphas.numpy()
    found = fitted.scores(given)
    for i in range(3):
        dirichlet = -sum(((alphas[k] - 1) * logs[i, k]).sum() for k in range(K)) / K
        simplified = -sum(np.exp(logs[i, k, k]) for k in range(K)) / K
        assert found["dirichlet"][i].item() == pytest.approx(dirichlet, rel=1e-4)
        assert found["simplified"][i].item() == pytest.approx(simplified, rel=1e-4)


@pytest.mark.parametrize("primary", ["dirichlet", "simplified"])
def test_what_is_exported_is_the_primary_score(primary: str) -> None:
    scorer = classifier(primary=primary)
    scorer.fit([images(6)])
    raw = (images(5, seed=1) * 255).round().to(torch.uint8)
    with torch.no_grad():
        found = scorer(raw)
    torch.testing.assert_close(found, scorer.scores(to_float(raw))[primary], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, scorer.score(to_float(raw)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("primary", ["dirichlet", "simplified"])
def test_what_is_typical_is_the_mean_of_the_parts_over_the_normal_images(primary: str) -> None:
    scorer = classifier(primary=primary)
    scorer.fit(images(12).split(5))
    found = scorer.attribution(images(12), 5)
    (parts,), (typical,) = found.per_shift.values(), found.typical.values()
    assert list(found.per_shift) == list(found.typical) == [primary]
    assert found.neighbours is None
    torch.testing.assert_close(parts.mean(0), typical, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(parts.sum(1), scorer.score(images(12)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 10_000])
def test_the_chunk_and_the_batches_change_nothing(fitted: TransformClassifier, chunk: int) -> None:
    scorer = classifier(chunk=chunk)
    scorer.fit(images(12).split(4))
    torch.testing.assert_close(scorer.alphas, fitted.alphas, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(scorer.score(images(4, 1)), fitted.score(images(4, 1)), rtol=1e-3, atol=1e-3)


def test_no_more_views_than_the_chunk_pass_through_the_network_at_once() -> None:
    scorer, sizes = classifier(chunk=150), []
    scorer.network.register_forward_hook(lambda _, args, __: sizes.append(len(args[0])))
    scorer.fit([images(5)])
    assert sizes == [2 * K, 2 * K, K]


def test_half_precision_is_for_the_convolutions_alone_and_not_for_onnx() -> None:
    half = classifier(precision="bf16-mixed")
    half.fit([images(6)])
    found = half.scores(images(3, 1))
    assert {values.dtype for values in found.values()} == {torch.float32}
    whole = classifier()
    whole.fit([images(6)])
    assert not torch.equal(found["simplified"], whole.scores(images(3, 1))["simplified"])
    half.check_export("torch")
    with pytest.raises(UserError, match=r"scoring\.precision=32-true"):
        half.check_export("onnx")


def fit_a_part(folder: Path, processes: int) -> None:
    """The first process has the first seven of ten images, where there are two."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    if processes > 1:
        dist.init_process_group("gloo")
    scorer, given = classifier(), images(10)
    mine = given if processes == 1 else (given[:7], given[7:])[int(os.environ["RANK"])]
    scorer.fit(mine.split(3))
    torch.save((scorer.alphas, scorer.typical), folder / f"{processes} {os.environ['RANK']}")


@pytest.mark.slow
def test_several_processes_fit_the_dirichlets_of_all_their_images(tmp_path: Path) -> None:
    for processes in (1, 2):
        in_processes(fit_a_part, (tmp_path, processes), processes)
    alone, *shared = (torch.load(tmp_path / name) for name in ("1 0", "2 0", "2 1"))
    for found in shared:
        torch.testing.assert_close(found, alone, rtol=1e-6, atol=1e-9)
