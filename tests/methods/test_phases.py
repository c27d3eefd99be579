"""Algorithm 1: the table, and that each line moves what it names and nothing else."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from anomaly_gan import objectives
from anomaly_gan.algorithm import ABLATIONS, Phase, with_period, with_shared_forward
from anomaly_gan.data.image_set import Batch, in_memory
from anomaly_gan.errors import UserError
from anomaly_gan.losses.contrastive import nt_xent, shift_classification
from anomaly_gan.methods.captured import WARM_UP, Graph
from anomaly_gan.methods.phased import PhasedDetector, PhaseSettings
from anomaly_gan.networks.modes import frozen
from anomaly_gan.objectives import Step, feature
from anomaly_gan.optimizers import SGD, Adam
from anomaly_gan.randomness import RowRng
from anomaly_gan.sharding import Shard
from anomaly_gan.transforms.augment import Augment
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.transforms.diff_augment import DiffAugment
from anomaly_gan.transforms.shifts import Rotations
from anomaly_gan.transforms.views import ShiftedViews
from anomaly_gan.types import Images, Scores

F, G, E = "feature_extractor", "generator", "encoder"
D, LATENT_D = "discriminator", "latent_discriminator"
LINES = {phase.name: phase for phase in ABLATIONS["full"]}


def train(
    detector: PhasedDetector, iterations: int, folder: Path, side: int = 16, precision: Any = "32-true"
) -> None:
    raw = torch.from_numpy(load_digits().images[: 4 * iterations] * 15).to(torch.uint8)
    times = side // 8
    raw = raw.repeat_interleave(times, 1).repeat_interleave(times, 2).view(iterations, 4, 1, side, side)
    data = [Batch(images, torch.zeros(4, dtype=torch.int64), torch.arange(4)) for images in raw]
    pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    ).fit(detector, DataLoader(data, batch_size=None))


State = dict[str, torch.Tensor]


def state(module: nn.Module) -> State:
    return copy.deepcopy(module.state_dict())


def moved(before: State, after: State) -> set[str]:
    """The names of weights and buffers that are not bit for bit the same; a NaN is the same as a NaN."""
    return {
        name
        for name, value in before.items()
        if not torch.equal(value.nan_to_num(nan=7e7), after[name].nan_to_num(nan=7e7))
    }


def watch(detector: PhasedDetector) -> list[tuple[int, str, dict[str, set[str]]]]:
    """Of every line that runs: iteration, name, and what it moved in each network."""
    seen: list[tuple[int, str, dict[str, set[str]]]] = []
    descend = detector.descend

    def watched(phase: Phase, step: Step) -> None:
        before = {name: state(network) for name, network in detector.networks.items()}
        descend(phase, step)
        after = {name: moved(before[name], state(net)) for name, net in detector.networks.items()}
        seen.append((detector.iteration + 1, phase.name, after))

    detector.descend = watched  # type: ignore[method-assign]
    return seen


def weights_and_buffers(network: nn.Module) -> tuple[set[str], set[str]]:
    weights = {name for name, _ in network.named_parameters()}
    return weights, set(network.state_dict()) - weights


@pytest.mark.parametrize(
    ("ablation", "table"),
    [
        ("csi", [("feature", (F,), 1, objectives.feature)]),
        (
            "csi_g",
            [
                ("feature", (F,), 1, objectives.feature),
                ("discriminator", (D,), 5, objectives.discriminator_of_synthetic),
                ("adversarial", (G,), 5, objectives.adversarial_of_synthetic),
                ("synthetic_contrast", (G,), 5, objectives.synthetic_contrast),
                ("joint", (F,), 5, objectives.joint),
            ],
        ),
        (
            "full",
            [
                ("feature", (F,), 1, objectives.feature),
                ("discriminator", (D,), 5, objectives.discriminator),
                ("adversarial", (G, E), 5, objectives.adversarial),
                ("synthetic_contrast", (G,), 5, objectives.synthetic_contrast),
                ("latent_discriminator", (LATENT_D,), 5, objectives.latent_discriminator),
                ("latent_adversarial", (E,), 5, objectives.latent_adversarial),
                ("reconstruction", (G, E), 5, objectives.reconstruction),
                ("latent_reconstruction", (E,), 5, objectives.latent_reconstruction),
                ("joint", (F,), 5, objectives.joint),
            ],
        ),
    ],
)
def test_phases_follow_algorithm_1(ablation: str, table: list[tuple[Any, ...]]) -> None:
    assert [(p.name, p.trains, p.every, p.objective) for p in ABLATIONS[ablation]] == table
    assert set(ABLATIONS) == {"csi", "csi_g", "full"}


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
    make_detector, tmp_path: Path
) -> None:
    """Lightning has autocast on around all of a step; a backward pass inside of it would be halved too."""
    detector = make_detector()
    with OperandTypes() as types:
        train(detector, 1, tmp_path, precision="bf16-mixed")
    assert types.seen["convolution"] == types.seen["convolution_backward"] == {torch.bfloat16}
    products = {"mm", "addmm"} & set(types.seen)
    assert products == {"mm", "addmm"}  # of NT-Xent, of the heads of F, and of their gradients
    assert all(types.seen[name] == {torch.float32} for name in products)


@pytest.mark.parametrize("ablation", list(ABLATIONS))
def test_every_phase_trains_networks_the_detector_has(make_detector, ablation: str) -> None:
    detector = make_detector(ablation=ablation)
    assert {name for phase in detector.phases for name in phase.trains} == set(detector.networks)


def test_without_an_encoder_in_the_table_none_is_built(make_detector) -> None:
    assert list(make_detector(ablation="csi").networks) == [F]
    csi_g = make_detector(ablation="csi_g")
    assert list(csi_g.networks) == [F, D, G]
    assert (csi_g.generates, csi_g.reconstructs) == (True, False)
    assert set(make_detector(ablation="full").networks) == {F, G, E, D, LATENT_D}


def test_another_period_holds_for_every_line_but_the_first() -> None:
    for ablation in ABLATIONS.values():
        assert [phase.every for phase in with_period(ablation, 7)] == [1] + [7] * (len(ablation) - 1)
        assert with_period(ablation, 5) == ablation


class Toy(PhasedDetector):
    """Two small networks and phases that try to move what they may not."""

    name, primary = "toy", "toy"

    def __init__(self, phases: tuple[Phase, ...], recipe: Adam | None = None, weight: float = 1.0):
        def network() -> nn.Module:
            return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(3))

        networks = {"first": network(), "second": network()}
        for net in networks.values():
            net(torch.rand(2, 1, 16, 16))  # gives the lazy layer its size
        super().__init__(
            phases=phases,
            networks=networks,
            settings={phase.name: PhaseSettings({"both": weight}) for phase in phases},
            recipe=recipe or Adam(learning_rate=1e-2),
            total_iterations=6,
            on_non_finite="raise",
            log_every_iterations=1,
        )

    def make_step(self, batch: Batch) -> Step:
        return Step(
            networks=dict(self.networks.items()),
            images=to_float(batch.images),
            latents=torch.zeros(len(batch.images), 1),
            views=ShiftedViews(Rotations(), Augment()),
            temperature=0.5,
            adversarial="hinge",
            diff_augment=DiffAugment(),
            generator_side=16,
            shard=Shard(len(batch.images)),
            rng=RowRng(torch.Generator()),
        )

    def fit_scorer(self, normal: Any) -> None:
        raise AssertionError("not scored")

    def score_all(self, images: Images) -> dict[str, Scores]:
        raise AssertionError("not scored")


def both(step: Step) -> dict[str, torch.Tensor]:
    return {"both": step.networks["first"](step.images).mean() + step.networks["second"](step.images).mean()}


def test_each_phase_changes_exactly_the_networks_it_names_bit_for_bit(tmp_path: Path) -> None:
    toy = Toy(
        (
            Phase("one", ("first",), both),
            Phase("two", ("second",), both),
            Phase("all", ("first", "second"), both),
        )
    )
    seen = watch(toy)
    train(toy, 2, tmp_path)
    expected = [
        ("one", {"first": True, "second": False}),
        ("two", {"first": False, "second": True}),
        ("all", {"first": True, "second": True}),
    ]
    assert [(name, {net: bool(what) for net, what in nets.items()}) for _, name, nets in seen] == expected * 2


def test_a_phase_runs_in_every_nth_iteration(tmp_path: Path) -> None:
    toy = Toy((Phase("each", ("first",), both), Phase("third", ("second",), both, every=3)))
    seen = watch(toy)
    train(toy, 6, tmp_path)
    assert [name for _, name, _ in seen] == ["each", "each", "each", "third"] * 2
    assert [iteration for iteration, name, _ in seen if name == "third"] == [3, 6]


def test_a_phase_waits_for_its_first_iteration(tmp_path: Path) -> None:
    toy = Toy((Phase("each", ("first",), both), Phase("second", ("second",), both, every=2)))
    toy.settings = {
        "each": PhaseSettings({"both": 1.0}, start_iteration=1),
        "second": PhaseSettings({"both": 1.0}, start_iteration=3),
    }
    seen = watch(toy)
    train(toy, 6, tmp_path)
    # `start_iteration` counts from 0, as in "after so many iterations".
    assert [iteration for iteration, name, _ in seen if name == "each"] == [2, 3, 4, 5, 6]
    assert [iteration for iteration, name, _ in seen if name == "second"] == [4, 6]


def test_the_iteration_counts_batches_and_not_optimizer_steps(tmp_path: Path) -> None:
    toy = Toy((Phase("one", ("first",), both), Phase("two", ("second",), both)))
    seen = []
    toy.on_train_batch_start = lambda *_: seen.append(toy.iteration)  # type: ignore[method-assign]
    train(toy, 4, tmp_path)
    assert seen == [0, 1, 2, 3]
    assert toy.trainer.global_step == 8  # what Lightning counts


def test_the_learning_rate_follows_the_recipe_in_iterations(tmp_path: Path) -> None:
    recipe = Adam(learning_rate=1.0, warmup_fraction=0.5, warmup_start=0.0, decay="cosine")
    toy = Toy((Phase("one", ("first",), both), Phase("two", ("second",), both)), recipe)
    rates = []
    toy.on_train_batch_end = lambda *_: rates.append(  # type: ignore[method-assign]
        [optimizer.param_groups[0]["lr"] for optimizer in toy.optimizers()]
    )
    train(toy, 6, tmp_path)
    expected = [recipe.rate(i / 6) for i in range(6)]
    assert torch.tensor(rates).T.tolist() == [pytest.approx(expected)] * 2


def test_a_weight_scales_its_terms_gradient(tmp_path: Path) -> None:
    displacements = []
    for weight in (0.0, 1.0, 3.0):
        torch.manual_seed(0)
        toy = Toy((Phase("one", ("first",), both),), SGD(learning_rate=1e-2, weight_decay=0.0), weight)
        before = state(toy.networks["first"])
        train(toy, 1, tmp_path)
        after = toy.networks["first"].state_dict()
        displacements.append(after["3.weight"] - before["3.weight"])
    assert not displacements[0].any()
    assert displacements[1].any()
    torch.testing.assert_close(displacements[2], 3 * displacements[1], rtol=1e-3, atol=1e-7)


def test_a_phase_minimises_the_weighted_sum_of_its_terms(make_detector, phase_settings, tmp_path) -> None:
    weights = {"pixels": 7.0, "dissimilarity": 0.5}
    detector = make_detector(
        ablation="full", every=1, phases=phase_settings(reconstruction={"weights": weights})
    )
    train(detector, 1, tmp_path)
    terms = {name: float(detector.terms[f"train/reconstruction/{name}"]) for name in (*weights, "total")}
    assert terms["total"] == pytest.approx(7 * terms["pixels"] + 0.5 * terms["dissimilarity"], rel=1e-5)
    assert set(detector.terms) == {
        f"train/{line}/{term}"
        for line, settings in detector.settings.items()
        if line in LINES
        for term in (*settings.weights, "total", "gradient_norm")
    }


@pytest.mark.parametrize("ablation", list(ABLATIONS))
def test_each_line_of_algorithm_1_moves_exactly_the_networks_it_names(
    make_detector, tmp_path: Path, ablation: str
) -> None:
    detector = make_detector(ablation=ablation)
    seen = watch(detector)
    train(detector, 10, tmp_path)
    table = ABLATIONS[ablation]
    assert [(iteration, name) for iteration, name, _ in seen] == [
        (iteration, phase.name)
        for iteration in range(1, 11)
        for phase in table
        if iteration % phase.every == 0
    ]
    for _, line, what in seen:
        for name, network in detector.networks.items():
            if name not in LINES[line].trains or (ablation == "csi_g" and name == E):
                assert not what[name], (line, name)
                continue
            weights, buffers = weights_and_buffers(network)
            assert weights <= what[name], (line, name)
            # Running statistics where there is batch norm, singular vectors where there is spectral norm.
            of_rows = {buffer for buffer in buffers if buffer.endswith((".0._u", ".0._v"))}
            assert buffers - of_rows <= what[name], (line, name)
            assert bool(of_rows) == (name in (D, LATENT_D))
            assert bool(of_rows & what[name]) == bool(of_rows), (line, name)


def test_running_statistics_of_f_follow_real_and_mixed_batches_and_never_synthetic_ones(
    make_detector, tmp_path: Path
) -> None:
    detector = make_detector(ablation="full", every=1)
    seen = watch(detector)
    train(detector, 1, tmp_path)
    statistics = {
        f"{name}.{kind}"
        for name, module in detector.networks[F].named_modules()
        if isinstance(module, _BatchNorm)
        for kind in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert len(statistics) == 3 * 20
    for _, line, what in seen:
        expected = statistics if line in ("feature", "joint") else set()
        assert what[F] & statistics == expected, line


def gradients(detector: PhasedDetector, names: Any) -> dict[str, float]:
    """Norm of the gradient in each of the networks `names`."""
    return {
        name: float(
            torch.stack(
                [
                    p.grad.norm() if p.grad is not None else torch.zeros(())
                    for p in detector.networks[name].parameters()
                ]
            ).norm()
        )
        for name in names
    }


@pytest.mark.parametrize("line", list(LINES))
def test_the_gradient_of_each_objective_reaches_exactly_the_networks_it_trains(
    make_detector, make_step, line: str
) -> None:
    detector, phase = make_detector(ablation="full").train(), LINES[line]
    with frozen(network for name, network in detector.networks.items() if name not in phase.trains):
        sum(phase.objective(make_step(detector)).values()).backward()
    found = gradients(detector, detector.networks)
    assert {name for name, norm in found.items() if norm > 0} == set(phase.trains)
    assert all(found[name] > 1e-4 for name in phase.trains), found
    for name in phase.trains:
        for weight, parameter in detector.networks[name].named_parameters():
            assert parameter.grad is not None or "shift_head" in weight, weight
            assert parameter.grad is None or parameter.grad.isfinite().all(), weight


@pytest.mark.parametrize(
    ("line", "reached"),
    [
        ("feature", {"contrastive": {F}, "shift_classification": {F}}),
        ("discriminator", {"real": {D}, "synthetic": {D}, "reconstructed": {D}}),
        ("adversarial", {"synthetic": {G, D}, "reconstructed": {E, G, D}}),
        ("synthetic_contrast", {"contrastive": {G, F}, "shift_classification": {G, F}}),
        ("latent_discriminator", {"drawn": {LATENT_D}, "encoded": {LATENT_D}}),
        ("latent_adversarial", {"encoded": {E, LATENT_D}}),
        ("reconstruction", {"pixels": {E, G}, "dissimilarity": {E, G, F}}),
        ("latent_reconstruction", {"latents": {E}}),
        ("joint", {"contrastive": {F}, "shift_classification": {F}}),
    ],
)
def test_each_term_depends_on_the_networks_of_its_equation_and_is_detached_from_the_others(
    make_detector, make_step, line: str, reached: dict[str, set[str]]
) -> None:
    detector = make_detector(ablation="full").train()  # nothing frozen
    terms = LINES[line].objective(make_step(detector))
    assert set(terms) == set(reached)
    for name, term in terms.items():
        detector.zero_grad()
        term.backward(retain_graph=True)
        found = gradients(detector, detector.networks)
        assert {network for network, norm in found.items() if norm > 1e-6} == reached[name], (name, found)


def test_the_same_latents_serve_all_lines_of_an_iteration_and_no_other_iteration(
    make_detector, tmp_path: Path
) -> None:
    detector = make_detector(ablation="full", every=1)
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []
    detector.networks[G].register_forward_hook(
        lambda _, inputs, output: calls.append((inputs[0].detach().clone(), output.detach().clone()))
    )
    train(detector, 2, tmp_path)
    # discriminator 2, adversarial 2, synthetic_contrast, reconstruction, latent_reconstruction, joint
    assert len(calls) == 2 * 8
    first, second = calls[:8], calls[8:]
    for part in (first, second):
        drawn = [i for i, (latents, _) in enumerate(part) if torch.equal(latents, part[0][0])]
        assert drawn == [0, 2, 4, 6, 7]
    assert not torch.equal(first[0][0], second[0][0])
    # A line makes its images anew: the line before has moved G.
    assert torch.equal(first[0][1], first[2][1])
    assert not torch.equal(first[2][1], first[4][1])


def test_what_an_iteration_draws_depends_on_seed_and_iteration_alone(make_detector, tmp_path: Path) -> None:
    batch = Batch(torch.zeros(4, 1, 16, 16, dtype=torch.uint8), torch.zeros(4).long(), torch.arange(4))

    def draws(seed: int) -> list[torch.Tensor]:
        detector, found = make_detector(ablation="csi_g", seed=seed), []

        def look(*_: Any) -> None:
            step = detector.make_step(batch)
            found.append(torch.cat([step.latents.flatten(), step.rng.uniform(4, 1).flatten()]))

        detector.on_train_batch_start = look  # type: ignore[method-assign]
        train(detector, 2, tmp_path)
        return found

    first, again, other = draws(0), draws(0), draws(1)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.isclose(first[0], first[1]).any()
    assert not torch.isclose(first[0], other[0]).any()


def test_f_starts_alike_in_all_ablations_and_goes_the_same_way_until_the_first_joint_line(
    make_detector, tmp_path: Path
) -> None:
    paths: dict[str, list[State]] = {}
    for ablation in ABLATIONS:
        torch.manual_seed(4)
        detector = make_detector(ablation=ablation, every=3)
        paths[ablation] = [state(detector.networks[F])]
        detector.on_train_batch_end = lambda *_, d=detector, a=ablation: paths[a].append(  # type: ignore[method-assign]
            state(d.networks[F])
        )
        train(detector, 3, tmp_path)
    for ablation in ("csi_g", "full"):
        same = [not moved(*pair) for pair in zip(paths["csi"], paths[ablation], strict=True)]
        assert same == [True, True, True, False]


@pytest.mark.parametrize("ablation", ["csi_g", "full"])
@pytest.mark.parametrize("clip", [None, 0.01])
def test_the_applied_gradient_is_no_longer_than_the_clip(
    make_detector, phase_settings, tmp_path: Path, ablation: str, clip: float | None
) -> None:
    rate = 1e-3 if clip is None else 1.0
    detector = make_detector(
        ablation=ablation,
        every=1,
        optimizer=SGD(learning_rate=rate, momentum=0.0, weight_decay=0.0),
        phases=phase_settings(all_lines={"gradient_clip": clip}),
    )
    lengths: dict[str, float] = {}
    descend = detector.descend

    def measured(phase: Phase, step: Step) -> None:
        before = [p.detach().double().clone() for p in detector.parameters()]
        descend(phase, step)
        change = [p.detach().double() - old for p, old in zip(detector.parameters(), before, strict=True)]
        lengths[phase.name] = float(torch.cat([c.flatten() for c in change]).norm()) / rate

    detector.descend = measured  # type: ignore[method-assign]
    train(detector, 1, tmp_path)
    assert list(lengths) == [phase.name for phase in ABLATIONS[ablation]]
    for line, length in lengths.items():
        norm = float(detector.terms[f"train/{line}/gradient_norm"])  # before clipping
        assert norm > 0.01
        assert length == pytest.approx(norm if clip is None else clip, rel=2e-3), line


def shared_line(ablation: str) -> Phase:
    (line,) = [p for p in with_shared_forward(ABLATIONS[ablation]) if p.name == "generator"]
    return line


def test_sharing_the_forward_puts_one_line_in_place_of_all_that_train_g() -> None:
    names = {a: [(p.name, p.trains, p.every) for p in with_shared_forward(ABLATIONS[a])] for a in ABLATIONS}
    assert names == {
        "csi": [("feature", (F,), 1)],
        "csi_g": [("feature", (F,), 1), (D, (D,), 5), ("generator", (G,), 5), ("joint", (F,), 5)],
        "full": [
            ("feature", (F,), 1),
            ("discriminator", (D,), 5),
            ("generator", (G, E), 5),
            ("latent_discriminator", (LATENT_D,), 5),
            ("latent_adversarial", (E,), 5),
            ("latent_reconstruction", (E,), 5),
            ("joint", (F,), 5),
        ],
    }


@pytest.mark.parametrize(("ablation", "made"), [("csi_g", 1), ("full", 2)])
def test_the_shared_line_has_the_terms_and_gradient_of_its_lines_and_makes_each_image_once(
    make_detector, make_step, ablation: str, made: int
) -> None:
    detector = make_detector(ablation=ablation, diff_augment=DiffAugment(["color"])).train()
    line = shared_line(ablation)
    of_generator = [phase for phase in ABLATIONS[ablation] if G in phase.trains]
    calls: list[int] = []
    detector.networks[G].register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    results = []
    with frozen(network for name, network in detector.networks.items() if name not in line.trains):
        for together in (True, False):
            step = make_step(detector)  # the same draws, in the same order
            if together:
                terms = line.objective(step)
                assert calls == [4] * made
            else:
                terms = {
                    f"{phase.name}/{name}": term
                    for phase in of_generator
                    for name, term in phase.objective(step).items()
                }
            detector.zero_grad()
            sum(terms.values()).backward()
            grads = [p.grad.clone() for name in line.trains for p in detector.networks[name].parameters()]
            results.append((terms, grads))
    assert len(calls) > 2 * made
    (terms, grads), (expected_terms, expected_grads) = results
    assert list(terms) == list(expected_terms)
    torch.testing.assert_close(terms, expected_terms)
    torch.testing.assert_close(grads, expected_grads, rtol=1e-3, atol=1e-5)


def test_the_shared_line_descends_the_weighted_sum(make_detector, phase_settings, tmp_path: Path) -> None:
    weights = {"pixels": 3.0, "dissimilarity": 0.5}
    detector = make_detector(
        ablation="full",
        every=1,
        share_generator_forward=True,
        phases=phase_settings(reconstruction={"weights": weights}),
    )
    train(detector, 1, tmp_path)
    terms = {name.removeprefix("train/"): float(value) for name, value in detector.terms.items()}
    assert terms["generator/total"] == pytest.approx(
        terms["adversarial/synthetic"]
        + terms["adversarial/reconstructed"]
        + terms["synthetic_contrast/contrastive"]
        + terms["synthetic_contrast/shift_classification"]
        + 3 * terms["reconstruction/pixels"]
        + 0.5 * terms["reconstruction/dissimilarity"],
        rel=1e-5,
    )


def poison(detector: PhasedDetector, iteration: int) -> None:
    """D's judgements are no numbers from `iteration` on, counted from 1."""

    def at_start(*_: Any) -> None:
        if detector.iteration + 1 == iteration:
            with torch.no_grad():
                detector.networks[D].body[-1].bias.fill_(torch.nan)

    detector.on_train_batch_start = at_start  # type: ignore[method-assign]


