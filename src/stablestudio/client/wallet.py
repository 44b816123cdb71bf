"""The buyer's wallet: an EVM key from the environment or from a file that only its owner can read. Never printed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from stablestudio.client.errors import WalletExists, WalletMissing, WalletUnreadable, WalletUnsafe
from stablestudio.protocols.evm import EvmKey

HOME = "STABLESTUDIO_HOME"
PRIVATE_KEY = "STABLESTUDIO_PRIVATE_KEY"
_FILE = "wallet.json"


class KeyWallet:
    """A key that can pay and sign in. Its text forms show the address only."""

    def __init__(self, key: EvmKey) -> None:
        self._key = key

    @property
    def address(self) -> str:
        """Return the address in EIP-55 letter case."""
        return self._key.address

    @property
    def key(self) -> EvmKey:
        """Return the key, for the protocols that sign with it."""
        return self._key

    def __repr__(self) -> str:
        return f"KeyWallet({self.address})"

    @classmethod
    def generate(cls) -> KeyWallet:
        """Make a new key; it is nowhere but in this object."""
        return cls(EvmKey.generate())

    @classmethod
    def from_hex(cls, text: str) -> KeyWallet:
        """Read a key of 32 bytes in hex; the error never repeats it."""
        try:
            return cls(EvmKey.from_hex(text.strip()))
        except ValueError:
            raise WalletUnreadable from None

    @classmethod
    def load(cls, *, environ: Mapping[str, str] = os.environ) -> KeyWallet:
        """Return the wallet of STABLESTUDIO_PRIVATE_KEY, else of the file in STABLESTUDIO_HOME."""
        if environ.get(PRIVATE_KEY):
            return cls.from_hex(environ[PRIVATE_KEY])
        return cls.from_hex(_read(wallet_file(environ=environ)))

    @classmethod
    def create(cls, *, environ: Mapping[str, str] = os.environ) -> KeyWallet:
        """Make a wallet and its file; raise `WalletExists` rather than overwrite one."""
        wallet = cls.generate()
        path = wallet_file(environ=environ)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        document = {"version": 1, "address": wallet.address, "privateKey": wallet.key.hex()}
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise WalletExists(f"There is a wallet in {path} already, and it is never overwritten.") from None
        with os.fdopen(descriptor, "w") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        return wallet


def home(*, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the buyer's folder: STABLESTUDIO_HOME, else `~/.stablestudio`."""
    return Path(environ.get(HOME) or "~/.stablestudio").expanduser()


def wallet_file(*, environ: Mapping[str, str] = os.environ) -> Path:
    return home(environ=environ) / _FILE


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise WalletUnsafe(f"Others on this machine can read {path}.")
            document = json.load(file)
    except FileNotFoundError:
        raise WalletMissing(f"There is no wallet in {path}.") from None
    except ValueError:
        raise WalletUnreadable(f"{path} is not a wallet.") from None
    if not isinstance(document, dict) or not isinstance(document.get("privateKey"), str):
        raise WalletUnreadable(f"{path} is not a wallet.")
    return str(document["privateKey"])
