"""The two sides of the adversarial games (eqs. 7 and 9), on logits.

As printed, the discriminators minimise log D(real) + log(1 - D(made)) and the generators maximise it: the
GAN objective (Goodfellow et al., 2014) with its sign lost. Here every side minimises what it is given.
"""

from typing import Literal

import torch.nn.functional as F

from anomaly_gan.precision import in_full_precision
from anomaly_gan.types import Logits, Scalar

Form = Literal["non_saturating", "saturating", "hinge"]
"""What the sides minimise; the first two differ in the generator's side only."""


@in_full_precision
def d_loss_real(logits: Logits, form: Form) -> Scalar:
    """The discriminator's loss on real inputs: -log D, or max(0, 1 - logit); mean, in nats or logits."""
    return (F.relu(1 - logits) if form == "hinge" else F.softplus(-logits)).mean()


@in_full_precision
def d_loss_made(logits: Logits, form: Form) -> Scalar:
    """The discriminator's loss on made inputs: -log(1 - D), or max(0, 1 + logit)."""
    return (F.relu(1 + logits) if form == "hinge" else F.softplus(logits)).mean()


@in_full_precision
def g_loss(logits: Logits, form: Form) -> Scalar:
    """The generator's loss on the discriminator's logits of what it made; low where that passes for real.

    non_saturating: -log D (Goodfellow et al., 2014); saturating: log(1 - D), eq. 7 to the letter; hinge:
    minus the logit (Miyato et al., 2018).
    """
    if form == "non_saturating":
        return F.softplus(-logits).mean()
    if form == "saturating":
        return -F.softplus(logits).mean()
    return -logits.mean()
