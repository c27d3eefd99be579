"""`from anomaly_gan import Detector`: a detector in a user's own program."""

import doctest
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import is_outlier_detector
from sklearn.metrics import get_scorer, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import anomaly_gan
from anomaly_gan import Detector, UserError, inference


@pytest.fixture(scope="module")
def detector(trained: Path) -> Detector:
    return Detector.load(trained)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 255, (14 + i, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


@pytest.fixture(scope="module")
def batch() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (30, 16, 16, 1), dtype=np.uint8)


def test_the_package_and_its_help_do_not_load_torch() -> None:
    probe = "import sys, anomaly_gan; anomaly_gan.UserError; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", probe], check=True)
    assert anomaly_gan.Detector is Detector
    assert {"Detector", "UserError"} <= set(anomaly_gan.__all__)
    with pytest.raises(AttributeError, match="Detektor"):
        anomaly_gan.Detektor  # noqa: B018


def test_the_examples_of_the_documentation_run(trained: Path, detector: Detector, paths) -> None:
    finder = doctest.DocTestFinder(recurse=True)
    runner = doctest.DocTestRunner()
    tests = finder.find(inference, extraglobs={"run": trained, "path": paths[0], "detector": detector})
    assert sum(len(test.examples) for test in tests) >= 4
    for test in tests:
        runner.run(test)
    assert runner.failures == 0


def test_a_score_is_the_same_however_the_image_comes(detector: Detector, paths: list[Path]) -> None:
    expected = detector.score(paths)
    arrays = [np.array(Image.open(path)) for path in paths]
    assert expected.shape == (40,)
    assert expected.dtype == np.float64
    assert len(np.unique(expected)) == 40
    for images in (
        [str(path) for path in paths],
        np.array([str(path) for path in paths]),
        (Image.open(path) for path in paths),
        arrays,
        [array / 255 for array in arrays],
        [torch.from_numpy(array).permute(2, 0, 1) for array in arrays],
        [paths[:7], *arrays[7:20], [Image.open(path) for path in paths[20:]]],
    ):
        assert np.array_equal(detector.score(images), expected)


def test_a_batch_of_arrays_or_tensors_has_the_scores_of_its_images(
    detector: Detector, batch: np.ndarray
) -> None:
    expected = detector.score(list(batch))
    tensor = torch.from_numpy(batch).permute(0, 3, 1, 2)
    for images in (batch, batch / 255, tensor, tensor / 255, batch[..., 0][..., None]):
        assert np.array_equal(detector.score(images), expected)
    np.testing.assert_allclose(detector.score(batch, batch_size=7), expected, rtol=1e-4, atol=1e-5)
    assert detector.score(batch[0]).shape == (1,)
    assert detector.score([]).shape == detector.predict([]).shape == (0,)


def test_it_speaks_as_an_outlier_detector_of_scikit_learn_does(detector: Detector, batch: np.ndarray) -> None:
    score, decision = detector.score(batch), detector.decision_function(batch)
    assert np.array_equal(detector.score_samples(batch), -score)
    np.testing.assert_allclose(decision, detector.score_samples(batch) - detector.offset_, atol=1e-12)
    predicted = detector.predict(batch)
    assert predicted.dtype.kind == "i"
    assert np.array_equal(predicted, np.where(decision < 0, -1, 1))
    assert set(np.unique(predicted)) <= {-1, 1}


def score_in_processes(run: Path, images: np.ndarray, sender: Connection) -> None:
    """In a spawned process, by two threads; then in one forked from it, by one."""
    torch.set_num_threads(2)
    detector = Detector.load(run)
    sender.send(detector.score(images))
    context = multiprocessing.get_context("fork")
    forked = context.Process(target=score_by_one_thread, args=(detector, images, sender), daemon=True)
    forked.start()
    forked.join(60)


def score_by_one_thread(detector: Detector, images: np.ndarray, sender: Connection) -> None:
    torch.set_num_threads(1)
    sender.send([found.score for found in detector.examine(images)])


def test_other_processes_score_alike_where_they_are_started_as_the_documentation_says(
    trained: Path, detector: Detector, batch: np.ndarray
) -> None:
    page = Path(__file__).parents[1] / "docs" / "own_images.md"
    for text in (Detector.__doc__ or "", page.read_text()):
        assert all(remedy in text for remedy in ('"spawn"', '"forkserver"', "torch.set_num_threads(1)"))
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=score_in_processes, args=(trained, batch, sender))
    process.start()
    for _ in range(2):
        assert receiver.poll(120)
        np.testing.assert_allclose(receiver.recv(), detector.score(batch), rtol=1e-4, atol=1e-5)
    process.join()


