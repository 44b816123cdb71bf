"""The commands and where they live; nothing else is imported until one is called, so that help is quick."""

from __future__ import annotations

import importlib

import click

COMMANDS = {
    "generate": ("generate", "Buy a picture or a clip and save it."),
    "quote": ("quote", "Ask the exact price of an input, why, and how long it takes; nothing is signed."),
    "models": ("models", "List what is sold, with prices, times and what vendors have ended."),
    "job": ("jobs", "Look at a job, wait for it, cancel it, download or delete its files, see its webhooks."),
    "jobs": ("jobs", "List the wallet's jobs."),
    "upload": ("upload", "Hand over a file for later orders to point to."),
    "resume": ("resume", "Continue orders without an answer and uploads that were cut off, without paying again."),
    "wallet": ("wallet", "Create the wallet, show its address and balance, fund it."),
    "serve": ("serve", "Run the service."),
    "local": ("local", "Serve an open-weight model on this machine, as a provider."),
    "refunds": ("refunds", "Look after refunds: list, approve, retry."),
    "webhooks": ("webhooks", "Look after what the buyers of your service are told: list, redeliver."),
    "workers": ("workers", "List the processes that make jobs, on PostgreSQL."),
    "providers": ("providers", "Show who makes what; check that vendors take our keys."),
    "purge": ("purge", "Erase files whose time is over; --dry-run only tells which."),
    "backup": ("backup", "Write database, files and secret to a folder or a tar file, while the service runs."),
    "restore": ("restore", "Put a backup in place, in an empty folder."),
    "audit": ("audit", "Prove that every order was delivered, refunded or never charged."),
    "db": ("db", "Upgrade the database's schema, or check it."),
    "validate": ("validate", "Check that a seller keeps the rules of x402, MPP and their clients; nothing is paid."),
    "demo": ("demo", "Run the service, buy a picture and a clip from it, and get a refund."),
}

EPILOG = """\b
Exit codes:
  0  done
  1  unexpected: a fault in this program
  2  wrong usage or input, or no wallet; the order was not charged
  3  refused to pay: above the limit, not approved, or not the service that was asked; nothing was signed
  4  the service did not take the payment, for instance for lack of funds
  5  the job failed, or the upload; the output says whether the money is back
  6  the service or the network is at fault; what is paid is not lost
  7  not known, not finished, or too late to cancel; the output has the command that goes on, and it does not pay again

\b
Environment:
  STABLESTUDIO_URL          the service (default http://127.0.0.1:8402)
  STABLESTUDIO_HOME         folder of the wallet and of open orders (default ~/.stablestudio)
  STABLESTUDIO_PRIVATE_KEY  a key to use in place of the wallet's file
  NO_COLOR                  no colours

Results go to standard output, as one JSON document where that is no terminal; all else goes to standard error.
"""


class LateGroup(click.Group):
    """A group that knows its commands by name and imports one when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(f"stablestudio.cli.{COMMANDS[cmd_name][0]}")
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("stablestudio"):
                raise
            raise click.UsageError(f"{cmd_name!r} needs the server's parts: install stablestudio[server].") from error
        command = getattr(module, cmd_name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LateGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stablestudio", prog_name="stablestudio")
def main() -> None:
    """Buy AI images and video by the call, paid in stablecoins, or run the service that sells them."""
