"""``unclip token``: makes, lists and revokes API tokens in the file that a gateway reads."""

from __future__ import annotations

import datetime
from pathlib import Path

import click

from gateway.tokens import SCOPES, Scope, Token, new_token, read_tokens, write_tokens

FILE = click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="UNCLIP_TOKENS",
    show_envvar=True,
    required=True,
    help="The file of tokens, which gateways read anew when it changes.",
)


@click.group()
def token() -> None:
    """Make, list and revoke API tokens."""


@token.command(epilog="Example: unclip token create shop --tenant acme --scope generate --file tokens.json")
@click.argument("name")
@FILE
@click.option("--tenant", default="default", show_default=True, help="Whose calls these are.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    help="What it may do; may be given again. All but admin, if none is given.",
)
@click.option("--days", type=click.IntRange(1, 3650), help="For which it is valid; for ever, if not given.")
def create(name: str, path: Path, tenant: str, scopes: tuple[Scope, ...], days: int | None) -> None:
    """Make a token and print it. It is shown this once: the file holds a hash of it."""
    known = _read(path) if path.exists() else ()
    if any(other.name == name for other in known):
        raise click.UsageError(f"there is a token called {name}; choose another name, or revoke it first")
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days) if days else None
    try:
        made, text = new_token(name, tenant, scopes or SCOPES[:-1], expires)
    except ValueError:
        raise click.UsageError(
            "names and tenants have up to 64 letters, digits, spaces and any of . @ _ -"
        ) from None
    write_tokens(path, [*known, made])
    click.echo(text)


@token.command("list")
@FILE
def list_tokens(path: Path) -> None:
    """List tokens, without what is secret of them."""
    for found in _read(path):
        until = f"until {found.expires:%Y-%m-%d}" if found.expires else "for ever"
        click.echo(f"{found.name}: {found.tenant}, {', '.join(found.scopes)}, {until}")


@token.command()
@click.argument("name")
@FILE
def revoke(name: str, path: Path) -> None:
    """Revoke a token. Gateways refuse it within two seconds of seeing the changed file."""
    known = _read(path)
    left = [found for found in known if found.name != name]
    if len(left) == len(known):
        raise click.UsageError(f"there is no token called {name}")
    write_tokens(path, left)


def _read(path: Path) -> tuple[Token, ...]:
    try:
        return read_tokens(path)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None
