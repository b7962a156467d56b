"""The commands of ``unclip``.

Exit codes: 0 done; 2 bad input (usage or INVALID_ARGUMENT); 3 try again later (unavailable, full, out of
time); 1 anything else.
"""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli import models, tokens
from gateway.cli.client import exiting, say_waiting
from gateway.cli.draws import MODEL, SAME_COUNT, SAMPLING, draws
from gateway.cli.sources import SizeType, Weighted, source_of
from gateway.environment import CLIENT_ADDRESS, CLIENT_CA, CLIENT_TOKEN
from gateway.tls import TlsUnreadable, channel_credentials
from unclip.v1 import image_service_pb2 as pb
from unclip_client import Client
from unclip_client.requests import Size, shaped

SIZE = click.option(
    "--size",
    type=SizeType(),
    default=0,
    help="Side in pixels, or WIDTHxHEIGHT where the model draws such; 0: the model's default.",
)
SIDE = click.option(
    "--size",
    type=click.IntRange(0, 2**31),
    default=0,
    help="Shorter side in pixels; 0: the picture's own.",
)
PEM = click.Path(exists=True, dir_okay=False, path_type=Path)
PICTURE = click.argument("picture", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 2 bad input, 3 try again later, 1 failed.",
)
@click.option(
    "--address",
    envvar=CLIENT_ADDRESS,
    default="127.0.0.1:50051",
    show_default=True,
    show_envvar=True,
    help="The gateway's host and port.",
)
@click.option(
    "--token", envvar=CLIENT_TOKEN, show_envvar=True, help="An API token, where they are asked for."
)
@click.option(
    "--tls/--no-tls", default=None, help="Speak TLS; by default where --ca or --certificate is given."
)
@click.option(
    "--ca", type=PEM, envvar=CLIENT_CA, show_envvar=True, help="Who signed the gateway's certificate, as PEM."
)
@click.option("--certificate", type=PEM, help="Your own certificate, where the gateway asks for one.")
@click.option("--key", type=PEM, help="Its key.")
@click.option("--timeout", type=float, default=600.0, show_default=True, help="Seconds to wait for a result.")
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Ask a full service again, within the timeout."
)
@click.pass_context
def main(
    context: click.Context,
    address: str,
    token: str | None,
    tls: bool | None,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    timeout: float,
    wait: bool,
) -> None:
    """Turn sentences into pictures.

    \b
    unclip generate "a fox on a sandy beach" -n 4 --seed 7 -o fox.png
    unclip inpaint fox.png "an owl on a sandy beach" --mask hole.png -o owl.png
    unclip outpaint fox.png "a fox on a sandy beach" --left 128 --right 128
    unclip vary fox.png -n 4 --similarity 0.5
    unclip mix fox.png "in the snow" --weights 0.6 0.4
    unclip interpolate fox.png owl.png --frames 7
    unclip rank fox.png "a fox on a sandy beach" "a cat in the snow"
    """
    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate and --key: both are needed, or none")
    secure = tls if tls is not None else bool(ca or certificate)
    files = ("" if file is None else str(file) for file in (ca, certificate, key))
    try:
        given = channel_credentials(*files) if secure else False
        client = Client(address, token=token, tls=given, timeout=timeout, wait=wait, on_wait=say_waiting)
    except (ValueError, TlsUnreadable) as error:
        raise click.UsageError(str(error)) from None
    context.obj = context.with_resource(client)


main.add_command(tokens.token)
main.add_command(models.model)


@main.command(epilog='Example: unclip generate "a red apple on a wooden table" -n 4 --seed 7 -o apple.png')
@click.argument("prompt")
@SIZE
@SAMPLING
@draws()
def generate(prompt: str, size: Size, options: pb.SamplingOptions, output: pb.Output) -> pb.GenerateRequest:
    """Draw pictures of PROMPT."""
    return pb.GenerateRequest(prompt=prompt, **shaped(size), options=options, output=output)


@main.command(epilog='Example: unclip inpaint photo.png "an owl in the snow" --mask hole.png -o owl.png')
@PICTURE
@click.argument("prompt")
@click.option(
    "--mask",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Transparent (or, in an opaque mask, white) = paint here; without it, PICTURE's own transparency.",
)
@click.option(
    "--mask-kind",
    type=click.Choice(["alpha", "luminance"]),
    help="What of the mask is painted: its transparent or its white pixels; by default, what it is made of.",
)
@SIDE
@SAMPLING
@draws()
def inpaint(
    picture: Path,
    prompt: str,
    mask: Path | None,
    mask_kind: str | None,
    size: int,
    options: pb.SamplingOptions,
    output: pb.Output,
) -> pb.InpaintRequest:
    """Paint PROMPT into the hole of PICTURE; all else stays as it is."""
    return pb.InpaintRequest(
        picture=picture.read_bytes(),
        mask=mask.read_bytes() if mask else b"",
        mask_kind=pb.MaskKind.Value(f"MASK_KIND_{(mask_kind or 'unspecified').upper()}"),
        prompt=prompt,
        size=size,
        options=options,
        output=output,
    )


