"""What every method promises, of every recipe in conf/method: one that breaks it cannot be shipped.

All goes through the real configuration. `recipes.SMALL` makes a method small; where that is not enough, it
has a file of its own in conf/debug/of.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from omegaconf import OmegaConf
from recipes import (
    LEARNS,
    METHODS,
    SHORT,
    SMALL,
    Config,
    Keep,
    composed,
    evaluated,
    loaded,
    of_images,
    same,
    share,
    state,
    steps_of_all_phases,
    train,
    untrained,
    watch,
)

from anomaly_gan import Detector, UserError, checkpoint
from anomaly_gan.callbacks.training_checkpoint import next_iteration, read
from anomaly_gan.checkpoint import Checkpoint
from anomaly_gan.cli import train as command
from anomaly_gan.cli.main import main
from anomaly_gan.data.normal_images import NormalImages
from anomaly_gan.explanation import explain
from anomaly_gan.export.file import TOLERANCE, export
from anomaly_gan.export.formats import FORMATS
from anomaly_gan.launch import in_processes
from anomaly_gan.reporting import explanations
from anomaly_gan.results import RunResult
from anomaly_gan.runs import DETECTOR_FILE, draw
from anomaly_gan.scoring.base import Scorer
from anomaly_gan.transforms.convert import to_float


@pytest.fixture(scope="module", params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[*((name,) for name in METHODS), ("full", "budget=minutes")], ids=" ".join)
def recipe(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Of each method, and that of minutes, which trains by another optimizer."""
    chosen: tuple[str, ...] = request.param
    return chosen


