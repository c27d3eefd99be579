"""An explanation is of the score itself: what it says adds up, and what it hides is what it names."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from anomaly_gan import Detector, UserError
from anomaly_gan.data.image_set import Batch
from anomaly_gan.data.normal_images import NormalImages
from anomaly_gan.explanation import PATCHES_IN_ALL, explain, occlusion, patches
from anomaly_gan.reporting import explanations
from anomaly_gan.scoring.raw_pixels import RawPixels
from anomaly_gan.scoring.scores import anomaly_scores, contributions, make_bank, most_similar


@pytest.fixture(scope="module")
def detector(trained: Path) -> Detector:
    return Detector.load(trained)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (16, 16, 1), dtype=np.uint8)


def random_embeddings(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, 6, generator=generator), torch.randn(count, 4, generator=generator) + 2


def test_what_the_shifts_contribute_adds_up_to_the_score() -> None:
    bank = make_bank(*random_embeddings(30, 0))
    queries = random_embeddings(5, 1)
    scores = anomaly_scores(*queries, bank, 7)
    for name, parts in contributions(*queries, bank, 7).items():
        assert parts.shape == (5, 4)
        torch.testing.assert_close(parts.sum(dim=1), scores[name])


def test_the_most_similar_rows_are_those_of_a_naive_search() -> None:
    embeddings, _ = random_embeddings(5, 1)
    unit = make_bank(*random_embeddings(30, 0)).unit
    cosines, rows = most_similar(embeddings, unit, 3, 7)
    for i, query in enumerate(embeddings):
        naive = torch.stack([F.cosine_similarity(query, row, dim=1).mean() for row in unit])
        expected = naive.argsort(descending=True)[:3]
        assert rows[i].tolist() == expected.tolist()
        torch.testing.assert_close(cosines[i], naive[expected])


@pytest.mark.parametrize("side", [8, 16, 32, 45, 64])
def test_patches_cover_every_pixel_and_hide_nothing_outright_but_their_middle(side: int) -> None:
    masks = patches(side, torch.device("cpu"))
    assert masks.shape == (PATCHES_IN_ALL, side, side)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert masks.sum(dim=0).min() > 0.1
    assert (masks.flatten(1).mean(dim=1) < 0.1).all()


class Dark(RawPixels):
    """Scores how dark the image is in one corner, and nothing else."""

    def scores(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"raw_pixels": -images[:, 0, :4, :4].mean((1, 2))}

    def attribution(self, images: torch.Tensor, neighbours: int) -> None:
        """It cannot say."""


def test_the_heat_is_where_the_score_comes_from() -> None:
    image = torch.ones(1, 1, 16, 16)
    image[:, :, :4, :2] = 0  # a dark mark, half of the corner; its surroundings are bright
    scorer = Dark(image_size=16, channels=1)
    heat = occlusion(scorer, image, scorer.score(image).double())
    assert heat.shape == (16, 16)
    assert heat.argmax() // 16 < 4
    assert heat.argmax() % 16 < 4
    assert heat[:4, :2].mean() > 0
    assert heat[8:, 8:].abs().max() < 0.01 * heat.max()


def test_a_detector_explains_its_own_score(detector: Detector, image: np.ndarray) -> None:
    why = detector.explain(image)
    (prediction,) = detector.examine(image)
    assert why.score == pytest.approx(prediction.score)
    assert (why.p_value, why.anomalous) == (prediction.p_value, prediction.anomalous)
    assert why.threshold == detector.threshold.value
    assert np.array_equal(why.picture, image)
    assert why.heat.shape == (16, 16)
    assert sum(values.sum() for values in why.per_shift.values()) == pytest.approx(why.score, rel=1e-4)
    assert set(why.per_shift) == set(why.typical) == {"contrastive", "shift"}
    assert len(why.neighbours) == 5
    assert {neighbour.measure for neighbour in why.neighbours} == {"cosine"}
    cosines = [neighbour.likeness for neighbour in why.neighbours]
    assert cosines == sorted(cosines, reverse=True)
    assert -1 <= min(cosines) <= max(cosines) <= 1
    assert len(detector.explain(image, neighbours=1000).neighbours) == 36  # as many as there are


def test_a_normal_training_image_is_its_own_nearest_neighbour(detector: Detector) -> None:
    for row in (0, 17):
        why = detector.explain(detector.normal.thumbnails[row])
        assert why.neighbours[0].name == detector.normal.names[row]
        assert why.neighbours[0].likeness == pytest.approx(1, abs=1e-4)
        assert np.array_equal(why.neighbours[0].picture, why.picture)


def test_without_calibration_or_pictures_it_says_what_it_can(detector: Detector, image: np.ndarray) -> None:
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None]
    (why,) = explain(detector.scorer, tensor, ["image"], None, None)
    assert why.p_value is why.anomalous is why.threshold is None
    assert why.neighbours[0].picture is None
    assert why.neighbours[0].name.startswith("training image ")
    scorers = RawPixels(image_size=16, channels=1), Dark(image_size=16, channels=1)
    scorers[0].fit([torch.rand(5, 1, 16, 16)])
    by_pixels, dark = (next(explain(scorer, tensor, ["image"], None, None)) for scorer in scorers)
    assert by_pixels.per_shift == dark.per_shift == {}
    assert {neighbour.measure for neighbour in by_pixels.neighbours} == {"distance"}
    assert len(by_pixels.neighbours) == 5
    assert dark.neighbours == []
    for explanation in (why, by_pixels, dark):
        explanations.page(explanation)
    explanations.sheet([why, by_pixels, dark], "title")


def test_explaining_more_than_one_image_at_once_is_refused(detector: Detector, image: np.ndarray) -> None:
    with pytest.raises(UserError, match="one image"):
        detector.explain(np.stack([image, image]))


def batches(count: int, side: int) -> list[Batch]:
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    empty = torch.zeros(count).long()
    return [Batch(part, empty, empty) for part in images.split(3)]


@pytest.mark.parametrize(("side", "kept"), [(16, 16), (32, 32), (64, 32), (8, 8)])
def test_thumbnails_are_small_and_in_order(side: int, kept: int) -> None:
    given = batches(7, side)
    normal = NormalImages.of([str(i) for i in range(7)], given, 3, side)
    assert normal.thumbnails.shape == (7, 3, kept, kept)
    whole = torch.cat([batch.images for batch in given]).float()
    difference = normal.thumbnails.float().mean((2, 3)) - whole.mean((2, 3))
    assert difference.abs().max() < 1


def test_of_too_many_images_only_the_names_are_kept() -> None:
    names = [str(i) for i in range(30_000)]
    assert NormalImages.of(names, [], 3, 64) == NormalImages(names, None)