def test_scikit_learn_s_own_tools_take_it(detector: Detector, batch: np.ndarray) -> None:
    truth = np.arange(30) % 3 > 0  # of whether an image is normal, as scikit-learn has it
    auroc = roc_auc_score(truth, detector.decision_function(batch))
    assert get_scorer("roc_auc")(detector, batch, truth) == pytest.approx(auroc)
    as_floats = FunctionTransformer(lambda images: images / 255)
    pipeline = make_pipeline(as_floats, FunctionTransformer(detector.score_samples))
    assert np.array_equal(pipeline.fit_transform(batch), detector.score_samples(batch))
    assert is_outlier_detector(detector)


def test_the_threshold_is_for_the_rate_asked_for(trained: Path, detector: Detector, batch) -> None:
    assert detector.threshold is not None
    assert detector.threshold.rate == 0.2  # four held-out images
    often = Detector.load(trained, false_positive_rate=0.6)
    assert often.threshold.value < detector.threshold.value
    assert np.array_equal(often.score(batch), detector.score(batch))
    with pytest.raises(UserError, match="at best"):
        Detector.load(trained, false_positive_rate=0.01)


def test_examining_says_everything_and_goes_past_bad_files(detector: Detector, folder: Path, paths) -> None:
    given = [paths[0], folder / "nowhere.png", np.array(Image.open(paths[1])), str(paths[2])]
    found = list(detector.examine(given, batch_size=3))
    assert [prediction.index for prediction in found] == [0, 1, 2, 3]
    assert [prediction.path for prediction in found] == [paths[0], folder / "nowhere.png", None, paths[2]]
    assert "no such file" in found[1].error
    assert found[1].score is found[1].p_value is found[1].anomalous is None
    assert found[1].scores == {}
    readable = [prediction for prediction in found if prediction.error is None]
    scores = detector.score(paths[:3])
    predicted = detector.predict(paths[:3])
    for prediction, score, label in zip(readable, scores, predicted, strict=True):
        assert prediction.score == prediction.scores[detector.primary] == pytest.approx(score, rel=1e-4)
        assert list(prediction.scores) == detector.score_names
        assert prediction.anomalous == (label == -1)
        assert prediction.anomalous == (prediction.p_value <= detector.threshold.rate)


def test_where_scores_are_asked_for_a_bad_file_is_raised(detector: Detector, folder: Path, paths) -> None:
    with pytest.raises(UserError, match=r"nowhere\.png: not a readable image"):
        detector.score([paths[0], folder / "nowhere.png"])


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_a_batch_size_that_is_none_is_refused(detector: Detector, batch: np.ndarray, size) -> None:
    with pytest.raises(UserError, match="batch_size"):
        inference.check_batch_size(size)


def test_images_are_drawn_as_they_are_needed(detector: Detector, batch: np.ndarray) -> None:
    drawn = []

    def images():
        for i in range(1000):
            drawn.append(i)
            yield batch[i % 30]

    predictions = detector.examine(images(), batch_size=8)
    next(predictions)
    assert len(drawn) < 100
    predictions.close()


@pytest.mark.parametrize("ensemble", [0, 2])
def test_four_threads_get_what_one_gets(trained: Path, paths: list[Path], ensemble: int) -> None:
    detector = Detector.load(trained)
    detector.scorer.forms = detector.scorer.forms[: 1 + (ensemble > 0)]
    detector.scorer.primary = "csi_ens" if ensemble else "csi"
    parts = [paths[i::8] for i in range(8)]
    expected = [detector.score(part) for part in parts]
    detector.scorer.train()  # whoever comes first puts it right, for all
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            for found, scores in zip(pool.map(detector.score, parts), expected, strict=True):
                assert np.array_equal(found, scores)


@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_each_image_of_a_camera_loop_has_its_score_as_it_was_when_it_was_yielded(
    detector: Detector, batch: np.ndarray, batch_size: int
) -> None:
    def loop() -> Iterator[np.ndarray]:
        buffer = np.empty_like(batch[0])
        for array in batch:
            buffer[:] = array
            yield buffer

    expected = detector.score(batch, batch_size)
    assert len(np.unique(expected)) == 30
    assert np.array_equal(detector.score(loop(), batch_size), expected)
    assert [found.score for found in detector.examine(loop(), batch_size)] == expected.tolist()
    decided = np.where(expected > detector.threshold.value, -1, 1)
    assert np.array_equal(detector.predict(loop(), batch_size), decided)


def test_one_lazily_opened_image_given_many_times_has_one_score(detector: Detector, paths) -> None:
    for path in paths[:4]:
        with Image.open(path) as image:
            assert np.array_equal(detector.score([image] * 64), detector.score([path] * 64))


def test_a_damaged_pil_image_is_told_like_a_damaged_file(detector: Detector, paths, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(paths[30].read_bytes()[:600])
    with Image.open(damaged) as image:
        found = list(detector.examine([Image.open(paths[0]), image, Image.open(paths[1])]))
        assert [prediction.error is None for prediction in found] == [True, False, True]
        assert "damaged.png: not a readable image" in found[1].error
        with pytest.raises(UserError, match=r"damaged\.png"):
            detector.score(image)
