"""``make fuzz``: odd inputs to every public method and both HTTP content types, for some minutes."""

from __future__ import annotations

import asyncio
import sys
import time

import click

from tests.fuzz.runner import run


@click.command()
@click.option("--minutes", type=float, default=10.0, show_default=True)
@click.option("--seed", type=int, help="Of the first input; by default drawn from the clock.")
@click.option("--inputs", type=int, default=10**9, help="At most so many.")
def main(minutes: float, seed: int | None, inputs: int) -> None:
    """Send inputs, and exit with 1 if one of them brought about what it should not."""
    first = int(time.time()) * 10**6 if seed is None else seed
    started = time.monotonic()
    report = asyncio.run(run(first, inputs, 60 * minutes))
    count = sum(report.answers.values())
    click.echo(f"{count} inputs from seed {first} in {time.monotonic() - started:.0f} s")
    for answer, number in report.answers.most_common():
        click.echo(f"  {number:9}  {answer}")
    for bad_seed, text in report.bad[:50]:
        click.echo(f"seed {bad_seed}: {text}")
    sys.exit(bool(report.bad))


if __name__ == "__main__":
    main()
