"""What a bundle's networks need of a GPU: ``python -m services.importing.memory BUNDLE``.

From their configs alone, on torch's meta device: nothing is loaded and nothing is computed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from services.bundles.bundle import Bundle, BundleError
from services.bundles.clip import read_config
from services.clip.network import TOWERS
from services.decoder.autoencoder import Autoencoder
from services.decoder.conditioning import ImageConditioningConfig
from services.decoder.network import MASK_CHANNELS, Decoder, DecoderConfig, Upsampler, UpsamplerConfig
from services.prior.network import Prior, PriorConfig

MIB = 2**20
SIDES = 5  # of a decoder's native sides, the most that are shown
TOKENS = 77  # of CLIP's texts


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes of tensors that were there at a time while it was entered: a call's activations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._made(tensor.untyped_storage())
        return out

    def _made(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._gone, key, storage.nbytes())

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


def weight_bytes(network: nn.Module) -> int:
    """Of the parameters and buffers."""
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def activation_bytes(call: Callable[[], Tensor]) -> int:
    """The most that a call has beside its network's weights. It is made on the meta device."""
    with torch.inference_mode(), LiveBytes() as live:
        call()
    return live.peak


def networks(bundle: Bundle) -> dict[str, nn.Module]:
    """Every network of a bundle by its part, on the meta device, in bfloat16."""
    found: dict[str, nn.Module] = {}
    for part in bundle.parts("*"):
        folder = bundle.part(part)
        if part in ("clip", "text-tower", "image-tower"):
            config = read_config(folder).model_cfg
            found |= {f"{part} ({tower})": TOWERS[tower](config) for tower in _towers(part)}
        elif part == "prior":
            found[part] = Prior(bundle.config(part, PriorConfig))
        elif part.startswith("decoder"):
            found[part] = Decoder(bundle.config(part, DecoderConfig))
        elif part.startswith(("upsampler-", "last-")):
            found[part] = Upsampler(bundle.config(part, UpsamplerConfig))
        elif part == "autoencoder":
            autoencoder = bundle.config("decoder", DecoderConfig).autoencoder
            assert autoencoder is not None
            found[part] = Autoencoder(autoencoder)
    return {part: network.to(torch.bfloat16).eval() for part, network in found.items()}


def _towers(part: str) -> tuple[Any, ...]:
    return ("text", "image") if part == "clip" else (part.removesuffix("-tower"),)


def decoder_call(network: Decoder, side: int, evaluations: int) -> Callable[[], Tensor]:
    """A call of the base network for pictures of this side."""
    config = network.config
    factor = config.autoencoder.factor if config.autoencoder else 1
    channels = config.autoencoder.latent_channels if config.autoencoder else 3
    places = side // factor
    known_channels = config.unet.in_channels - channels if config.inpainting else 0

    def call() -> Tensor:
        known = _empty(evaluations, known_channels, places, places) if known_channels else None
        image = _empty(evaluations, config.conditioning.embedding_dim)
        timesteps = torch.zeros(evaluations, dtype=torch.long)
        x = _empty(evaluations, channels, places, places)
        if isinstance(config.conditioning, ImageConditioningConfig):
            nothing = _empty(0)
            return _called(network, x, timesteps, known, image, nothing, nothing, nothing)
        text = _empty(evaluations, config.conditioning.embedding_dim)
        states = _empty(evaluations, TOKENS, config.conditioning.text_dim)
        mask = torch.ones(evaluations, TOKENS, dtype=torch.bool)
        return _called(network, x, timesteps, known, image, text, states, mask)

    return call


def upsampler_call(network: Upsampler, rows: int) -> Callable[[], Tensor]:
    """A call of an upsampler."""
    side = network.config.side
    known = MASK_CHANNELS if network.config.inpainting else 0

    def call() -> Tensor:
        places = _empty(rows, known, side, side) if known else None
        x = _empty(rows, 3, side, side)
        return _called(network, x, torch.zeros(rows, dtype=torch.long), x, places)

    return call


def autoencoder_call(network: Autoencoder, side: int) -> Callable[[], Tensor]:
    """Latents of one picture to pixels."""
    places = side // network.config.factor
    return lambda: network.decode(_empty(1, network.config.latent_channels, places, places))


def activations(part: str, network: nn.Module, sides: tuple[int, ...]) -> list[tuple[str, int]]:
    """What calls of a network need beside its weights: [(the call, bytes)]. sides: a latent decoder's."""
    if isinstance(network, Decoder):
        shown = network.config.native[:: -(-len(network.config.native) // SIDES)]
        return [
            (f"{side} px, {rows} guided", activation_bytes(decoder_call(network, side, 2 * rows)))
            for side in shown
            for rows in (1, 8)
        ]
    if isinstance(network, Upsampler):
        side = network.config.side
        return [(f"{side} px, {rows}", activation_bytes(upsampler_call(network, rows))) for rows in (1, 8)]
    if isinstance(network, Autoencoder):
        return [(f"{side} px, 1", activation_bytes(autoencoder_call(network, side))) for side in sides]
    return []


def _called(network: nn.Module, *given: Tensor | None) -> Tensor:
    output: Tensor = network(*given)
    return output


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.bfloat16)


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(path: Path) -> None:
    """Show what the networks of the bundle at PATH need of a GPU, in bfloat16, in MiB.

    Of each its weights, and what calls need beside them: of so many pictures with guidance, at these sizes.
    """
    try:
        bundle = Bundle(path.resolve())
        native = bundle.config("decoder", DecoderConfig).native
        with torch.device("meta"):
            for part, network in networks(bundle).items():
                click.echo(f"{part:28} {weight_bytes(network) / MIB:10,.0f}")
                for call, size in activations(part, network, native[:: -(-len(native) // SIDES)]):
                    click.echo(f"    {call:24} {size / MIB:10,.0f}")
    except BundleError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
