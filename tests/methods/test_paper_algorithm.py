"""Algorithm 1: the table, and that each line moves what it names and nothing else."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from watching import State, moved, state, train, watch, weights_and_buffers

from anomaly_gan.methods.paper import objectives
from anomaly_gan.methods.paper.algorithm import ABLATIONS, with_period, with_shared_forward
from anomaly_gan.networks.modes import frozen
from anomaly_gan.training.phases import Phase
from anomaly_gan.transforms.diff_augment import DiffAugment

F, G, E = "feature_extractor", "generator", "encoder"
D, LATENT_D = "discriminator", "latent_discriminator"
LINES = {phase.name: phase for phase in ABLATIONS["full"]}


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


@pytest.mark.parametrize("ablation", list(ABLATIONS))
def test_every_phase_trains_networks_the_method_has(make_method, ablation: str) -> None:
    method = make_method(ablation)
    assert {name for phase in method.plan[0].phases for name in phase.trains} == set(method.networks)


def test_without_an_encoder_in_the_table_none_is_built(make_method) -> None:
    assert list(make_method("csi").networks) == [F]
    csi_g = make_method("csi_g")
    assert list(csi_g.networks) == [F, D, G]
    assert (csi_g.scorer.generates, csi_g.scorer.reconstructs) == (True, False)
    assert set(make_method("full").networks) == {F, G, E, D, LATENT_D}


def test_another_period_holds_for_every_line_but_the_first() -> None:
    for ablation in ABLATIONS.values():
        assert [phase.every for phase in with_period(ablation, 7)] == [1] + [7] * (len(ablation) - 1)
        assert with_period(ablation, 5) == ablation


@pytest.mark.parametrize("ablation", list(ABLATIONS))
def test_each_line_of_algorithm_1_moves_exactly_the_networks_it_names(
    make_method, tmp_path: Path, ablation: str
) -> None:
    method = make_method(ablation)
    seen = watch(method)
    train(method, 10, tmp_path)
    table = ABLATIONS[ablation]
    assert [(iteration, name) for iteration, name, _ in seen] == [
        (iteration, phase.name)
        for iteration in range(1, 11)
        for phase in table
        if iteration % phase.every == 0
    ]
    for _, line, what in seen:
        for name, network in method.networks.items():
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
    make_method, tmp_path: Path
) -> None:
    method = make_method("full", every=1)
    seen = watch(method)
    train(method, 1, tmp_path)
    statistics = {
        f"{name}.{kind}"
        for name, module in method.networks[F].named_modules()
        if isinstance(module, _BatchNorm)
        for kind in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert len(statistics) == 3 * 20
    for _, line, what in seen:
        expected = statistics if line in ("feature", "joint") else set()
        assert what[F] & statistics == expected, line


def test_f_starts_alike_in_all_ablations_and_goes_the_same_way_until_the_first_joint_line(
    make_method, tmp_path: Path
) -> None:
    paths: dict[str, list[State]] = {}
    for ablation in ABLATIONS:
        torch.manual_seed(4)
        method = make_method(ablation, every=3)
        paths[ablation] = [state(method.networks[F])]
        method.on_train_batch_end = lambda *_, d=method, a=ablation: paths[a].append(  # type: ignore[method-assign]
            state(d.networks[F])
        )
        train(method, 3, tmp_path)
    for ablation in ("csi_g", "full"):
        same = [not moved(*pair) for pair in zip(paths["csi"], paths[ablation], strict=True)]
        assert same == [True, True, True, False]


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
    make_method, make_step, ablation: str, made: int
) -> None:
    method = make_method(ablation, diff_augment=DiffAugment(["color"])).train()
    line = shared_line(ablation)
    of_generator = [phase for phase in ABLATIONS[ablation] if G in phase.trains]
    calls: list[int] = []
    method.networks[G].register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    results = []
    with frozen(network for name, network in method.networks.items() if name not in line.trains):
        for together in (True, False):
            step = make_step(method)  # the same draws, in the same order
            if together:
                terms = line.objective(step)
                assert calls == [4] * made
            else:
                terms = {
                    f"{phase.name}/{name}": term
                    for phase in of_generator
                    for name, term in phase.objective(step).items()
                }
            method.zero_grad()
            sum(terms.values()).backward()
            grads = [p.grad.clone() for name in line.trains for p in method.networks[name].parameters()]
            results.append((terms, grads))
    assert len(calls) > 2 * made
    (terms, grads), (expected_terms, expected_grads) = results
    assert list(terms) == list(expected_terms)
    torch.testing.assert_close(terms, expected_terms)
    torch.testing.assert_close(grads, expected_grads, rtol=1e-3, atol=1e-5)


def test_the_shared_line_descends_the_weighted_sum(make_method, phase_settings, tmp_path: Path) -> None:
    weights = {"pixels": 3.0, "dissimilarity": 0.5}
    method = make_method(
        "full",
        every=1,
        share_generator_forward=True,
        phases=phase_settings(reconstruction={"weights": weights}),
    )
    train(method, 1, tmp_path)
    terms = {name.removeprefix("train/"): float(value) for name, value in method.terms.items()}
    assert terms["generator/total"] == pytest.approx(
        terms["adversarial/synthetic"]
        + terms["adversarial/reconstructed"]
        + terms["synthetic_contrast/contrastive"]
        + terms["synthetic_contrast/shift_classification"]
        + 3 * terms["reconstruction/pixels"]
        + 0.5 * terms["reconstruction/dissimilarity"],
        rel=1e-5,
    )
