"""The optimizer of the networks: Muon for what multiplies hidden features, AdamW for everything else."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

# Layers whose input or output are pixels, tokens, embeddings or positions: of the U-Nets, of CLIP, of the prior.
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
    """Muon (arXiv 2502.16982: orthogonalised momentum, scaled to AdamW's step) on hidden weights, a convolution's as
    the matrix (out, height * width * in); AdamW on biases, gains, and the layers at the ends.

    ``model`` has to have its final device and memory format (channels_last), since Muon works on views of its weights.
    """

    def __init__(
        self, model: nn.Module, *, learning_rate: float, weight_decay: float, betas: tuple[float, float]
    ) -> None:
        named = list(model.named_parameters())
        hidden = {n for n, p in named if p.ndim > 1 and not any(end in n for end in AT_THE_ENDS)}
        self._hidden = [p for n, p in named if n in hidden]
        self._matrices = [nn.Parameter(_as_matrix(p.detach())) for p in self._hidden]
        self._optimizers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(
                self._matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(
                [p for n, p in named if n not in hidden],
                lr=learning_rate,
                weight_decay=weight_decay,
                betas=betas,
                fused=True,
            ),
        )

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of both, for a schedule to set their learning rate."""
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
        """Of both."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self._optimizers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What ``state_dict`` returned."""
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def _as_matrix(weight: torch.Tensor) -> torch.Tensor:
    """(out, in) as it is; (out, in, h, w), stored channels last, as the view (out, h * w * in)."""
    return weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).flatten(1)
