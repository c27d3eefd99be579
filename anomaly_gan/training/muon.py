"""Muon (K. Jordan et al., 2024): steps of convolutions are as long in all directions; Adam for the rest.

The momentum of a convolution's weights, as a matrix [outputs, inputs * height * width], is replaced by the
nearest matrix with orthonormal rows or columns. Directions in which the gradient is small are so learned as
fast as those in which it is large, which pays in short trainings.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of x, x^3 and x^5 in a Newton-Schulz step, chosen by Jordan et al. for the steepest slope at 0: five steps
bring singular values of .002 and more to between .68 and 1.2, and no further."""
NEWTON_SCHULZ_STEPS = 5


class MuonAndAdam(torch.optim.Adam):
    """Muon for weights of convolutions, Adam for all other parameters, at one learning rate.

    Args:
        parameters: of a network.
        momentum: of the convolutions' gradients, in Nesterov's form.
        step: root mean square of a step of a convolution's weights, in learning rates. Adam's is some .2.
        adam: further arguments of `torch.optim.Adam`; `lr` is the learning rate of both.
    """

    def __init__(self, parameters: Iterable[Tensor], *, momentum: float, step: float, **adam: Any):
        parameters = list(parameters)
        groups = [
            {"params": [p for p in parameters if (p.ndim == 4) == orthogonal], "orthogonal": orthogonal}
            for orthogonal in (True, False)
        ]
        super().__init__([group for group in groups if group["params"]], **adam)
        self.momentum, self.rms = momentum, step

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of every parameter that has a gradient; `closure`, if any, makes them first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        for group in groups:
            if group["orthogonal"]:
                self._orthogonal_step(group)
        self.param_groups = [group for group in groups if not group["orthogonal"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        return loss

    @torch.no_grad()
    def _orthogonal_step(self, group: dict[str, Any]) -> None:
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            if not state:
                state["momentum"] = torch.zeros_like(weight)
                state["step"] = torch.zeros(())  # not used: Adam looks for it in every state that it loads
            state["momentum"].mul_(self.momentum).add_(weight.grad)
            ahead = weight.grad.add(state["momentum"], alpha=self.momentum)
            # In the order of channels_last, in which the network has them: no copy.
            rows = ahead.permute(0, 2, 3, 1)
            update = orthogonalised(rows.flatten(1)).view(rows.shape).permute(0, 3, 1, 2)
            # An orthonormal m x n matrix has a root mean square of max(m, n) ** -.5.
            update *= self.rms * max(len(rows), rows[0].numel()) ** 0.5
            weight.sub_(group["lr"] * update)


def orthogonalised(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """About the nearest matrix whose rows are orthonormal, or, where they are more, its columns.

    Singular values end between .68 and 1.2, those below .002 of the matrix's Frobenius norm nearer to 0.
    Under autocast the products are in its precision.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalised(matrix.T).T
    first, third, fifth = COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=third, alpha=fifth), x, beta=first)
    return x.to(matrix.dtype)
