"""What Algorithm 1 draws, its settings beyond the paper, and what is refused."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from watching import State, moved, state, train, watch

from anomaly_gan.data.image_set import Batch
from anomaly_gan.errors import UserError
from anomaly_gan.methods.paper.algorithm import ABLATIONS
from anomaly_gan.transforms.diff_augment import DiffAugment

F, G, E = "feature_extractor", "generator", "encoder"
D, LATENT_D = "discriminator", "latent_discriminator"
LINES = {phase.name: phase for phase in ABLATIONS["full"]}


def test_the_same_latents_serve_all_lines_of_an_iteration_and_no_other_iteration(
    make_method, tmp_path: Path
) -> None:
    method = make_method("full", every=1)
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []
    method.networks[G].register_forward_hook(
        lambda _, inputs, output: calls.append((inputs[0].detach().clone(), output.detach().clone()))
    )
    train(method, 2, tmp_path)
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


def test_what_an_iteration_draws_depends_on_seed_and_iteration_alone(make_method, tmp_path: Path) -> None:
    batch = Batch(torch.zeros(4, 1, 16, 16, dtype=torch.uint8), torch.zeros(4).long(), torch.arange(4))

    def draws(seed: int) -> list[torch.Tensor]:
        method, found = make_method("csi_g", seed=seed), []

        def look(*_: Any) -> None:
            step = method.step_of(batch)
            found.append(torch.cat([step.latents.flatten(), step.rng.uniform(4, 1).flatten()]))

        method.on_train_batch_start = look  # type: ignore[method-assign]
        train(method, 2, tmp_path)
        return found

    first, again, other = draws(0), draws(0), draws(1)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.isclose(first[0], first[1]).any()
    assert not torch.isclose(first[0], other[0]).any()


def test_the_average_of_g_is_the_exponential_moving_average_by_hand_and_makes_the_pictures(
    make_method, tmp_path: Path
) -> None:
    method = make_method("full", every=2, generator_average=0.6)
    states: list[State] = []
    method.on_train_batch_end = lambda *_: states.append(state(method.networks[G]))  # type: ignore[method-assign]
    train(method, 7, tmp_path)
    expected = {
        name: value.double() for name, value in states[1].items()
    }  # after the 2nd, 4th, 6th iteration
    for later in (states[3], states[5]):
        expected = {name: 0.6 * value + 0.4 * later[name].double() for name, value in expected.items()}
    average = method.average.module.state_dict()
    assert moved(average, states[6])
    for name, value in expected.items():
        if "num_batches" not in name:
            torch.testing.assert_close(average[name].double(), value, rtol=1e-5, atol=1e-6, msg=name)
    by_hand = copy.deepcopy(method.networks[G]).eval()
    by_hand.load_state_dict({name: value.to(average[name].dtype) for name, value in expected.items()})
    latents = method.scorer.draw_latents(3, "pictures")
    torch.testing.assert_close(method.scorer.generate(3, "pictures"), by_hand(latents), rtol=1e-4, atol=1e-5)
    images = torch.rand(2, 1, 16, 16)
    encoded = method.networks[E](images)  # in evaluation mode since `generate`
    torch.testing.assert_close(method.scorer.reconstruct(images), by_hand(encoded), rtol=1e-4, atol=1e-5)


def test_the_average_neither_learns_nor_changes_the_training(make_method, tmp_path: Path) -> None:
    final = {}
    for decay in (None, 0.0, 0.9):
        torch.manual_seed(0)
        method = make_method("csi_g", every=1, generator_average=decay)
        train(method, 2, tmp_path)
        final[decay] = state(method.networks)
        assert (method.average is None) == (decay is None)
        if decay == 0.0:
            assert not moved(method.average.module.state_dict(), state(method.networks[G]))
    assert not moved(final[None], final[0.9])
    assert make_method(generator_average=0.9).average is None  # nothing to average


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_an_average_that_averages_nothing_is_refused(make_method, decay: float) -> None:
    with pytest.raises(UserError, match=f"method.generator_average={decay}"):
        make_method("full", generator_average=decay)


def test_a_generator_smaller_than_the_images_trains_and_pictures_have_the_images_size(
    make_method, tmp_path: Path
) -> None:
    method = make_method("full", image_size=24, every=1)
    assert method.generator_side == 16
    seen = watch(method)
    train(method, 1, tmp_path, side=24)
    for _, line, what in seen:
        assert {name for name, names in what.items() if names} == set(LINES[line].trains)
    assert method.scorer.generate(3, "test").shape == (3, 1, 16, 16)
    pictures = method.scorer.reconstruct(torch.rand(3, 1, 24, 24))
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
        {"synthetic_as": "negatives"},
    ],
    ids=lambda changes: "_".join(map(str, changes)),
)
def test_every_setting_beyond_the_paper_trains(make_method, tmp_path: Path, ablation: str, changes) -> None:
    method = make_method(ablation, every=1, **changes)
    seen = watch(method)
    train(method, 1, tmp_path)
    assert [line for _, line, _ in seen] == [phase.name for phase in method.plan[0].phases]
    for phase, (_, line, what) in zip(method.plan[0].phases, seen, strict=True):
        assert {name for name, names in what.items() if names} == set(phase.trains), line
    assert all(value.isfinite() for value in method.terms.values())


@pytest.mark.parametrize(
    "settings", [{"gradient_clip": -1.0}, {"start_iteration": -1}, {"weights": {"contrastive": float("inf")}}]
)
def test_a_method_refuses_impossible_settings_of_its_phases(make_method, phase_settings, settings) -> None:
    with pytest.raises(UserError, match=r"method.phases.joint"):
        make_method("full", phases=phase_settings(joint=settings))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every": 0}, "method.every=0"),
        ({"latents_per_image": 0}, "method.latents_per_image=0"),
        ({"name": "ful"}, "did you mean full"),
        ({"log_every_iterations": 0}, "log_every_iterations=0"),
        ({"name": "full", "image_size": 8}, "ablation=csi"),
    ],
)
def test_impossible_settings_of_the_method_are_refused_by_name(make_method, changes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_method(**changes)