def test_a_loss_that_is_no_number_ends_the_training_with_line_and_iteration(
    make_detector, tmp_path: Path
) -> None:
    detector = make_detector(ablation="full", every=2)
    poison(detector, 4)
    ended = []
    detector.on_train_batch_end = lambda *_: ended.append(detector.iteration)  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"at iteration 4: .* line 'discriminator'.*nan") as caught:
        train(detector, 6, tmp_path)
    assert "\n" not in str(caught.value)
    assert "method.phases.discriminator.gradient_clip" in str(caught.value)
    assert ended == [0, 1, 2]  # what saves at the end of an iteration never saw the fourth


def test_a_gradient_that_is_no_number_ends_the_training_too(tmp_path: Path) -> None:
    def root(step: Step) -> dict[str, torch.Tensor]:
        # Finite, with an infinite slope.
        return {"both": (step.networks["first"](step.images).mean() * 0).abs().sqrt()}

    toy = Toy((Phase("one", ("second",), both), Phase("square_root", ("first",), root)))
    with pytest.raises(UserError, match=r"iteration 1: .* line 'square_root'.*square_root/gradient_norm nan"):
        train(toy, 1, tmp_path)
    assert toy.terms["train/square_root/both"] == 0


def test_steps_of_a_line_that_are_no_numbers_are_left_out_and_counted_and_the_rest_goes_on(
    make_detector, tmp_path: Path
) -> None:
    detector = make_detector(ablation="csi_g", every=1, on_non_finite="skip")
    poison(detector, 2)
    seen = watch(detector)
    train(detector, 4, tmp_path)
    assert detector.skipped == {"discriminator": 3, "adversarial": 3}
    for iteration, line, what in seen:
        for name in LINES[line].trains:
            if name not in detector.networks:
                continue
            weights, _ = weights_and_buffers(detector.networks[name])
            left_out = iteration > 1 and line in detector.skipped
            assert not what[name] if left_out else what[name] & weights, (iteration, line)
    assert len(seen) == 4 * 5
    for name in (F, G):
        assert all(value.isfinite().all() for value in detector.networks[name].state_dict().values())


