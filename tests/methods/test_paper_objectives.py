"""The lines' objectives: their equations, and which networks they reach."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from anomaly_gan.losses.contrastive import nt_xent, shift_classification
from anomaly_gan.methods.paper import objectives
from anomaly_gan.methods.paper.algorithm import ABLATIONS
from anomaly_gan.methods.paper.objectives import feature
from anomaly_gan.networks.modes import frozen
from anomaly_gan.training.loop import PhasedTraining
from anomaly_gan.transforms.diff_augment import DiffAugment

F, G, E = "feature_extractor", "generator", "encoder"
D, LATENT_D = "discriminator", "latent_discriminator"
LINES = {phase.name: phase for phase in ABLATIONS["full"]}


def gradients(method: PhasedTraining, names: Any) -> dict[str, float]:
    """Norm of the gradient in each of the networks `names`."""
    return {
        name: float(
            torch.stack(
                [
                    p.grad.norm() if p.grad is not None else torch.zeros(())
                    for p in method.networks[name].parameters()
                ]
            ).norm()
        )
        for name in names
    }


@pytest.mark.parametrize("line", list(LINES))
def test_the_gradient_of_each_objective_reaches_exactly_the_networks_it_trains(
    make_method, make_step, line: str
) -> None:
    method, phase = make_method("full").train(), LINES[line]
    with frozen(network for name, network in method.networks.items() if name not in phase.trains):
        sum(phase.objective(make_step(method)).values()).backward()
    found = gradients(method, method.networks)
    assert {name for name, norm in found.items() if norm > 0} == set(phase.trains)
    assert all(found[name] > 1e-4 for name in phase.trains), found
    for name in phase.trains:
        for weight, parameter in method.networks[name].named_parameters():
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
    make_method, make_step, line: str, reached: dict[str, set[str]]
) -> None:
    method = make_method("full").train()  # nothing frozen
    terms = LINES[line].objective(make_step(method))
    assert set(terms) == set(reached)
    for name, term in terms.items():
        method.zero_grad()
        term.backward(retain_graph=True)
        found = gradients(method, method.networks)
        assert {network for network, norm in found.items() if norm > 1e-6} == reached[name], (name, found)


@pytest.mark.parametrize("count", [1, 3])
def test_each_inlier_has_its_number_of_latents_and_one_synthetic_image_in_the_joint_line(
    make_method, make_step, count: int
) -> None:
    method = make_method("full", latents_per_image=count).train()
    seen: list[tuple[str, int]] = []
    for name in (F, D, LATENT_D, G, E):
        method.networks[name].register_forward_hook(
            lambda _, inputs, __, name=name: seen.append((name, len(inputs[0])))
        )
    sizes = {}
    for line, phase in LINES.items():
        seen.clear()
        phase.objective(make_step(method))
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
    make_method, make_step, ablation: str
) -> None:
    """Equations 7, 9 and 10: which images and latents the judges see, and as what."""
    method = make_method(ablation).train()
    step = make_step(method)
    networks, x, h = method.networks, step.images, step.latents
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


def test_the_joint_line_is_csi_of_real_and_synthetic_images_together(make_method, make_step) -> None:
    method = make_method("full").train()
    step, again = make_step(method), make_step(method)
    terms = objectives.joint(step)
    synthetic = method.networks[G](again.latents).detach()
    expected = feature(replace(again, images=torch.cat([again.images, synthetic])))
    torch.testing.assert_close(terms, expected)


def test_synthetic_images_as_negatives_are_what_real_views_are_kept_from_and_nothing_else(
    make_method, make_step
) -> None:
    """Against a loop over the real views: each in one cross-entropy, over all views but itself."""
    method = make_method("full", synthetic_as="negatives").train()
    line = next(phase for phase in method.plan[0].phases if phase.name == "joint")
    step, again = make_step(method), make_step(method)
    with frozen(network for name, network in method.networks.items() if name != F):
        terms = line.objective(step)
        sum(terms.values()).backward()
    assert {name for name, norm in gradients(method, method.networks).items() if norm > 0} == {F}

    both = torch.cat([again.images, method.networks[G](again.latents).detach()])
    features = method.networks[F](again.views.training(both, again.rng))
    unit = torch.nn.functional.normalize(features.embedding, dim=1)
    count, shifts = len(again.images), 4
    real = [(2 * count) * group + image for group in range(2 * shifts) for image in range(count)]
    losses = []
    for row in real:
        positive = (row + 2 * count * shifts) % len(unit)
        others = [other for other in range(len(unit)) if other != row]
        cosines = unit[others] @ unit[row] / again.temperature
        losses.append(cosines.logsumexp(0) - cosines[others.index(positive)])
    labels = torch.tensor([row // (2 * count) % shifts for row in real])
    torch.testing.assert_close(terms["contrastive"], torch.stack(losses).mean())
    torch.testing.assert_close(
        terms["shift_classification"], shift_classification(features.shift_logits[real], labels)
    )


def test_reconstruction_compares_each_image_with_its_own_reconstruction(make_method, make_step) -> None:
    method = make_method("full").train()
    terms = objectives.reconstruction(make_step(method, seed=1))
    step = make_step(method, seed=1)
    made = method.networks[G](method.networks[E](step.images))
    draws = step.views.augment.draw(8, step.rng)
    views = step.views.augment(torch.cat([step.images, made]), draws)
    one = torch.nn.functional.normalize(method.networks[F](views).embedding, dim=1)
    cosines = one[:4] @ one[4:].T
    own = cosines.diagonal().mean()
    assert abs(own - cosines.mean()) > 1e-3  # of another's it would be another number
    torch.testing.assert_close(terms["dissimilarity"], -own)
    torch.testing.assert_close(terms["pixels"], (step.images - made).square().mean())


def test_d_sees_every_image_changed_by_diff_augment_and_f_none(make_method, make_step) -> None:
    method = make_method("full", diff_augment=DiffAugment(["cutout"])).train()
    seen: dict[str, list[torch.Tensor]] = {D: [], F: []}
    for name, inputs in seen.items():
        method.networks[name].register_forward_hook(lambda _, given, __, i=inputs: i.append(given[0]))
    step = make_step(method, images=torch.zeros(4, 1, 16, 16))
    objectives.discriminator(step)
    objectives.adversarial(step)
    objectives.feature(step)
    assert [len(images) for images in seen[D]] == [12, 8]
    for images in seen[D]:
        assert ((images == 0.5).flatten(1).sum(1) >= 16).all()  # a hole in each
    assert not seen[F][0].any()


def test_the_feature_line_is_csi_over_the_shifted_views(make_method, make_step) -> None:
    method = make_method().eval()
    step, again = make_step(method), make_step(method)
    terms = feature(step)
    views = method.views.training(again.images, again.rng)
    features = method.networks[F](views)
    labels = torch.arange(4).repeat_interleave(4).repeat(2)
    assert len(views) == 2 * 4 * 4
    torch.testing.assert_close(terms["contrastive"], nt_xent(features.embedding, 0.5))
    torch.testing.assert_close(
        terms["shift_classification"], shift_classification(features.shift_logits, labels)
    )
