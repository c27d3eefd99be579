"""The loop under Algorithm 1: precision, clips, what is no number, recorded steps."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader
from watching import make_trainer, train, watch, weights_and_buffers

from anomaly_gan.cli.trainer import speed_up
from anomaly_gan.data.image_set import in_memory
from anomaly_gan.errors import UserError
from anomaly_gan.methods.paper.algorithm import ABLATIONS
from anomaly_gan.methods.paper.objectives import Step
from anomaly_gan.training.captured import WARM_UP, Graph
from anomaly_gan.training.loop import PhasedTraining
from anomaly_gan.training.optimizers import LARS, SGD, Adam
from anomaly_gan.training.phases import Phase

F, G, E = "feature_extractor", "generator", "encoder"
D, LATENT_D = "discriminator", "latent_discriminator"
LINES = {phase.name: phase for phase in ABLATIONS["full"]}


class OperandTypes(TorchDispatchMode):
    """By operation, the types of its operands."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[torch.dtype]] = defaultdict(set)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        operands = [x.dtype for x in args if isinstance(x, torch.Tensor)]
        self.seen[function.overloadpacket.__name__].update(operands)
        return function(*args, **(kwargs or {}))


def test_in_half_precision_convolutions_are_halved_and_every_matrix_product_is_float32(
    make_method, tmp_path: Path
) -> None:
    """Lightning has autocast on around all of a step; a backward pass inside of it would be halved too."""
    method = make_method()
    with OperandTypes() as types:
        train(method, 1, tmp_path, precision="bf16-mixed")
    assert types.seen["convolution"] == types.seen["convolution_backward"] == {torch.bfloat16}
    products = {"mm", "addmm"} & set(types.seen)
    assert products == {"mm", "addmm"}  # of NT-Xent, of the heads of F, and of their gradients
    assert all(types.seen[name] == {torch.float32} for name in products)


def test_a_phase_minimises_the_weighted_sum_of_its_terms(make_method, phase_settings, tmp_path) -> None:
    weights = {"pixels": 7.0, "dissimilarity": 0.5}
    method = make_method("full", every=1, phases=phase_settings(reconstruction={"weights": weights}))
    train(method, 1, tmp_path)
    terms = {name: float(method.terms[f"train/reconstruction/{name}"]) for name in (*weights, "total")}
    assert terms["total"] == pytest.approx(7 * terms["pixels"] + 0.5 * terms["dissimilarity"], rel=1e-5)
    assert set(method.terms) == {
        f"train/{line}/{term}"
        for line, settings in method.phase_settings.items()
        if line in LINES
        for term in (*settings.weights, "total", "gradient_norm")
    }


@pytest.mark.parametrize("ablation", ["csi_g", "full"])
@pytest.mark.parametrize("clip", [None, 0.01])
def test_the_applied_gradient_is_no_longer_than_the_clip(
    make_method, phase_settings, tmp_path: Path, ablation: str, clip: float | None
) -> None:
    rate = 1e-3 if clip is None else 1.0
    method = make_method(
        ablation,
        every=1,
        optimizer=SGD(learning_rate=rate, momentum=0.0, weight_decay=0.0),
        phases=phase_settings(all_phases={"gradient_clip": clip}),
    )
    lengths: dict[str, float] = {}
    descend = method.descend

    def measured(phase: Phase, step: Step) -> None:
        before = [p.detach().double().clone() for p in method.parameters()]
        descend(phase, step)
        change = [p.detach().double() - old for p, old in zip(method.parameters(), before, strict=True)]
        lengths[phase.name] = float(torch.cat([c.flatten() for c in change]).norm()) / rate

    method.descend = measured  # type: ignore[method-assign]
    train(method, 1, tmp_path)
    assert list(lengths) == [phase.name for phase in ABLATIONS[ablation]]
    for line, length in lengths.items():
        norm = float(method.terms[f"train/{line}/gradient_norm"])  # before clipping
        assert norm > 0.01
        assert length == pytest.approx(norm if clip is None else clip, rel=2e-3), line


def poison(method: PhasedTraining, iteration: int) -> None:
    """D's judgements are no numbers from `iteration` on, counted from 1."""

    def at_start(*_: Any) -> None:
        if method.iteration + 1 == iteration:
            with torch.no_grad():
                method.networks[D].body[-1].bias.fill_(torch.nan)

    method.on_train_batch_start = at_start  # type: ignore[method-assign]


def test_a_loss_that_is_no_number_ends_the_training_with_phase_and_iteration(
    make_method, tmp_path: Path
) -> None:
    method = make_method("full", every=2)
    poison(method, 4)
    ended = []
    method.on_train_batch_end = lambda *_: ended.append(method.iteration)  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"at iteration 4: .* phase 'discriminator'.*nan") as caught:
        train(method, 6, tmp_path)
    assert "\n" not in str(caught.value)
    assert "method.phases.discriminator.gradient_clip" in str(caught.value)
    assert ended == [0, 1, 2]  # what saves at the end of an iteration never saw the fourth