def test_the_average_of_g_is_the_exponential_moving_average_by_hand_and_makes_the_pictures(
    make_detector, tmp_path: Path
) -> None:
    detector = make_detector(ablation="full", every=2, generator_average=0.6)
    states: list[State] = []
    detector.on_train_batch_end = lambda *_: states.append(state(detector.networks[G]))  # type: ignore[method-assign]
    train(detector, 7, tmp_path)
    expected = {
        name: value.double() for name, value in states[1].items()
    }  # after the 2nd, 4th, 6th iteration
    for later in (states[3], states[5]):
        expected = {name: 0.6 * value + 0.4 * later[name].double() for name, value in expected.items()}
    average = detector.average.module.state_dict()
    assert moved(average, states[6])
    for name, value in expected.items():
        if "num_batches" not in name:
            torch.testing.assert_close(average[name].double(), value, rtol=1e-5, atol=1e-6, msg=name)
    by_hand = copy.deepcopy(detector.networks[G]).eval()
    by_hand.load_state_dict({name: value.to(average[name].dtype) for name, value in expected.items()})
    latents = detector.draw_latents(3, "pictures")
    torch.testing.assert_close(detector.generate(3, "pictures"), by_hand(latents), rtol=1e-4, atol=1e-5)
    images = torch.rand(2, 1, 16, 16)
    encoded = detector.networks[E](images)  # in evaluation mode since `generate`
    torch.testing.assert_close(detector.reconstruct(images), by_hand(encoded), rtol=1e-4, atol=1e-5)


