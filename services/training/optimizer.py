"""The optimizer of the networks: Muon for what multiplies hidden features, AdamW for everything else."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

# Layers whose input or output are pixels, tokens, embeddings or positions: of the U-Nets, CLIP and the prior.
AT_THE_ENDS = (
    "conv_in",
    "conv_out",
    "visual.conv1",
    "visual.proj",
    "_embedding",
    "text_projection",
    "image_in",
    "positions",
    "project.",
)


class MuonWithAdamW:
    """Muon on hidden weights, AdamW on biases, gains, and the layers at the ends.

    Muon (arXiv 2502.16982) is orthogonalised momentum, scaled to AdamW's step. It takes the weights of a
    convolution as the matrix (out, height * width * in).
    """

    def __init__(
        self, model: nn.Module, *, learning_rate: float, weight_decay: float, betas: tuple[float, float]
    ) -> None:
        """Optimize a model that has its final device and memory format (channels last).

        It may not be moved later: Muon works on views of its weights.
        """
        named = list(model.named_parameters())
        hidden = {n for n, p in named if p.ndim > 1 and not any(end in n for end in AT_THE_ENDS)}
        self._hidden = [p for n, p in named if n in hidden]
        self._matrices = [nn.Parameter(_as_matrix(p.detach())) for p in self._hidden]
        muon = torch.optim.Muon(
            self._matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        adamw = torch.optim.AdamW(
            [p for n, p in named if n not in hidden],
            lr=learning_rate,
            weight_decay=weight_decay,
            betas=betas,
            fused=True,
        )
        self._optimizers: tuple[torch.optim.Optimizer, ...] = (muon, adamw)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both optimizers, for their learning rates to be set."""
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    def step(self) -> None:
        """One update from the gradients of the model's parameters."""
        for parameter, matrix in zip(self._hidden, self._matrices, strict=True):
            matrix.grad = None if parameter.grad is None else _as_matrix(parameter.grad)
        for optimizer in self._optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._hidden:
            parameter.grad = None
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """The state of both."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self._optimizers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned."""
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def _as_matrix(weight: torch.Tensor) -> torch.Tensor:
    """(out, in) as it is; (out, in, h, w), stored channels last, as the view (out, h * w * in)."""
    return weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).flatten(1)
