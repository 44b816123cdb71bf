"""Reading a seller's offers and deciding, before anything is signed, whether one may be. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stablestudio.client.errors import ForeignOffer, MainNetworkNotAllowed, NoUsableOffer, PriceAboveLimit
from stablestudio.money import Money
from stablestudio.protocols import x402

if TYPE_CHECKING:
    from stablestudio.client.orders import Sending

_PORTS = {"http": 80, "https": 443}
DEFAULT_LIMIT = Money(5_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A dollar token that this wallet pays with; `domain` is its EIP-712 name and version (facts of the contracts)."""

    network: str
    title: str
    contract: str
    domain: tuple[str, str]
    is_main: bool
    decimals: int = 6


TOKENS = (
    Token(
        network="eip155:84532",
        title="Base Sepolia",
        contract="0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        domain=("USDC", "2"),
        is_main=False,
    ),
    Token(
        network="eip155:8453",
        title="Base",
        contract="0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
        domain=("USD Coin", "2"),
        is_main=True,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a buyer wants: one offering and the exact bytes of its input; for an upload also the file to send.

    `webhook` is who is told when the job ends; neither price nor payment depend on it.
    """

    model: str
    operation: str
    url: str
    body: bytes
    sending: Sending | None = None
    webhook: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The price of one wish, and the offer that this wallet would take; `uploads` are of files that have to go before it."""

    wish: Wish
    amount: Money
    token: Token
    offer: x402.PaymentRequirements
    required: x402.PaymentRequired
    uploads: tuple[Quote, ...] = ()

    @property
    def total(self) -> Money:
        """Return the price with that of its uploads."""
        return sum((upload.amount for upload in self.uploads), self.amount)

    @property
    def network(self) -> str:
        return self.token.network

    @property
    def pay_to(self) -> str:
        return self.offer.pay_to


def read_quote(header: str, *, wish: Wish) -> Quote:
    """Read PAYMENT-REQUIRED and choose the offer to take, test networks first; raise `NoUsableOffer` or `MalformedOffer`."""
    required = x402.decode_required(header)
    usable = [(token, offer) for offer in required.accepts for token in TOKENS if _fits(offer, token=token)]
    if not usable:
        offered = ", ".join(sorted({f"{offer.scheme} on {offer.network}" for offer in required.accepts})) or "nothing"
        raise NoUsableOffer(f"The service offers {offered}: no way to pay that this wallet knows.")
    token, offer = min(usable, key=lambda pair: pair[0].is_main)
    amount = Money.from_base_units(int(offer.amount), decimals=token.decimals)
    return Quote(wish=wish, amount=amount, token=token, offer=offer, required=required)


def check_before_signing(quote: Quote, *, limit: Money, allow_mainnet: bool, base_url: str) -> None:
    """Raise unless this quote is from the service that was asked, for test coins or allowed, and within the limit."""
    resource = quote.required.resource
    if resource is not None and origin(resource.url) != origin(base_url):
        raise ForeignOffer(f"The offer is for {origin(resource.url)}, not for {origin(base_url)} which was asked.")
    if quote.token.is_main and not allow_mainnet:
        raise MainNetworkNotAllowed(f"The service asks for real money on {quote.token.title} ({quote.network}).")
    if quote.total > limit:
        told = f", ${quote.total} with its uploads" if quote.uploads else ""
        raise PriceAboveLimit(f"The price is ${quote.amount}{told}, above your limit of ${limit}.")


def origin(url: str) -> str:
    """Return `scheme://host[:port]` in one spelling; an empty text for what is no http URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, _PORTS[parts.scheme]) else "")


def _fits(offer: x402.PaymentRequirements, *, token: Token) -> bool:
    named = (offer.extra.get("name"), offer.extra.get("version"))
    by_transfer = offer.extra.get("assetTransferMethod", "eip3009") == "eip3009"
    return (
        offer.scheme == "exact"
        and offer.network == token.network
        and offer.asset.lower() == token.contract.lower()
        and named == token.domain
        and by_transfer
    )