def test_the_average_neither_learns_nor_changes_the_training(make_detector, tmp_path: Path) -> None:
    final = {}
    for decay in (None, 0.0, 0.9):
        torch.manual_seed(0)
        detector = make_detector(ablation="csi_g", every=1, generator_average=decay)
        train(detector, 2, tmp_path)
        final[decay] = state(detector.networks)
        assert (detector.average is None) == (decay is None)
        if decay == 0.0:
            assert not moved(detector.average.module.state_dict(), state(detector.networks[G]))
    assert not moved(final[None], final[0.9])
    assert make_detector(generator_average=0.9).average is None  # nothing to average


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_an_average_that_averages_nothing_is_refused(make_detector, decay: float) -> None:
    with pytest.raises(UserError, match=f"method.generator_average={decay}"):
        make_detector(ablation="full", generator_average=decay)


@pytest.mark.parametrize("count", [1, 3])
def test_each_inlier_has_its_number_of_latents_and_one_synthetic_image_in_the_joint_line(
    make_detector, make_step, count: int
) -> None:
    detector = make_detector(ablation="full", latents_per_image=count).train()
    seen: list[tuple[str, int]] = []
    for name in (F, D, LATENT_D, G, E):
        detector.networks[name].register_forward_hook(
            lambda _, inputs, __, name=name: seen.append((name, len(inputs[0])))
        )
    sizes = {}
    for line, phase in LINES.items():
        seen.clear()
        phase.objective(make_step(detector))
        sizes[line] = list(seen)
    many = 4 * count
    assert sizes == {
        "feature": [(F, 8 * 4)],
        "discriminator": [(G, many), (E, 4), (G, 4), (D, 4 + many + 4)],
        "adversarial": [(G, many), (E, 4), (G, 4), (D, many + 4)],
        "synthetic_contrast": [(G, many), (F, 8 * many)],
        "latent_discriminator": [(E, 4), (LATENT_D, many + 4)],
        "latent_adversarial": [(E, 4), (LATENT_D, 4)],
        "reconstruction": [(E, 4), (G, 4), (F, 2 * 4)],
        "latent_reconstruction": [(G, many), (E, many)],
        "joint": [(G, many), (F, 8 * (4 + 4))],
    }


