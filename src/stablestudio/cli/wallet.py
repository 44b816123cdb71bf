"""`stablestudio wallet`: the key that pays."""

from __future__ import annotations

import os

import click

from stablestudio.cli.output import Output
from stablestudio.cli.running import connect, speaks, url_option
from stablestudio.client import KeyWallet
from stablestudio.client.wallet import wallet_file


@click.group()
def wallet() -> None:
    """Create the wallet, show its address and balance, fund it. The key itself is never shown."""


@wallet.command()
@speaks
def create(out: Output) -> None:
    """Make a wallet in STABLESTUDIO_HOME; there must be none yet."""
    made = KeyWallet.create(environ=os.environ)
    path = wallet_file(environ=os.environ)
    out.say("The key lies in that file as it is, readable by you alone: keep test coins only, and a copy of the file.")
    document = {"success": True, "address": made.address, "file": str(path)}
    out.result(document, f"{made.address}", f"  in       {path}", "Next: stablestudio wallet fund")


@wallet.command()
@speaks
def address(out: Output) -> None:
    """Show the address."""
    found = KeyWallet.load(environ=os.environ).address
    out.result({"success": True, "address": found}, found)


@wallet.command()
@url_option
@speaks
def balance(out: Output, *, url: str) -> None:
    """Show what the wallet holds on the service's embedded chain."""
    with connect(url) as client:
        found, owner = client.balance(), client.wallet.address
    document = {"success": True, "address": owner, "balance": str(found), "currency": "USD"}
    out.result(document, f"${found} of test USDC at {owner}")


@wallet.command()
@url_option
@speaks
def fund(out: Output, *, url: str) -> None:
    """Ask the faucet of the embedded world for test coins."""
    with connect(url) as client:
        answer = client.fund()
        found, owner = client.balance(), client.wallet.address
    document = {"success": True, "address": owner, "balance": str(found), "currency": "USD", "faucet": answer}
    out.result(document, f"${found} of test USDC at {owner}")
