"""What all commands that make pictures share: their options, progress, previews and files."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.cli.client import console, exiting
from gateway.cli.files import Files, format_of, require_writable, write, write_sheet
from gateway.cli.progress import Bars
from gateway.environment import CLIENT_MODEL
from unclip.v1 import image_service_pb2 as pb
from unclip_client import Client, Picture, Preview, Progress, Warned
from unclip_client.requests import FlowRequest

Command = TypeVar("Command", bound=Callable[..., Any])


def option_set(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several click options as one decorator, in the order given."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


FILE = click.Path(dir_okay=False, path_type=Path)
MODEL = click.option(
    "--model",
    default="",
    envvar=CLIENT_MODEL,
    show_envvar=True,
    help="One of those that `unclip model list` tells; the first if absent.",
)
SAME_COUNT = option_set(
    MODEL,
    click.option("--seed", type=int, help="Makes the same pictures again; drawn if absent."),
    click.option("--negative", "negative_prompt", default="", help="What the pictures should not show."),
    click.option("--prior-steps", type=int, help="Denoising steps of the prior."),
    click.option("--prior-guidance", type=float, help="How strictly the prior follows the prompt."),
    click.option(
        "--candidates",
        "prior_candidates",
        type=int,
        help="Image embeddings drawn for each picture; the best is kept.",
    ),
    click.option("--steps", "decoder_steps", type=int, help="Denoising steps of the decoder."),
    click.option(
        "--guidance", "decoder_guidance", type=float, help="How strictly the decoder follows the prompt."
    ),
    click.option("--upsampler-steps", type=int, help="Denoising steps of each upsampler."),
    click.option("--preview", "preview_interval", type=int, help="Write a preview every so many steps."),
    click.option("--batch", is_flag=True, help="Let interactive callers go first."),
    click.option(
        "-o",
        "--output",
        type=FILE,
        default=Path("unclip.png"),
        show_default=True,
        help="Where to write: a .png, .webp or .jpg; with -n, a number is added to the name.",
    ),
    click.option("--quality", type=click.IntRange(1, 100), help="Of .jpg and .webp files."),
    click.option("--sheet", type=FILE, help="Also write all pictures on one sheet."),
)
SAMPLING = option_set(
    click.option("-n", "n", type=int, default=1, show_default=True, help="Pictures to make."), SAME_COUNT
)


def draws() -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """A command that makes pictures: the function builds its request, the rest is the same for all."""

    def decorate(build: Callable[..., Any]) -> Callable[..., None]:
        @functools.wraps(build)
        def command(
            client: Client,
            output: Path,
            quality: int | None,
            sheet: Path | None,
            model: str,
            batch: bool,
            **arguments: Any,
        ) -> None:
            options = pb.SamplingOptions(priority=pb.PRIORITY_BATCH if batch else pb.PRIORITY_INTERACTIVE)
            for field in pb.SamplingOptions.DESCRIPTOR.fields:
                value = arguments.pop(field.name, None)
                if value is not None:
                    setattr(options, field.name, checked(field.name, value))
            wanted = pb.Output(format=format_of(output), quality=quality)
            if sheet is not None:
                format_of(sheet, "--sheet")
            request = build(options=options, output=wanted, **arguments)
            request.model = model
            count = request.frames if isinstance(request, pb.InterpolateRequest) else options.n
            _draw(client, request, Files(output, count), sheet)

        return click.pass_obj(command)

    return decorate


def _draw(client: Client, request: FlowRequest, files: Files, sheet: Path | None) -> None:
    """Run a request; every picture is written as soon as it is there, whatever becomes of the others."""
    for path in filter(None, (files[0], sheet)):
        require_writable(path)
    made: dict[int, bytes] = {}
    lines: list[str] = []
    try:
        with exiting(), Bars(files.count) as bars:
            for event in client.stream(request):
                if isinstance(event, Progress):
                    bars.show(event)
                elif isinstance(event, Preview):
                    write(files[event.index].with_suffix(".preview.png"), event.data)
                elif isinstance(event, Warned):
                    text = f"{event.field} {event.message}"
                    console.print(text, style="yellow", markup=False, highlight=False)
                elif isinstance(event, Picture):
                    made[event.index] = event.data
                    write(files[event.index], event.data)
                    lines.append(_line(files[event.index], event.message))
    finally:
        for line in sorted(lines):
            click.echo(line)
        if sheet and made:
            write_sheet(sheet, [made[i] for i in sorted(made)])
            click.echo(f"{sheet}")


def _line(path: Path, picture: pb.Picture) -> str:
    times = (
        f"{pb.Stage.Name(t.stage).removeprefix('STAGE_').lower()} {t.duration.ToNanoseconds() / 1e9:.1f} s"
        for t in picture.stage_times
    )
    return f"{path}  {picture.width}x{picture.height}  seed {picture.seed}  ({', '.join(times)})"


def checked(name: str, value: Any) -> Any:
    """A value that its field can carry; the gateway checks the rest."""
    largest = 2**64 if name == "seed" else 2**32
    if isinstance(value, int) and not 0 <= value < largest:
        raise click.BadParameter(f"{name}: {value} is out of range")
    return value