@pytest.mark.parametrize("ablation", ["csi_g", "full"])
def test_the_lines_of_the_two_games_and_of_the_latents_are_their_equations(
    make_detector, make_step, ablation: str
) -> None:
    """Equations 7, 9 and 10: which images and latents the judges see, and as what."""
    detector = make_detector(ablation=ablation).train()
    step = make_step(detector)
    networks, x, h = detector.networks, step.images, step.latents
    softplus = torch.nn.functional.softplus

    def real(logits: torch.Tensor) -> torch.Tensor:
        return softplus(-logits).mean()

    def made(logits: torch.Tensor) -> torch.Tensor:
        return softplus(logits).mean()

    with frozen(networks.values()):
        found = {
            phase.name: phase.objective(step)
            for phase in ABLATIONS[ablation]
            if phase.name not in ("feature", "synthetic_contrast", "reconstruction", "joint")
        }
        drawn = networks[G](h)
        of_d = {"real": networks[D](x), "synthetic": networks[D](drawn)}
        if ablation == "full":
            encoded = networks[E](x)
            of_d["reconstructed"] = networks[D](networks[G](encoded))
        made_names = [name for name in of_d if name != "real"]
        expected = {
            "discriminator": {"real": real(of_d["real"])} | {name: made(of_d[name]) for name in made_names},
            "adversarial": {name: real(of_d[name]) for name in made_names},
        }
        if ablation == "full":
            of_latents = networks[LATENT_D](encoded)
            expected |= {
                "latent_discriminator": {"drawn": real(networks[LATENT_D](h)), "encoded": made(of_latents)},
                "latent_adversarial": {"encoded": real(of_latents)},
                "latent_reconstruction": {"latents": (networks[E](drawn) - h).square().mean()},
            }
    torch.testing.assert_close(found, expected)
    # No two of the values are the same, so that none could stand in for another.
    values = torch.stack([term for terms in expected.values() for term in terms.values()])
    assert (values[:, None] - values).fill_diagonal_(1).abs().min() > 1e-4