@pytest.fixture(scope="module")
def run(method: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the command in a given time; it has some, and trains three steps of that."""
    runs, in_time = tmp_path_factory.mktemp(method), command.images_in_time

    def three_steps(config: Config, data: Any, *others: Any) -> int:
        assert in_time(config, data, *others) >= data.batch_size
        return 3 * int(data.batch_size)

    arguments = ["train", f"method={method}", "budget=10min", *SMALL, f"paths.runs={runs}"]
    arguments.append("callbacks.learning_curve.at_iterations=[]")  # to be quick
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "images_in_time", three_steps)
        patch.setattr(draw, "EXPLAINED", 1)  # of the best and of the worst: to be quick
        patch.setattr(sys, "argv", ["anomaly-gan", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
    assert not stop.value.code
    (folder,) = (runs / "digits").iterdir()
    return folder


@pytest.fixture(scope="module")
def detector(run: Path) -> Checkpoint:
    return checkpoint.read(run)


@pytest.fixture(scope="module")
def scorer(detector: Checkpoint) -> Scorer:
    return detector.build()


@pytest.fixture(scope="module")
def raw(method: str) -> torch.Tensor:
    """Real digits of all classes, uint8 [9, 1, 16, 16]."""
    test = loaded(composed(method, *SMALL)).test
    assert test is not None
    return test[range(0, len(test), len(test) // 8)[:9]].images


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [16, 32, 64])
def test_it_is_built_from_its_configuration_for_any_size_and_scores(
    method: str, side: int, channels: int
) -> None:
    built = untrained(composed(method, *SMALL), of_images(side, channels))
    assert built.name == method
    built.scorer.fit(torch.rand(3, channels, side, side).split(2))
    scores = built.scorer.score(torch.rand(2, channels, side, side))
    assert scores.shape == (2,)
    assert scores.isfinite().all()


def test_each_phase_moves_the_networks_that_it_names_and_nothing_else(method: str, tmp_path: Path) -> None:
    config = composed(method, *SMALL)
    data = loaded(config)
    data.total_images = data.batch_size * steps_of_all_phases(untrained(config, data.describe()))
    built = untrained(config, data.describe())
    seen, before = watch(built), state(built)
    train(built, data, config, tmp_path)
    for phase, by_weight, moved in seen:
        assert by_weight == set(phase.trains), phase.name
        assert moved == set(phase.trains), phase.name
    ran, planned = {phase.name for phase, *_ in seen}, [stage.phases for stage in built.plan]
    assert ran == {phase.name for phases in planned for phase in phases}
    if not built.learns:
        same(state(built), before)


def test_every_score_is_one_finite_number_an_image_and_the_same_every_time(
    scorer: Scorer, raw: torch.Tensor
) -> None:
    before = state(scorer)
    scores = scorer.scores(to_float(raw))
    assert {scorer.primary, *scorer.parts} <= scores.keys()
    assert scorer.primary not in scorer.parts
    for name, values in scores.items():
        assert values.shape == (len(raw),), name
        assert values.isfinite().all(), name
    assert len(scores[scorer.primary].unique()) > 1
    assert torch.equal(scorer.score(to_float(raw)), scores[scorer.primary])
    same(scorer.scores(to_float(raw)), scores)
    same(state(scorer), before)


def test_a_score_does_not_hang_on_what_else_is_in_the_batch(scorer: Scorer, raw: torch.Tensor) -> None:
    images, order = to_float(raw), torch.randperm(len(raw))
    together, shuffled = scorer.scores(images), scorer.scores(images[order])
    alone = [scorer.scores(image[None]) for image in images]
    for name, values in together.items():
        close = {"rtol": 1e-4, "atol": 1e-4 * float(values.abs().mean()), "msg": name}
        torch.testing.assert_close(shuffled[name], values[order], **close)
        torch.testing.assert_close(torch.cat([one[name] for one in alone]), values, **close)


def test_a_detectors_file_scores_to_the_bit_whatever_is_said_of_its_training(
    method: str, raw: torch.Tensor, tmp_path: Path
) -> None:
    config = composed(method, *SMALL)
    data = of_images(16, 1)
    scorer = untrained(config, data).scorer
    scorer.fit(to_float(raw).split(4))
    expected = scorer.scores(to_float(raw))
    another_version = {"_target_": "anomaly_gan.methods.gone.Gone", "name": method, "renamed": {"to": 1}}
    for training in (config["method"], another_version):
        said = config | {"method": training}
        checkpoint.save(tmp_path / DETECTOR_FILE, scorer, said, data, None, NormalImages([], None))
        file = checkpoint.read(tmp_path)
        assert file.method == method
        rebuilt = file.build()
        assert rebuilt.primary == scorer.primary
        same(rebuilt.scores(to_float(raw)), expected)
        same(state(rebuilt), state(scorer))


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(FORMATS))
def test_an_exported_file_gives_the_detectors_scores_or_says_what_to_do(
    detector: Checkpoint, scorer: Scorer, raw: torch.Tensor, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / f"detector{FORMATS[kind].suffix}"
    try:
        done = export(detector, kind, file, None)
    except UserError as refused:
        remedy = str(refused)
        assert "\n" not in remedy
        assert "=" in remedy.partition(":")[2], remedy  # a setting that can be given
        assert not file.exists()
        return
    assert done.score == scorer.primary
    read_again, said = FORMATS[kind].open(file)
    assert said["method"] == detector.method
    expected = scorer.score(to_float(raw)).numpy()
    found = read_again(raw.numpy())
    assert list(found) == said["outputs"]
    np.testing.assert_allclose(found["score"], expected, atol=TOLERANCE * np.abs(expected).mean(), rtol=0)
    assert ("map" in found) is scorer.scores_places
    if scorer.scores_places:
        maps = scorer.maps(to_float(raw)).numpy()
        np.testing.assert_allclose(found["map"], maps, atol=TOLERANCE * np.abs(maps).mean(), rtol=0)
        assert np.array_equal(found["map"].max(axis=(1, 2)), found["score"])


def test_its_explanation_adds_up_and_is_drawn(
    detector: Checkpoint, scorer: Scorer, raw: torch.Tensor
) -> None:
    images = to_float(raw)
    found, score = scorer.attribution(images, 3), scorer.score(images)
    if found is not None and found.per_shift:
        total = torch.stack([part.sum(1) for part in found.per_shift.values()]).sum(0)
        torch.testing.assert_close(total, score, rtol=1e-4, atol=1e-4 * float(score.abs().mean()))
        assert {part: values.shape[1:] for part, values in found.per_shift.items()} == {
            part: values.shape for part, values in found.typical.items()
        }
    if found is not None and found.neighbours is not None:
        nearest = found.neighbours
        best_first = nearest.likeness.sort(descending=nearest.measure != "distance").values
        assert torch.equal(nearest.likeness, best_first)
        assert nearest.row.shape == (len(raw), 3)
        assert detector.normal is not None
        itself = scorer.attribution(to_float(detector.normal.thumbnails[:4]), 1).neighbours
        assert itself.row.flatten().tolist() == [0, 1, 2, 3]
        own = {"cosine": 1.0, "overlap": 1.0, "distance": 0.0}[nearest.measure]
        torch.testing.assert_close(itself.likeness, torch.full((4, 1), own), rtol=0, atol=1e-4)
    threshold = detector.threshold(scorer.primary, None)
    shown = list(explain(scorer, raw[:2], ["one", "two"], threshold, detector.normal, neighbours=3))
    for explanation, value in zip(shown, score.tolist(), strict=False):
        assert explanation.score == pytest.approx(value, rel=1e-4)
        assert np.isfinite(explanation.heat).all()
        explanations.page(explanation).canvas.draw()
    explanations.sheet(shown, "all of them").canvas.draw()
    plt.close("all")


def test_the_score_of_an_image_is_that_of_its_worst_place_or_there_are_none(
    run: Path, raw: torch.Tensor
) -> None:
    detector = Detector.load(run)
    image = raw[0].permute(1, 2, 0).numpy()
    if not detector.scorer.scores_places:
        with pytest.raises(UserError, match="looks at whole images"):
            detector.score_map(image)
        with pytest.raises(UserError, match=r"maps=True: .* explain\(\)"):
            next(detector.examine([image], maps=True))
        return
    found = detector.score_map(image)
    assert found.shape == image.shape[:2]
    assert found.max() == pytest.approx(detector.score([image])[0], rel=1e-5)
    assert detector.explain(image).heat_of == "places"
    (prediction,) = detector.examine([image], maps=True)
    assert np.array_equal(prediction.map, found)
    assert next(detector.examine([image])).map is None


def test_a_training_that_is_resumed_anywhere_ends_as_the_uninterrupted_one(
    recipe: tuple[str, ...], tmp_path: Path
) -> None:
    config = composed(*recipe, *SMALL)
    data = loaded(config)
    iterations = 2 * steps_of_all_phases(untrained(config, data.describe()))
    ends = []
    for done in range(iterations):
        data = loaded(config, iterations)
        built = untrained(config, data.describe())
        if done and built.learns:
            resume = tmp_path / f"{done}.ckpt"
            data.start_iteration = next_iteration(read(resume))
            assert data.start_iteration == done
            train(built, data, config, tmp_path, resume=resume)
        else:
            train(built, data, config, tmp_path, Keep())
        scores = evaluated(built, data).scores
        ends.append(state(built) | {name: torch.from_numpy(values) for name, values in scores.items()})
    for end in ends[1:]:
        same(end, ends[0])


@pytest.mark.slow
def test_two_processes_are_one(recipe: tuple[str, ...], tmp_path: Path) -> None:
    # Seven images a step are shared unevenly. Normal images are looked at in the same batches by one and two.
    config = composed(*recipe, *SMALL, "batch_size=7", "data.evaluation_batch_size=18")
    for processes in (1, 2):
        in_processes(share, (tmp_path, config, processes), processes)
    one, two = (torch.load(tmp_path / f"{processes}") for processes in (1, 2))
    for name, weight in one["state"].items():
        # Adam makes 1e-9 of the nothing that reaches a bias before batch norm.
        torch.testing.assert_close(two["state"][name], weight, rtol=1e-4, atol=1e-8, msg=name)
    torch.testing.assert_close(two["scores"], one["scores"], rtol=1e-4, atol=1e-8)


def test_the_command_trains_it_in_a_given_time_and_leaves_its_files(run: Path, method: str) -> None:
    left = {path.name for path in run.iterdir()}
    assert {"result.json", DETECTOR_FILE, "scores.csv", "held_out.csv", "report.html"} <= left
    result, config = RunResult.read(run), OmegaConf.load(run / "config.yaml")
    learns = untrained(composed(method, *SMALL), of_images(16, 1)).learns
    assert result.method == method
    assert result.iterations == (3 if learns else 0)
    # Of a timed run its configuration keeps the number of images, by which it can be repeated.
    assert (config.schedule.minutes, config.data.total_images) == ((None, 24) if learns else (10, 32))
    assert result.auroc is not None
    assert method in (run / "report.html").read_text()


@pytest.mark.parametrize(
    "learner", [pytest.param(name, marks=() if name in SHORT else pytest.mark.slow) for name in METHODS]
)
def test_training_makes_the_score_tell_a_class_from_the_others(learner: str, tmp_path: Path) -> None:
    margin, settings = LEARNS.get(learner, (0.1, ""))
    config = composed(learner, *SMALL, "data.limit=100", *settings.split())
    data = loaded(config)
    found = []
    for iterations in (0, data.iterations):
        built = untrained(config, data.describe())
        if iterations:
            train(built, data, config, tmp_path)
        found.append(evaluated(built, data).aurocs()[built.scorer.primary])
    before, after = found
    assert before is not None
    assert after is not None
    assert after > before + margin if built.learns else after == before
