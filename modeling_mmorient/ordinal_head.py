"""The head of tasks whose classes have an order."""

import torch
from torch import nn


class OrdinalHead(nn.Module):
    r"""Proportional odds (McCullagh, 1980) for classes that have an order.

    With one score s = w . h and ordered cut points θ_0 < ... < θ_{C-2} between the classes 0..C-1:

        P(y > k) = sigmoid(s - θ_k),    P(y = k) = P(y > k-1) - P(y > k)

    The logits are the logarithms of P(y = k), so that softmax, argmax and cross-entropy mean the same
    as for any other task.

    Shapes:
        hidden (B, d); returns (B, classes), float32 at least.
    """

    def __init__(self, in_dim: int, num_classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(in_dim, 1, bias=False)
        self.first_cut = nn.Parameter(torch.zeros(1))
        self.gaps = nn.Parameter(torch.zeros(num_classes - 2))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        score = self.score(hidden).float()
        # Softplus keeps the cut points in order whatever the parameters are; the constant keeps
        # neighbouring ones apart, since the logarithm of an empty class would be -inf.
        steps = nn.functional.softplus(self.gaps.float()) + 1e-3
        cuts = torch.cat([self.first_cut.float(), self.first_cut.float() + steps.cumsum(0)])
        above = nn.functional.logsigmoid(score - cuts)
        below = nn.functional.logsigmoid(cuts - score)
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), without cancellation.
        between = above[:, :-1] + below[:, 1:] + torch.log(-torch.expm1(-steps))
        return torch.cat([below[:, :1], between, above[:, -1:]], -1)