def test_the_joint_line_is_csi_of_real_and_synthetic_images_together(make_detector, make_step) -> None:
    detector = make_detector(ablation="full").train()
    step, again = make_step(detector), make_step(detector)
    terms = objectives.joint(step)
    synthetic = detector.networks[G](again.latents).detach()
    expected = feature(replace(again, images=torch.cat([again.images, synthetic])))
    torch.testing.assert_close(terms, expected)


def test_reconstruction_compares_each_image_with_its_own_reconstruction(make_detector, make_step) -> None:
    detector = make_detector(ablation="full").train()
    terms = objectives.reconstruction(make_step(detector, seed=1))
    step = make_step(detector, seed=1)
    made = detector.networks[G](detector.networks[E](step.images))
    draws = step.views.augment.draw(8, step.rng)
    views = step.views.augment(torch.cat([step.images, made]), draws)
    one = torch.nn.functional.normalize(detector.networks[F](views).embedding, dim=1)
    cosines = one[:4] @ one[4:].T
    own = cosines.diagonal().mean()
    assert abs(own - cosines.mean()) > 1e-3  # of another's it would be another number
    torch.testing.assert_close(terms["dissimilarity"], -own)
    torch.testing.assert_close(terms["pixels"], (step.images - made).square().mean())


def test_d_sees_every_image_changed_by_diff_augment_and_f_none(make_detector, make_step) -> None:
    detector = make_detector(ablation="full", diff_augment=DiffAugment(["cutout"])).train()
    seen: dict[str, list[torch.Tensor]] = {D: [], F: []}
    for name, inputs in seen.items():
        detector.networks[name].register_forward_hook(lambda _, given, __, i=inputs: i.append(given[0]))
    step = make_step(detector, images=torch.zeros(4, 1, 16, 16))
    objectives.discriminator(step)
    objectives.adversarial(step)
    objectives.feature(step)
    assert [len(images) for images in seen[D]] == [12, 8]
    for images in seen[D]:
        assert ((images == 0.5).flatten(1).sum(1) >= 16).all()  # a hole in each
    assert not seen[F][0].any()


