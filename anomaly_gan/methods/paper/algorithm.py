"""Algorithm 1 as a literal: which line moves which networks, how often, and by what objective."""

from collections.abc import Sequence
from dataclasses import replace

from anomaly_gan.methods.paper import objectives
from anomaly_gan.methods.paper.objectives import SharedStep, Step
from anomaly_gan.training.phases import Phase, Terms

N = 5
"""The paper's; `method.every` is what counts in a run."""

F, G, E = "feature_extractor", "generator", "encoder"
D, LATENT_D = "discriminator", "latent_discriminator"

FULL = (
    Phase("feature", (F,), objectives.feature),
    Phase("discriminator", (D,), objectives.discriminator, every=N),
    Phase("adversarial", (G, E), objectives.adversarial, every=N),
    Phase("synthetic_contrast", (G,), objectives.synthetic_contrast, every=N),
    Phase("latent_discriminator", (LATENT_D,), objectives.latent_discriminator, every=N),
    Phase("latent_adversarial", (E,), objectives.latent_adversarial, every=N),
    Phase("reconstruction", (G, E), objectives.reconstruction, every=N),
    Phase("latent_reconstruction", (E,), objectives.latent_reconstruction, every=N),
    Phase("joint", (F,), objectives.joint, every=N),
)

CSI_G = (
    Phase("feature", (F,), objectives.feature),
    Phase("discriminator", (D,), objectives.discriminator_of_synthetic, every=N),
    Phase("adversarial", (G,), objectives.adversarial_of_synthetic, every=N),
    Phase("synthetic_contrast", (G,), objectives.synthetic_contrast, every=N),
    Phase("joint", (F,), objectives.joint, every=N),
)

CSI = (Phase("feature", (F,), objectives.feature),)

ABLATIONS: dict[str, tuple[Phase, ...]] = {"csi": CSI, "csi_g": CSI_G, "full": FULL}
"""The ablations of the paper's section 3.2 are phase sets, run in this order."""

METHODS: dict[str, tuple[Phase, ...]] = ABLATIONS | {"csi_defects": CSI}
"""The same, and those that differ from one of them in what they see and in their score alone."""


def networks_of(phases: Sequence[Phase]) -> list[str]:
    """The networks that `phases` train, in order of appearance."""
    return list(dict.fromkeys(name for phase in phases for name in phase.trains))


def with_period(phases: Sequence[Phase], every: int) -> tuple[Phase, ...]:
    """The table with another N."""
    return tuple(phase if phase.every == 1 else replace(phase, every=every) for phase in phases)


def with_negatives(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """The table with G(h) as negatives of X, and no more, in the line `joint`; see `joint_against`."""
    return tuple(
        replace(phase, objective=objectives.joint_against) if phase.objective is objectives.joint else phase
        for phase in phases
    )


def with_shared_forward(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """The table with one line, `generator`, in place of all those that train G.

    They see the same G(h) and G(E(x)), made once, and G and E take one step on the sum of their losses. That
    is not Algorithm 1, in which each line moves them and the next sees them moved.
    """
    of_generator = [phase for phase in phases if G in phase.trains]
    if not of_generator:
        return tuple(phases)

    def objective(step: Step) -> Terms:
        shared = SharedStep(**vars(step))
        return {
            f"{phase.name}/{name}": term
            for phase in of_generator
            for name, term in phase.objective(shared).items()
        }

    first = of_generator[0]
    together = Phase("generator", tuple(networks_of(of_generator)), objective, every=first.every)
    merged = [together if phase is first else phase for phase in phases]
    return tuple(phase for phase in merged if phase not in of_generator)
