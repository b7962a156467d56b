"""``unclip model``: what a gateway serves, what a bundle holds, and bundles of published checkpoints."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import click

from gateway.cli.client import exiting
from unclip.v1 import image_service_pb2 as pb
from unclip_client import Client


@click.group(invoke_without_command=True)
@click.pass_context
def model(context: click.Context) -> None:
    """Show what is served; look into bundles, and make them.

    Without a command, it shows the model that is served by default.
    """
    if context.invoked_subcommand is None:
        context.invoke(show, what="")


@model.command("list")
@click.pass_obj
def list_models(client: Client) -> None:
    """List the models that are served; the first is the default."""
    with exiting():
        served = client.models()
    versions = {found.name: found.version for found in served.models}
    names = {served.default_model: None, **versions, **dict.fromkeys(served.unavailable)}
    for name in names:
        click.echo(f"{name} {versions[name]}" if name in versions else f"{name} (not available)")


@model.command()
@click.argument("what", default="")
@click.pass_obj
def show(client: Client, what: str) -> None:
    """Show WHAT: a model that is served, or the folder of a bundle; the default model if it is left out."""
    if what and Path(what).is_dir():
        run("services.bundles.show", what)
    with exiting():
        response = client.model(what)
    click.echo(f"{response.name} {response.version}")
    click.echo(f"sizes: {', '.join(map(str, response.sizes))}; by default {response.default_size}")
    if response.shape_multiple:
        click.echo(f"shapes that are not square: sides are multiples of {response.shape_multiple}")
    _show_fields("limits", response.limits)
    _show_fields("defaults", response.defaults)
    click.echo(f"  similarity: {response.default_similarity:g}")
    click.echo("licences:")
    for licence in response.licences:
        click.echo(f"  {licence.subject}: {licence.identifier} ({licence.source})")


@model.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False))
def verify(bundle: str) -> None:
    """Compare every file of BUNDLE with its manifest.

    Exit code 1 if one is missing, differs, or is not in the manifest.
    """
    run("services.bundles.verify", bundle)


@model.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False))
def memory(bundle: str) -> None:
    """Show what the networks of BUNDLE need of a GPU: weights, and activations at sizes and batches."""
    run("services.importing.memory", bundle)


@model.command(
    "import",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    epilog="Example: unclip model import kandinsky-2-2-prior kandinsky-2-2-decoder models-kandinsky",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def import_model(arguments: tuple[str, ...]) -> None:
    """Make a bundle of a published checkpoint's folders: FOLDER... BUNDLE."""
    run("services.importing", *arguments)


def run(module: str, *arguments: str) -> None:
    """Run another part of the project, which this one knows nothing of, and end as it ends."""
    if importlib.util.find_spec("torch") is None and module.startswith("services.importing"):
        raise click.ClickException("this needs the stages' requirements, of which torch is not here")
    sys.exit(subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode)


def _show_fields(title: str, message: pb.Limits | pb.SamplingOptions) -> None:
    click.echo(f"{title}:")
    for field, value in message.ListFields():
        click.echo(f"  {field.name}: {value:g}")
