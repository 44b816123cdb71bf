"""Settings of rails: which networks and tokens are paid in, who settles there, and where the money goes."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from stablestudio.money import Money

BASE, BASE_SEPOLIA = "eip155:8453", "eip155:84532"
TEMPO, TEMPO_TESTNET = "eip155:4217", "eip155:42431"
SOLANA, SOLANA_DEVNET = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"
TEST_NETWORKS = frozenset({BASE_SEPOLIA, TEMPO_TESTNET, SOLANA_DEVNET})
USDC_E, PATH_USD = "0x20c000000000000000000000b9537d11c60e8b50", "0x20c0000000000000000000000000000000000000"
# (address, EIP-712 name, EIP-712 version) of USDC; the test network's name differs from the main network's.
_EVM_USDC = {
    BASE: ("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "USD Coin", "2"),
    BASE_SEPOLIA: ("0x036CbD53842c5426634e7929541eC2318f3dCF7e", "USDC", "2"),
}
_SOLANA_USDC = {
    SOLANA: "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
    SOLANA_DEVNET: "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU",
}


def _dollars(value: object) -> object:
    return Money.parse(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else value


def _address(value: str) -> str:
    if len(value) != 42 or not value.startswith("0x") or not all(c in "0123456789abcdefABCDEF" for c in value[2:]):
        raise ValueError("an address is 0x and 40 hexadecimal digits")
    return value


Dollars = Annotated[Money, BeforeValidator(_dollars)]
Address = Annotated[str, AfterValidator(_address)]
# A key itself, `env:NAME` for one in the environment, or `file:PATH` for one in a file.
Key = SecretStr


def reveal(key: Key | None) -> str | None:
    """Return a key's text; None where it is not set, or where its variable or file does not exist or is empty."""
    if key is None:
        return None
    kind, _, place = key.get_secret_value().partition(":")
    if kind == "env":
        return os.environ.get(place, "").strip() or None
    if kind == "file":
        path = Path(place).expanduser()
        return path.read_text().strip() or None if path.is_file() else None
    return key.get_secret_value().strip() or None


def whereabouts(key: Key | None) -> str:
    """Return where a key that is missing was looked for, for people; empty where nobody said where it is."""
    kind, _, place = key.get_secret_value().partition(":") if key is not None else ("", "", "")
    if kind == "env":
        return f" (the variable {place} is not set)"
    return f" (there is nothing in the file {place})" if kind == "file" else ""


