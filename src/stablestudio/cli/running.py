"""What commands share: options, the way to a client, and the way out for errors."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from stablestudio.cli.faults import exit_code, tell
from stablestudio.cli.output import Output
from stablestudio.client import KeyWallet, StudioClient
from stablestudio.client.errors import WalletMissing
from stablestudio.errors import StudioError
from stablestudio.money import Money

DEFAULT_URL = "http://127.0.0.1:8402"
Callback = TypeVar("Callback", bound=Callable[..., Any])


class Dollars(click.ParamType[Money]):
    """An amount such as 0.50 or $0.50."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Money:
        try:
            return value if isinstance(value, Money) else Money.parse(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


def speaks(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--json` and an `Output` as first argument, and turn its errors into text and exit codes."""

    @click.option("--json", "as_json", is_flag=True, help="Write one JSON document, also on a terminal.")
    @functools.wraps(function)
    def run(*args: Any, as_json: bool, **options: Any) -> None:
        out = Output(as_json=as_json)
        try:
            function(out, *args, **options)
        except StudioError as error:
            tell(out, error)
            click.get_current_context().exit(exit_code(error))

    return run


url_option = click.option(
    "--url", envvar="STABLESTUDIO_URL", default=DEFAULT_URL, show_default=True, help="The service's address."
)


def connect(url: str, *, anonymous: bool = False, **options: Any) -> StudioClient:
    """Return a client with the buyer's wallet; `anonymous` lets a key that nobody has stand in where there is none."""
    try:
        wallet = KeyWallet.load(environ=os.environ)
    except WalletMissing:
        if not anonymous:
            raise
        wallet = KeyWallet.generate()
    return StudioClient(url, wallet, **options)
