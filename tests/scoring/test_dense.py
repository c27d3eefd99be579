"""PaDiM and PatchCore against their definitions, and maps that show where."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import mahalanobis

from anomaly_gan.errors import UserError
from anomaly_gan.scoring import dense
from anomaly_gan.scoring.dense import BLUR, DenseScorer
from anomaly_gan.scoring.padim import PaDiM
from anomaly_gan.scoring.patchcore import PatchCore
from anomaly_gan.scoring.pooled import PooledNeighbours

pytest.importorskip("timm")

COMMON: dict[str, Any] = {
    "image_size": 32, "channels": 1, "backbone": "resnet18", "blocks": [1, 2], "smallest_side": 32,
    "precision": "32-true",
}  # fmt: skip


def make(kind: type, **changes: Any) -> Any:
    torch.manual_seed(0)
    of_kind: dict[type, dict[str, Any]] = {
        PaDiM: {"features": 24, "seed": 0},
        PatchCore: {"patches": 50, "chosen_from": 10_000, "projection": 64, "seed": 0},
        PooledNeighbours: {"neighbours": 2},
    }
    return kind(**COMMON | of_kind[kind] | changes)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(40, 1, 32, 32, generator=torch.Generator().manual_seed(1))


def test_padim_is_the_mahalanobis_distance_at_each_place(images: torch.Tensor) -> None:
    scorer = make(PaDiM)
    scorer.fit([images[:13], images[13:30]])  # of batches of any size
    features = scorer.place_features(images)[..., scorer.chosen].numpy().astype(np.float64)
    found = scorer.place_scores(scorer.place_features(images)).numpy()
    normal = features[:30]
    covariances = np.stack(
        [np.cov(normal[:, y, x].T, bias=True) for y in range(found.shape[1]) for x in range(found.shape[2])]
    )
    ridge = PaDiM.ridge * covariances.diagonal(axis1=1, axis2=2).mean() * np.eye(24)
    for y, x in ((0, 0), (3, 5), (7, 7)):
        inverse = np.linalg.inv(covariances[y * found.shape[2] + x] + ridge)
        for image in (0, 35):
            expected = mahalanobis(features[image, y, x], normal[:, y, x].mean(0), inverse)
            assert found[image, y, x] == pytest.approx(expected, rel=1e-3)


def test_gaussians_are_kept_once_there_are_some_and_those_of_another_grid_are_refused(
    images: torch.Tensor,
) -> None:
    scorer, again = make(PaDiM), make(PaDiM)
    unfitted = scorer.state_dict()
    assert unfitted["mean"].numel() == unfitted["whitening"].numel() == 0
    again.load_state_dict(unfitted)
    scorer.fit([images])
    again.load_state_dict(scorer.state_dict())
    assert torch.equal(again.scores(images)["padim"], scorer.scores(images)["padim"])
    fewer = scorer.state_dict() | {"mean": scorer.mean[:9], "whitening": scorer.whitening[:9]}
    with pytest.raises(RuntimeError, match="size mismatch for mean"):
        again.load_state_dict(fewer)
    as_before = scorer.state_dict() | {  # of a training: zeros in place of what was not yet fitted
        "mean": torch.zeros_like(scorer.mean), "whitening": torch.zeros_like(scorer.whitening)
    }  # fmt: skip
    again.load_state_dict(as_before)
    again.fit([images])
    assert torch.equal(again.mean, scorer.mean)


def test_patchcore_is_the_distance_to_the_nearest_place_of_the_bank(images: torch.Tensor) -> None:
    scorer = make(PatchCore, patches=10_000)  # all places
    scorer.fit([images[:20]])

    def compared(of: torch.Tensor) -> torch.Tensor:
        blocks = scorer.place_features(of).split(scorer.backbone.channels, dim=3)
        return torch.cat([F.normalize(block, dim=3) for block in blocks], dim=3)

    expected = torch.cdist(compared(images[20:]).flatten(0, 2), compared(images[:20]).flatten(0, 2)).amin(1)
    found = scorer.place_scores(scorer.place_features(images[20:]))
    torch.testing.assert_close(found.flatten(), expected, rtol=1e-3, atol=1e-3)


def test_of_many_places_as_many_are_drawn_from_every_image(images: torch.Tensor) -> None:
    scorer = make(PatchCore, patches=80, chosen_from=80)
    scorer.fit([images[:17], images[17:]])
    in_other_batches = make(PatchCore, patches=80, chosen_from=80)
    in_other_batches.fit([*images.split(3)])
    torch.testing.assert_close(in_other_batches.bank, scorer.bank)
    places = scorer._compared(scorer.place_features(images)).flatten(1, 2)  # [B, places, D]
    found = (torch.cdist(scorer.bank, places.flatten(0, 1)).argmin(1) // places.shape[1]).bincount()
    assert found.tolist() == [2] * len(images)


@pytest.mark.parametrize("kind", [PaDiM, PatchCore])
def test_a_map_is_the_scores_of_places_above_their_level_enlarged_and_blurred_and_its_worst_is_the_score(
    kind: type[DenseScorer], images: torch.Tensor
) -> None:
    scorer = make(kind)
    scorer.fit([images[:30]])
    maps = scorer.maps(images[30:])
    assert maps.shape == (10, 32, 32)
    places = scorer.place_scores(scorer.place_features(images[30:]))[:, None]
    levels = places.flatten(1).sort(dim=1).values[:, places[0].numel() // 2 - 1]
    places = places - levels.clamp_max(scorer.highest_level)[:, None, None, None]
    enlarged = F.interpolate(places, size=(32, 32), mode="bilinear", align_corners=False)[:, 0].numpy()
    blurred = np.stack(
        [gaussian_filter(m, BLUR * 32, mode="nearest", radius=round(3 * BLUR * 32)) for m in enlarged]
    )
    np.testing.assert_allclose(maps.numpy(), blurred, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scorer.score(images[30:]), maps.amax(dim=(1, 2)))
    assert maps.min() > scorer.lowest


class Given(DenseScorer):
    """Places whose scores are the pixels of a picture."""

    primary = "given"

    def fit_places(self, normal: Any) -> None:
        pass

    def feature_maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [images]

    def place_features(self, images: torch.Tensor) -> torch.Tensor:
        return images.permute(0, 2, 3, 1)

    def place_scores(self, features: torch.Tensor) -> torch.Tensor:
        return features[..., 0]


def test_levels_that_normal_pictures_have_are_subtracted_and_of_higher_ones_no_more() -> None:
    scorer = Given(image_size=8, channels=1)
    levels = torch.linspace(1.0, 3.0, 20)
    scorer.fit([levels[:, None, None, None].expand(-1, 1, 8, 8)])
    assert float(scorer.highest_level) == pytest.approx(2 + 5 * levels.std(correction=0).item())
    flat = torch.tensor([0.0, 1.0, 4.0, 100.0])[:, None, None, None].expand(-1, 1, 8, 8)
    expected = [0.0, 0.0, 0.0, 100 - float(scorer.highest_level)]
    torch.testing.assert_close(scorer.score(flat), torch.tensor(expected))
    assert scorer.lowest == pytest.approx(-float(scorer.highest_level))


def test_a_detector_from_before_there_were_levels_scores_as_it_did(images: torch.Tensor) -> None:
    scorer, again = make(PaDiM), make(PaDiM)
    scorer.fit([images[:30]])
    before = {key: value for key, value in scorer.state_dict().items() if key != "highest_level"}
    again.load_state_dict(before)
    assert again.lowest == 0
    level = scorer.maps(images[30:]) - again.maps(images[30:])
    torch.testing.assert_close(level, level[:, :1, :1].expand_as(level), rtol=1e-3, atol=1e-3)
    assert (level < -0.1).all()


def test_levels_are_those_of_the_same_pictures_whatever_the_batches_and_processes(
    images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_order(found: list[torch.Tensor]) -> list[float]:
        return sorted(float(image.sum()) for image in found)

    alone = dense.some_of([images])
    assert len(alone) == dense.MEASURED == 32
    assert in_order(dense.some_of(images.split(7))) == in_order(alone)
    numbers: list[torch.Tensor] = []
    with monkeypatch.context() as patch:
        patch.setattr(dense, "gather_unknown", lambda own: numbers.append(own) or own)
        for part in (images[::2], images[1::2]):
            dense.some_of([part])
    monkeypatch.setattr(dense, "gather_unknown", lambda own: torch.cat(numbers))
    shared = [image for part in (images[::2], images[1::2]) for image in dense.some_of([part])]
    assert in_order(shared) == in_order(alone)
    assert len(dense.some_of([images[:5]])) == 5


@pytest.mark.parametrize("kind", [PaDiM, PatchCore])
def test_the_map_is_highest_where_something_is_wrong(kind: type[DenseScorer]) -> None:
    """Stripes, and a square of noise in one of them."""
    noise = torch.rand(40, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    pictures = 0.2 + 0.6 * (torch.arange(64) % 16 < 8).float() + 0.02 * noise
    scorer = make(kind, image_size=64, smallest_side=64, blocks=[1])
    scorer.fit([pictures[:30]])
    normal, broken = pictures[30:], pictures[30:].clone()
    broken[:, :, 38:46, 16:24] = noise[30:, :, 38:46, 16:24]
    rows, columns = np.unravel_index(scorer.maps(broken).flatten(1).argmax(dim=1).numpy(), (64, 64))
    np.testing.assert_allclose(rows, 42, atol=6)
    np.testing.assert_allclose(columns, 20, atol=6)
    assert scorer.score(broken).min() > scorer.score(normal).max()


def test_pooled_neighbours_are_the_nearest_by_the_cosine_of_their_mean_features(images: torch.Tensor) -> None:
    scorer = make(PooledNeighbours)
    scorer.fit([images[:17], images[17:30]])
    with torch.no_grad():
        maps = scorer.backbone(images)
    pooled = torch.cat([F.normalize(m.mean((2, 3)), dim=1) for m in maps], dim=1)
    cosines = F.cosine_similarity(pooled[30:, None], pooled[None, :30], dim=2)
    expected = 1 - cosines.sort(dim=1, descending=True).values[:, :2].mean(dim=1)
    torch.testing.assert_close(scorer.score(images[30:]), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        (PaDiM, {"features": 0}, "from 1 to 192"),
        (PaDiM, {"features": 193}, "from 1 to 192"),
        (PatchCore, {"patches": 0}, "scoring.patches=0"),
        (PatchCore, {"patches": 20, "chosen_from": 10}, "scoring.chosen_from=10"),
        (PooledNeighbours, {"neighbours": 0}, "scoring.neighbours=0"),
    ],
)
def test_settings_that_cannot_be_are_refused(kind: type, changes: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make(kind, **changes)
