"""`stablestudio serve`: run the service."""

from __future__ import annotations

from pathlib import Path

import click

from stablestudio.errors import StudioError
from stablestudio.server.main import serve as run


class CannotServe(click.ClickException):
    """The settings do not allow a start: wrong usage."""

    exit_code = 2


@click.command()
@click.option("--host", default=None, help="Address to listen on; STABLESTUDIO_HOST, else 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), default=None, help="Port; STABLESTUDIO_PORT, else 8402.")
@click.option("--role", type=click.Choice(["all", "web", "worker"]), default=None, help="What this process does.")
@click.option("--data", type=click.Path(path_type=Path), default=None, help="Folder of all that is kept.")
def serve(host: str | None, port: int | None, role: str | None, data: Path | None) -> None:
    """Run the service. With nothing configured it runs in its embedded world, where no money is real."""
    try:
        run(host=host, port=port, role=role, data=data)
    except StudioError as error:
        raise CannotServe(f"{error.message}\nNext: {error.advice}") from None