@main.command(
    epilog='Example: unclip outpaint fox.png "a fox on a sandy beach" --left 128 --right 128 -o wide.png'
)
@PICTURE
@click.argument("prompt")
@click.option("--left", type=click.IntRange(0, 2**31), default=0, help="Pixels to add at the left.")
@click.option("--top", type=click.IntRange(0, 2**31), default=0, help="Pixels to add at the top.")
@click.option("--right", type=click.IntRange(0, 2**31), default=0, help="Pixels to add at the right.")
@click.option("--bottom", type=click.IntRange(0, 2**31), default=0, help="Pixels to add at the bottom.")
@SAMPLING
@draws()
def outpaint(
    picture: Path,
    prompt: str,
    left: int,
    top: int,
    right: int,
    bottom: int,
    options: pb.SamplingOptions,
    output: pb.Output,
) -> pb.OutpaintRequest:
    """Extend PICTURE past its borders with PROMPT."""
    margins = pb.Margins(left=left, top=top, right=right, bottom=bottom)
    return pb.OutpaintRequest(
        picture=picture.read_bytes(), prompt=prompt, margins=margins, options=options, output=output
    )


@main.command(epilog="Example: unclip vary fox.png -n 4 --similarity 0.5 -o foxes.png")
@PICTURE
@click.option("--similarity", type=float, help="From 0 (only what it shows) to 1 (nearly a copy).")
@click.option("--from", "from_text", default="", help="What it shows, in words; with --to.")
@click.option("--to", "to_text", default="", help="What it is to show instead.")
@click.option("--strength", type=float, help="How far it is turned from the one to the other, from 0 to 1.")
@SIZE
@SAMPLING
@draws()
def vary(
    picture: Path,
    similarity: float | None,
    from_text: str,
    to_text: str,
    strength: float | None,
    size: Size,
    options: pb.SamplingOptions,
    output: pb.Output,
) -> pb.VaryRequest:
    """Draw pictures like PICTURE."""
    return pb.VaryRequest(
        picture=picture.read_bytes(),
        similarity=similarity,
        from_text=from_text,
        to_text=to_text,
        text_strength=strength,
        **shaped(size),
        options=options,
        output=output,
    )


@main.command(cls=Weighted, epilog='Example: unclip mix fox.png "in the snow" --weights 0.6 0.4 -o mix.png')
@click.argument("sources", nargs=-1, required=True)
@click.option("--weights", "weights", type=float, multiple=True, help="How much each counts, in their order.")
@SIZE
@SAMPLING
@draws()
def mix(
    sources: tuple[str, ...],
    weights: tuple[float, ...],
    size: Size,
    options: pb.SamplingOptions,
    output: pb.Output,
) -> pb.MixRequest:
    """Draw pictures of what SOURCES, files or prompts, have in common."""
    given = [source_of(source) for source in sources]
    return pb.MixRequest(sources=given, weights=weights, **shaped(size), options=options, output=output)


@main.command(epilog="Example: unclip interpolate fox.png owl.png --frames 7 --sheet way.png")
@click.argument("start")
@click.argument("end")
@click.option("--frames", type=click.IntRange(0, 2**31), default=5, show_default=True, help="Pictures.")
@SIZE
@SAME_COUNT
@draws()
def interpolate(
    start: str, end: str, frames: int, size: Size, options: pb.SamplingOptions, output: pb.Output
) -> pb.InterpolateRequest:
    """Draw the way from START to END, files or prompts."""
    return pb.InterpolateRequest(
        start=source_of(start),
        end=source_of(end),
        frames=frames,
        **shaped(size),
        options=options,
        output=output,
    )


@main.command(epilog='Example: unclip rank fox.png "a fox on a sandy beach" "a cat in the snow"')
@PICTURE
@click.argument("captions", nargs=-1, required=True)
@MODEL
@click.pass_obj
def rank(client: Client, picture: Path, captions: tuple[str, ...], model: str) -> None:
    """Tell which of the CAPTIONS fits PICTURE best."""
    with exiting():
        captions_ranked = client.rank(picture, captions, model=model)
    for ranked in captions_ranked:
        click.echo(f"{100 * ranked.probability:6.2f} %  {ranked.caption}")


@main.command()
@PICTURE
def verify(picture: Path) -> None:
    """Say where PICTURE comes from, who signed that, and whether it was changed since.

    Exit code 1 if it says nothing, or was changed.
    """
    from gateway.cli.provenance import read

    report = read(picture)
    for line in report.lines:
        click.echo(f"{picture}: {line}")
    if not report.valid:
        raise SystemExit(1)