def test_a_generator_smaller_than_the_images_trains_and_pictures_have_the_images_size(
    make_detector, tmp_path: Path
) -> None:
    detector = make_detector(ablation="full", image_size=24, every=1)
    assert detector.generator_side == 16
    seen = watch(detector)
    train(detector, 1, tmp_path, side=24)
    for _, line, what in seen:
        assert {name for name, names in what.items() if names} == set(LINES[line].trains)
    assert detector.generate(3, "test").shape == (3, 1, 16, 16)
    pictures = detector.reconstruct(torch.rand(3, 1, 24, 24))
    assert pictures.shape == (3, 1, 24, 24)
    assert pictures.min() >= 0
    assert pictures.max() <= 1


@pytest.mark.parametrize("ablation", ["csi_g", "full"])
@pytest.mark.parametrize(
    "changes",
    [
        {"share_generator_forward": True},
        {"adversarial": "hinge"},
        {"adversarial": "saturating"},
        {"diff_augment": DiffAugment(["color", "translation", "cutout"])},
        {"latents_per_image": 2},
    ],
    ids=lambda changes: "_".join(map(str, changes)),
)
def test_every_setting_beyond_the_paper_trains(make_detector, tmp_path: Path, ablation: str, changes) -> None:
    detector = make_detector(ablation=ablation, every=1, **changes)
    seen = watch(detector)
    train(detector, 1, tmp_path)
    assert [line for _, line, _ in seen] == [phase.name for phase in detector.phases]
    for phase, (_, line, what) in zip(detector.phases, seen, strict=True):
        assert {name for name, names in what.items() if names} == set(phase.trains), line
    assert all(value.isfinite() for value in detector.terms.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_clip": 0.0}, r"method.phases.joint.gradient_clip=0.0"),
        ({"gradient_clip": -1.0}, r"method.phases.joint.gradient_clip=-1.0"),
        ({"start_iteration": -1}, r"method.phases.joint.start_iteration=-1"),
        ({"weights": {"contrastive": float("nan")}}, r"method.phases.joint.weights.contrastive=nan"),
    ],
)
def test_impossible_settings_of_a_line_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PhaseSettings(**{"weights": {}} | settings).check("joint")
    PhaseSettings({"contrastive": -1.0}, gradient_clip=1e-9).check("joint")


