"""Check a bundle against its manifest: ``python -m services.bundles.verify PATH``, before replicas are let at it."""

from __future__ import annotations

from pathlib import Path

import click

from services.bundles.bundle import Bundle, BundleError


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(path: Path) -> None:
    """Verify every file that the manifest of the bundle at PATH names; exit code 1 if one is missing or differs."""
    try:
        manifest = Bundle(path.resolve(), "*").manifest
    except BundleError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{manifest.name} {manifest.version}: {len(manifest.files)} files are as the manifest says")


if __name__ == "__main__":
    main()