class FacilitatorSettings(BaseModel):
    """Somebody who settles x402 payments for us."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="Base URL, such as https://x402.org/facilitator; https unless on loopback.")
    auth: Literal["none", "cdp", "payai"] = Field(
        "none", description="How it knows us: `none`, `cdp` (Coinbase's JWT) or `payai`."
    )
    key_id: Key | None = Field(None, description="Id of the API key, for cdp and payai.")
    key_secret: Key | None = Field(None, description="Secret of the API key, for cdp and payai.")


class _RailSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    chain: Literal["rpc", "ledger"] = Field(
        "rpc", description="A real chain by its RPC address, or the embedded ledger; that one on test networks only."
    )
    rpc: str | None = Field(None, description="Address of a node's JSON-RPC.")
    pay_to: str | None = Field(None, description="Address that receives payments; keep its key off this machine.")
    refund_key: Key | None = Field(
        None, description="Key that refunds are paid with: small and capped, never `pay_to`'s."
    )
    refund_daily_cap: Dollars | None = Field(
        Money(50_000_000), description="Most dollars refunded in 24 hours without a person."
    )
    refund_minimum: Dollars = Field(Money(0), description="Refunds of fewer dollars wait for a person.")

    @model_validator(mode="after")
    def _safe_chain(self) -> Self:
        network = getattr(self, "network", "")
        # A signature for a main network is real money, and the ledger would let anybody have its coins.
        if self.chain == "ledger" and network not in TEST_NETWORKS:
            raise ValueError(f"the ledger chain stands in for test networks only, never for {network}")
        if self.rpc is not None and not (self.rpc.startswith("https://") or is_loopback(self.rpc)):
            raise ValueError("rpc is an https address, or an http address on this machine")
        return self


class EvmRailSettings(_RailSettings):
    """x402 on an EVM network, with a token that takes EIP-3009 authorizations."""

    kind: Literal["x402-evm"]
    network: str = Field(BASE, pattern=r"^eip155:[1-9][0-9]{0,17}$", description="CAIP-2 id of the chain.")
    token: Address | None = Field(None, description="The token's contract; USDC where the network is known.")
    token_name: str | None = Field(None, description="The token's EIP-712 name; known for USDC.")
    token_version: str | None = Field(None, description="The token's EIP-712 version; known for USDC.")
    decimals: int = Field(6, ge=0, le=36, description="The token's decimals.")
    gas_key: Key | None = Field(None, description="Key that pays gas, where this service settles by itself.")
    facilitators: tuple[FacilitatorSettings, ...] = Field(
        (), description="Who settles instead, in order of preference."
    )
    confirmations: tuple[tuple[Dollars, int], ...] = Field(
        (),
        description='Blocks that a payment must rest under, from least dollars up: `[["1", 2], ["10", 6]]`; 1 if not given.',
    )
    wallet_factories: tuple[Address, ...] = Field(
        (), description="Factories whose not yet deployed contract wallets (ERC-6492) may pay."
    )

    @model_validator(mode="before")
    @classmethod
    def _known_token(cls, given: Any) -> Any:
        known = _EVM_USDC.get(given.get("network", BASE)) if isinstance(given, dict) else None
        if known is None or given.get("token") is not None:
            return given
        token, name, version = known
        return {"token_name": name, "token_version": version, **given, "token": token}

    @model_validator(mode="after")
    def _complete(self) -> EvmRailSettings:
        if self.token is None or self.token_name is None or self.token_version is None:
            raise ValueError("token, token_name and token_version are needed on a network whose USDC is not known here")
        if self.gas_key is not None and self.facilitators:
            raise ValueError("give gas_key or facilitators, not both: one of them settles")
        return self


class SolanaRailSettings(_RailSettings):
    """x402 on Solana, with an SPL token."""

    kind: Literal["x402-solana"]
    network: Literal["solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"] = Field(
        "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", description="CAIP-2 id of the cluster."
    )
    token: str | None = Field(None, description="The token's mint; USDC if not given.")
    decimals: int = Field(6, ge=0, le=18, description="The token's decimals.")
    fee_payer_key: Key | None = Field(None, description="Key that pays fees, where this service settles by itself.")
    facilitators: tuple[FacilitatorSettings, ...] = Field(
        (), description="Who settles instead, in order of preference."
    )

    unbound_memos: bool = Field(
        default=False,
        description="Take payments of older SDKs (x402 2.9 and before), whose memo does not bind them to one request.",
    )

    @property
    def mint(self) -> str:
        """Return the token's mint."""
        return self.token or _SOLANA_USDC[self.network]

    @model_validator(mode="after")
    def _complete(self) -> SolanaRailSettings:
        if self.fee_payer_key is not None and self.facilitators:
            raise ValueError("give fee_payer_key or facilitators, not both: one of them settles")
        return self


class TempoRailSettings(_RailSettings):
    """MPP `charge` on Tempo, in one or more of its tokens."""

    kind: Literal["mpp-tempo"]
    network: str = Field(TEMPO, pattern=r"^eip155:[1-9][0-9]{0,17}$", description="CAIP-2 id of the chain.")
    tokens: tuple[Address, ...] = Field(
        (USDC_E, PATH_USD), min_length=1, description="Tokens in the order in which they are offered: USDC.e, pathUSD."
    )
    decimals: int = Field(6, ge=0, le=36, description="The tokens' decimals.")
    challenge_keys: tuple[Key, ...] = Field(
        (),
        description="Keys that bind challenges, newest first; older ones are still accepted. Made here if not given.",
    )


RailSettings = Annotated[EvmRailSettings | SolanaRailSettings | TempoRailSettings, Field(discriminator="kind")]


def is_loopback(url: str) -> bool:
    """Tell whether a URL leads to this very machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