@pytest.mark.parametrize(
    "settings", [{"gradient_clip": -1.0}, {"start_iteration": -1}, {"weights": {"contrastive": float("inf")}}]
)
def test_a_detector_refuses_impossible_settings_of_its_lines(make_detector, phase_settings, settings) -> None:
    with pytest.raises(UserError, match=r"method.phases.joint"):
        make_detector(ablation="full", phases=phase_settings(joint=settings))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every": 0}, "method.every=0"),
        ({"latents_per_image": 0}, "method.latents_per_image=0"),
        ({"ablation": "ful"}, "did you mean full"),
        ({"log_every_iterations": 0}, "log_every_iterations=0"),
        ({"ablation": "full", "image_size": 8}, "ablation=csi"),
    ],
)
def test_impossible_settings_of_the_method_are_refused_by_name(make_detector, changes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_detector(**changes)


def test_the_feature_line_is_csi_over_the_shifted_views(make_detector, make_step) -> None:
    detector = make_detector().eval()
    step, again = make_step(detector), make_step(detector)
    terms = feature(step)
    views = detector.views.training(again.images, again.rng)
    features = detector.networks[F](views)
    labels = torch.arange(4).repeat_interleave(4).repeat(2)
    assert len(views) == 2 * 4 * 4
    torch.testing.assert_close(terms["contrastive"], nt_xent(features.embedding, 0.5))
    torch.testing.assert_close(
        terms["shift_classification"], shift_classification(features.shift_logits, labels)
    )


def test_training_lowers_the_loss_on_real_digits(make_detector, tmp_path: Path) -> None:
    images = torch.from_numpy(load_digits().images[:32] * 15).to(torch.uint8)[:, None]
    images = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    digits = in_memory(images, torch.zeros(32, dtype=torch.int64), "train", torch.arange(32))
    detector = make_detector(total_iterations=30)
    totals = []
    detector.on_train_batch_end = lambda *_: totals.append(float(detector.terms["train/feature/total"]))
    pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    ).fit(detector, DataLoader(digits, batch_size=None, sampler=torch.arange(32).view(4, 8).tolist() * 8))
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
def test_lines_that_are_recorded_and_replayed_learn_the_same(
    make_detector, tmp_path: Path, ablation: str
) -> None:
    found = []
    for graph in (None, Tape):
        torch.manual_seed(0)
        recipe = Adam(learning_rate=1e-3, warmup_fraction=0.5)  # a rate that moves
        detector = make_detector(ablation=ablation, every=2, optimizer=recipe, total_iterations=12)
        if graph is not None:
            detector.capture_phases(graph)
        train(detector, 12, tmp_path)
        found.append((detector, {name: value.clone() for name, value in detector.terms.items()}))
    (eager, terms), (replayed, again) = found
    assert replayed.captured is not None
    assert all(captured.calls > WARM_UP + 1 for captured in replayed.captured.values())
    torch.testing.assert_close(again, terms, rtol=1e-6, atol=1e-9)
    # Adam makes 1e-9 of the nothing that reaches a bias before batch norm.
    torch.testing.assert_close(replayed.state_dict(), eager.state_dict(), rtol=1e-4, atol=1e-7)
    copy.deepcopy(replayed)  # as the learning curve does


def test_steps_to_be_left_out_cannot_be_replayed(make_detector) -> None:
    with pytest.raises(UserError, match=r"trainer\.cuda_graphs=false"):
        make_detector(on_non_finite="skip").capture_phases(Tape)


@pytest.mark.parametrize("iteration", [3, 4, 5])
def test_what_is_no_number_between_two_logs_is_named_by_its_own_iteration(
    make_detector, tmp_path: Path, iteration: int
) -> None:
    detector = make_detector(ablation="full", every=1, log_every_iterations=4, total_iterations=6)
    poison(detector, iteration)
    with pytest.raises(UserError, match=rf"at iteration {iteration}: .* line 'discriminator'"):
        train(detector, 6, tmp_path)
