"""The command line: ``unclip generate "a fox on a sandy beach"`` against any gateway.

Exit codes: 0 done; 2 bad input (usage or INVALID_ARGUMENT); 3 try again later (unavailable, queue full, out of time);
1 anything else.
"""

from __future__ import annotations

import functools
import io
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from gateway.settings import CLIENT_ADDRESS
from unclip.v1 import image_service_pb2 as pb
from unclip.v1 import image_service_pb2_grpc as pb_grpc

RETRY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}
EXIT_FAILED, EXIT_BAD_INPUT, EXIT_TRY_AGAIN = 1, 2, 3
SHEET_GAP = 8
console = Console(stderr=True)
Command = TypeVar("Command", bound=Callable[..., Any])


def option_set(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several click options as one decorator, in the order given."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


SAMPLING = option_set(
    click.option("-n", "n", type=int, default=1, show_default=True, help="Pictures to make."),
    click.option("--seed", type=int, help="Makes the same pictures again; drawn if absent."),
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
    click.option(
        "--preview",
        "preview_interval",
        type=int,
        help="Write a preview beside the picture every so many steps.",
    ),
    click.option(
        "-o",
        "--output",
        type=click.Path(dir_okay=False, path_type=Path),
        default=Path("unclip.png"),
        show_default=True,
        help="Where to write; with -n, a number is added to the name.",
    ),
    click.option(
        "--sheet",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Also write all pictures on one sheet.",
    ),
)
SIZE = click.option(
    "--size", type=click.IntRange(0, 2**31), default=0, help="Side in pixels, one of the model's sizes."
)
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
@click.option("--timeout", type=float, default=600.0, show_default=True, help="Seconds to wait for a result.")
@click.pass_context
def main(context: click.Context, address: str, timeout: float) -> None:
    """Turn sentences into pictures.

    \b
    unclip generate "a fox on a sandy beach" -n 4 --seed 7 -o fox.png
    unclip inpaint fox.png "an owl on a sandy beach" --mask hole.png -o owl.png
    unclip outpaint fox.png "a fox on a sandy beach" --left 128 --right 128
    unclip vary fox.png -n 4 --similarity 0.5
    unclip rank fox.png "a fox on a sandy beach" "a cat in the snow"
    """
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    channel = context.with_resource(grpc.insecure_channel(address, options=options))
    context.obj = Client(pb_grpc.ImageServiceStub(channel), address, timeout)


class Client:
    """The gateway as commands see it."""

    def __init__(self, stub: Any, address: str, timeout: float) -> None:
        self._stub, self._address, self._timeout = stub, address, timeout

    def call(self, method: str, request: Any) -> Any:
        """One unary call; an error ends the command with its exit code."""
        with self._errors():
            return getattr(self._stub, method)(request, timeout=self._timeout)

    def pictures(
        self, request: pb.StreamRequest, n: int, on_preview: Callable[[int, pb.Preview], None]
    ) -> list[pb.Picture]:
        """Run a flow with progress bars, and return its pictures in order."""
        made: dict[int, pb.Picture] = {}
        with self._errors(), Bars(n) as bars:
            for response in self._stub.Stream(request, timeout=self._timeout):
                event = response.WhichOneof("event")
                if event == "progress":
                    bars.show(response.picture_index, response.progress)
                elif event == "preview":
                    on_preview(response.picture_index, response.preview)
                elif event == "picture":
                    made[response.picture_index] = response.picture
        return [made[i] for i in sorted(made)]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            call = cast(grpc.Call, error)
            for line in explain(call, self._address):
                console.print(line, style="red", markup=False, highlight=False)
            code = call.code()
            if code is grpc.StatusCode.RESOURCE_EXHAUSTED and rpc_status.from_call(call) is None:
                sys.exit(
                    EXIT_BAD_INPUT
                )  # gRPC's own refusal of a message that is too large, which trying again does not mend
            sys.exit(
                EXIT_BAD_INPUT
                if code is grpc.StatusCode.INVALID_ARGUMENT
                else EXIT_TRY_AGAIN
                if code in RETRY
                else EXIT_FAILED
            )


def explain(error: grpc.Call, address: str) -> list[str]:
    """What to tell a person of a failed call, a line for each wrong field."""
    status = rpc_status.from_call(error)
    bad = error_details_pb2.BadRequest()
    for detail in status.details if status else ():
        if detail.Unpack(bad):
            return [f"{v.field} {v.description}" for v in bad.field_violations]
    if error.code() is grpc.StatusCode.UNAVAILABLE and status is None:
        return [f"nothing answers at {address}; is the gateway running? (`make serve` starts one)"]
    return [error.details() or error.code().name]


class Bars:
    """A progress bar for each stage, over all pictures of a request."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._tasks: dict[int, TaskID] = {}
        self._done: dict[tuple[int, int], int] = {}
        self._progress = Progress(
            TextColumn("{task.description:>14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, index: int, progress: pb.Progress) -> None:
        """A picture has taken a step in a stage. A stage that starts anew (the next frame of a canvas) adds to its total."""
        stage = progress.stage
        name = pb.Stage.Name(stage).removeprefix("STAGE_").lower().replace("_", " ")
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(name, total=self._n * progress.steps)
        before = self._done.get((index, stage), 0)
        if progress.step <= before:
            task = self._progress.tasks[self._tasks[stage]]
            self._progress.update(self._tasks[stage], total=(task.total or 0) + progress.steps)
            before = 0
        self._progress.advance(self._tasks[stage], progress.step - before)
        self._done[index, stage] = progress.step


def draws(kind: str) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """A command that makes pictures: the function builds its request, the rest is the same for all."""

    def decorate(build: Callable[..., Any]) -> Callable[..., None]:
        @functools.wraps(build)
        def command(client: Client, output: Path, sheet: Path | None, **arguments: Any) -> None:
            names = [f.name for f in pb.SamplingOptions.DESCRIPTOR.fields]
            given = {name: arguments.pop(name) for name in names}
            options = pb.SamplingOptions()
            for name, value in given.items():
                if value is not None:
                    setattr(options, name, checked(name, value))
            request = build(options=options, **arguments)
            n = max(given["n"], 1)
            paths = [numbered(output, i) if n > 1 else output for i in range(n)]
            output.parent.mkdir(parents=True, exist_ok=True)
            pictures = client.pictures(
                pb.StreamRequest(**{kind: request}),
                n,
                lambda i, preview: write(paths[i].with_suffix(".preview.png"), preview.png),
            )
            for path, picture in zip(paths, pictures, strict=True):
                write(path, picture.png)
                seconds = ", ".join(
                    f"{pb.Stage.Name(t.stage)[6:].lower()} {t.duration.ToNanoseconds() / 1e9:.1f} s"
                    for t in picture.stage_times
                )
                click.echo(f"{path}  {picture.width}x{picture.height}  seed {picture.seed}  ({seconds})")
            if sheet:
                write(sheet, contact_sheet([p.png for p in pictures]))
                click.echo(f"{sheet}")

        return click.pass_obj(command)

    return decorate


def checked(name: str, value: float) -> float:
    """A number that its field can carry; the gateway checks the rest."""
    if isinstance(value, int) and not 0 <= value < (2**64 if name == "seed" else 2**32):
        raise click.BadParameter(f"{name}: {value} is out of range")
    return value


def numbered(path: Path, index: int) -> Path:
    """fox.png -> fox-1.png."""
    return path.with_stem(f"{path.stem}-{index + 1}")


def write(path: Path, data: bytes) -> None:
    """Write a file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def contact_sheet(pngs: Sequence[bytes]) -> bytes:
    """All pictures on one, in rows."""
    pictures = [Image.open(io.BytesIO(png)) for png in pngs]
    columns = math.ceil(math.sqrt(len(pictures)))
    width, height = (max(p.size[axis] for p in pictures) + SHEET_GAP for axis in (0, 1))
    sheet = Image.new(
        "RGB", (columns * width + SHEET_GAP, math.ceil(len(pictures) / columns) * height + SHEET_GAP), "white"
    )
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (SHEET_GAP + i % columns * width, SHEET_GAP + i // columns * height))
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()


@main.command(epilog='Example: unclip generate "a red apple on a wooden table" -n 4 --seed 7 -o apple.png')
@click.argument("prompt")
@SIZE
@SAMPLING
@draws("generate")
def generate(prompt: str, size: int, options: pb.SamplingOptions) -> pb.GenerateRequest:
    """Draw pictures of PROMPT."""
    return pb.GenerateRequest(prompt=prompt, size=size, options=options)


@main.command(epilog='Example: unclip inpaint photo.png "an owl in the snow" --mask hole.png -o owl.png')
@PICTURE
@click.argument("prompt")
@click.option(
    "--mask",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Transparent (or, in an opaque mask, white) = paint here; without it, PICTURE's own transparency.",
)
@SIZE
@SAMPLING
@draws("inpaint")
def inpaint(
    picture: Path, prompt: str, mask: Path | None, size: int, options: pb.SamplingOptions
) -> pb.InpaintRequest:
    """Paint PROMPT into the hole of PICTURE; all else stays as it is."""
    hole = mask.read_bytes() if mask else b""
    return pb.InpaintRequest(
        picture=picture.read_bytes(), mask=hole, prompt=prompt, size=size, options=options
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
@draws("outpaint")
def outpaint(
    picture: Path, prompt: str, left: int, top: int, right: int, bottom: int, options: pb.SamplingOptions
) -> pb.OutpaintRequest:
    """Extend PICTURE past its borders with PROMPT."""
    margins = pb.Margins(left=left, top=top, right=right, bottom=bottom)
    return pb.OutpaintRequest(picture=picture.read_bytes(), prompt=prompt, margins=margins, options=options)


@main.command(epilog="Example: unclip vary fox.png -n 4 --similarity 0.5 -o foxes.png")
@PICTURE
@click.option("--similarity", type=float, help="From 0 (only what it shows) to 1 (nearly a copy).")
@SIZE
@SAMPLING
@draws("vary")
def vary(picture: Path, similarity: float | None, size: int, options: pb.SamplingOptions) -> pb.VaryRequest:
    """Draw pictures like PICTURE."""
    return pb.VaryRequest(picture=picture.read_bytes(), similarity=similarity, size=size, options=options)


@main.command(epilog='Example: unclip rank fox.png "a fox on a sandy beach" "a cat in the snow"')
@PICTURE
@click.argument("captions", nargs=-1, required=True)
@click.pass_obj
def rank(client: Client, picture: Path, captions: tuple[str, ...]) -> None:
    """Tell which of the CAPTIONS fits PICTURE best."""
    response = client.call(
        "RankCaptions", pb.RankCaptionsRequest(picture=picture.read_bytes(), captions=captions)
    )
    for ranked in response.captions:
        click.echo(f"{100 * ranked.probability:6.2f} %  {ranked.caption}")


@main.command()
@click.pass_obj
def model(client: Client) -> None:
    """Show what is served: model, sizes, limits, defaults, licences."""
    response = client.call("GetModel", pb.GetModelRequest())
    click.echo(f"{response.name} {response.version}")
    click.echo(f"sizes: {', '.join(map(str, response.sizes))}")
    for title, message in (("limits", response.limits), ("defaults", response.defaults)):
        click.echo(f"{title}:")
        for field, value in message.ListFields():
            click.echo(f"  {field.name}: {value:g}")
    click.echo(f"  similarity: {response.default_similarity:g}")
    click.echo("licences:")
    for licence in response.licences:
        click.echo(f"  {licence.subject}: {licence.identifier} ({licence.source})")


if __name__ == "__main__":
    main()