def test_steps_of_a_phase_that_are_no_numbers_are_left_out_and_counted_and_the_rest_goes_on(
    make_method, tmp_path: Path
) -> None:
    method = make_method("csi_g", every=1, on_non_finite="skip")
    poison(method, 2)
    seen = watch(method)
    train(method, 4, tmp_path)
    assert method.skipped == {"discriminator": 3, "adversarial": 3}
    for iteration, line, what in seen:
        for name in LINES[line].trains:
            if name not in method.networks:
                continue
            weights, _ = weights_and_buffers(method.networks[name])
            left_out = iteration > 1 and line in method.skipped
            assert not what[name] if left_out else what[name] & weights, (iteration, line)
    assert len(seen) == 4 * 5
    for name in (F, G):
        assert all(value.isfinite().all() for value in method.networks[name].state_dict().values())


@pytest.mark.parametrize("iteration", [3, 4, 5])
def test_what_is_no_number_between_two_logs_is_named_by_its_own_iteration(
    make_method, tmp_path: Path, iteration: int
) -> None:
    method = make_method("full", every=1, log_every_iterations=4, total_iterations=6)
    poison(method, iteration)
    with pytest.raises(UserError, match=rf"at iteration {iteration}: .* phase 'discriminator'"):
        train(method, 6, tmp_path)


def test_training_lowers_the_loss_on_real_digits(make_method, tmp_path: Path) -> None:
    images = torch.from_numpy(load_digits().images[:32] * 15).to(torch.uint8)[:, None]
    images = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    digits = in_memory(images, torch.zeros(32, dtype=torch.int64), "train", torch.arange(32))
    method = make_method(total_iterations=30)
    totals = []
    method.on_train_batch_end = lambda *_: totals.append(float(method.terms["train/feature/total"]))
    batches = torch.arange(32).view(4, 8).tolist() * 8
    make_trainer(tmp_path).fit(method, DataLoader(digits, batch_size=None, sampler=batches))
    assert sum(totals[-8:]) < 0.9 * sum(totals[:8])


class Tape(Graph):
    """Stands for a CUDA graph: does what was recorded again, on the memory it was recorded on.

    It runs the Python again, too: numbers that a graph would have kept from its recording do not show here.
    """

    def record(self, work: Callable[[], None], generator: torch.Generator) -> None:
        self.work = work

    def replay(self) -> None:
        self.work()


@pytest.fixture
def _float64() -> Iterator[None]:
    """Rounding does not grow into differences then."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("ablation", ["csi", "full"])
def test_phases_that_are_recorded_and_replayed_learn_the_same(
    make_method, tmp_path: Path, ablation: str
) -> None:
    found = []
    for graph in (None, Tape):
        torch.manual_seed(0)
        recipe = Adam(learning_rate=1e-3, warmup_fraction=0.5)  # a rate that moves
        method = make_method(ablation, every=2, optimizer=recipe, total_iterations=12)
        if graph is not None:
            method.capture_phases(graph)
        train(method, 12, tmp_path)
        found.append((method, {name: value.clone() for name, value in method.terms.items()}))
    (eager, terms), (replayed, again) = found
    assert replayed.captured is not None
    assert all(captured.calls > WARM_UP + 1 for captured in replayed.captured.values())
    torch.testing.assert_close(again, terms, rtol=1e-6, atol=1e-9)
    # Adam makes 1e-9 of the nothing that reaches a bias before batch norm.
    torch.testing.assert_close(replayed.state_dict(), eager.state_dict(), rtol=1e-4, atol=1e-7)


WAITING = {"skip": {"on_non_finite": "skip"}, "LARS": {"optimizer": LARS()}}
"""Trainings in which every step waits for the device."""


@pytest.mark.parametrize("waiting", WAITING)
def test_a_training_that_waits_for_the_device_cannot_be_replayed(make_method, waiting: str) -> None:
    with pytest.raises(UserError, match=r"trainer\.cuda_graphs=false"):
        make_method(**WAITING[waiting]).capture_phases(Tape)


@pytest.mark.parametrize(
    ("settings", "device", "processes", "recorded"),
    [
        ({}, "cuda", 1, True),
        ({}, "cpu", 1, False),
        ({}, "cuda", 2, False),
        *[(settings, "cuda", 1, False) for settings in WAITING.values()],
    ],
)
def test_phases_are_replayed_where_nothing_is_said_on_one_gpu_if_they_can_be(
    make_method, settings: dict, device: str, processes: int, recorded: bool
) -> None:
    method = make_method(**settings)
    said = speed_up(method, {"compile": False, "cuda_graphs": "auto"}, torch.device(device), processes)
    assert (method.captured is not None) == recorded
    assert said == {"compile": False, "cuda_graphs": recorded}


@pytest.mark.parametrize(
    ("graphs", "words"),
    [
        (True, "for a run on one GPU"),
        ("perhaps", "valid: true, false, auto"),
        (1, "valid: true, false, auto"),
    ],
)
def test_graphs_that_cannot_be_had_are_refused(make_method, graphs: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        speed_up(make_method(), {"compile": False, "cuda_graphs": graphs}, torch.device("cpu"), 1)
