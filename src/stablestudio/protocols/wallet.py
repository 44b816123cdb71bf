"""The one identity of buyers: an account of a chain family, equal however it was spelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stablestudio.errors import StudioError
from stablestudio.protocols import evm, solana

Namespace = Literal["eip155", "solana"]


class InvalidWallet(StudioError):
    """This is no account of a chain that we know."""

    status = 400
    hint = "Give an eip155 address (0x and 40 hexadecimal digits) or a Solana address (base58 of 32 bytes)."


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Wallet:
    """Who pays and who may read.

    An address of `eip155` is held in lower case and means the same owner on every EVM chain; one of `solana` is held as is.
    """

    namespace: Namespace
    address: str

    def __post_init__(self) -> None:
        if self.namespace == "eip155" and evm.is_address(self.address):
            object.__setattr__(self, "address", self.address.lower())
        elif self.namespace != "solana" or not solana.is_address(self.address):
            raise InvalidWallet

    @classmethod
    def parse(cls, chain: str, address: str) -> Wallet:
        """Read an address of a CAIP-2 chain id such as `eip155:84532`, or of a bare namespace."""
        match chain.partition(":")[0]:
            case "eip155":
                return cls(namespace="eip155", address=address)
            case "solana":
                return cls(namespace="solana", address=address)
            case _:
                raise InvalidWallet

    @property
    def display(self) -> str:
        """Return the address as people see it: EIP-55 or base58."""
        return evm.checksum_address(self.address) if self.namespace == "eip155" else self.address

    def __str__(self) -> str:
        return f"{self.namespace}:{self.address}"
