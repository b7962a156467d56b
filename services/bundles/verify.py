"""Check a bundle against its manifest: ``python -m services.bundles.verify PATH``."""

from __future__ import annotations

from pathlib import Path

import click

from services.bundles.bundle import Bundle, BundleError


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(path: Path) -> None:
    """Verify every file of the bundle at PATH, docs/ excepted.

    The exit code is 1 if one is missing, differs, or is not in the manifest.
    """
    try:
        bundle = Bundle(path.resolve())
        bundle.verify()
    except BundleError as error:
        raise click.ClickException(str(error)) from None
    manifest = bundle.manifest
    click.echo(f"{manifest.name} {manifest.version}: {len(manifest.files)} files are as the manifest says")


if __name__ == "__main__":
    main()
