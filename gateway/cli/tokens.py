"""``unclip token``: makes, lists and revokes API tokens in the file that a gateway reads."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from pathlib import Path

import click
from pydantic import ValidationError

from gateway.callers import SCOPES, Scope
from gateway.tokens import changing, new_token, read_tokens

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
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days) if days else None
    with _usage(), changing(path) as tokens:
        if any(other.name == name for other in tokens):
            raise ValueError(f"there is a token called {name}; choose another name, or revoke it first")
        try:
            made, text = new_token(name, tenant, scopes or SCOPES[:-1], expires)
        except ValidationError:
            reason = "names and tenants have up to 64 letters, digits, spaces and any of . @ _ -"
            raise ValueError(reason) from None
        tokens.append(made)
    click.echo(text)


@token.command("list")
@FILE
def list_tokens(path: Path) -> None:
    """List tokens, without what is secret of them."""
    with _usage():
        tokens = read_tokens(path)
    for found in tokens:
        until = f"until {found.expires:%Y-%m-%d}" if found.expires else "for ever"
        click.echo(f"{found.name}: {found.tenant}, {', '.join(found.scopes)}, {until}")


@token.command()
@click.argument("name")
@FILE
def revoke(name: str, path: Path) -> None:
    """Revoke a token. Gateways refuse it within two seconds of seeing the changed file."""
    with _usage(), changing(path) as tokens:
        left = [found for found in tokens if found.name != name]
        if len(left) == len(tokens):
            raise ValueError(f"there is no token called {name}")
        tokens[:] = left


@contextlib.contextmanager
def _usage() -> Iterator[None]:
    """What is wrong with the file, or with what is asked, in a line."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None
