"""The command line: buy, look after jobs and the wallet, and run the service. Each command is imported when it is called."""

from stablestudio.cli.app import main

__all__ = ["main"]
