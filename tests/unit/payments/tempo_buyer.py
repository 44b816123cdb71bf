"""A buyer of Tempo: answers challenges as SDKs do, and as they should not."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from typing import Any

from mpp.methods.tempo import _attribution

from stablestudio.money import Money
from stablestudio.payments.rail import Asked
from stablestudio.payments.tempo.chain import TempoChain
from stablestudio.payments.tempo.rail import TempoRail
from stablestudio.protocols import mpp, tempo
from stablestudio.protocols.evm import EvmKey
from stablestudio.protocols.tempo import TempoCall, TempoTransaction
from stablestudio.sandbox.tempo_chain import LedgerTempoChain
from stablestudio.sandbox.tempo_ledger import PATH_USD, USDC_E, TempoLedger
from tests.doubles import BUYER, NOW_MS, PAY_TO, REFUNDS

NOW = NOW_MS // 1000
CHAIN_ID = 42431
TOKEN, OTHER_TOKEN = PATH_USD.address, USDC_E.address
REALM = "studio.test"
KEYS = (b"0123456789abcdef0123456789abcdef", b"fedcba9876543210fedcba9876543210")
PRICE = Money(45_000)
FUNDS = 1_000_000
FEE_CAP = 25_000  # base units: what the transactions below may cost
PATH = "/api/generate/nano-banana-pro/generate"
BODY = b'{"prompt":"a cat"}'
ASKED = Asked(path=PATH, body=BODY, price=PRICE, now_s=NOW)
STRANGER = EvmKey.from_hex("0x" + "5d" * 32)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


def rail_on(chain: TempoChain, **changes: Any) -> TempoRail:
    given: dict[str, Any] = {"token": TOKEN, "pay_to": PAY_TO, "realm": REALM, "keys": KEYS, "refund_key": REFUNDS}
    return TempoRail(chain, **(given | changes))


class Nowhere:
    """A chain for whoever must not ask one."""

    chain_id = CHAIN_ID

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is no business of what is local")


def local_rail(**changes: Any) -> TempoRail:
    return rail_on(Nowhere(), **changes)


def ledger_rail(ledger: TempoLedger, **changes: Any) -> TempoRail:
    return rail_on(LedgerTempoChain(ledger), **changes)


def read_challenge(line: str) -> mpp.ChallengeEcho:
    """Read a header line as a buyer does who keeps all that the line says."""
    return mpp.ChallengeEcho(**dict(_PARAMETER.findall(line.removeprefix("Payment "))))


def read_part(text: str | None) -> dict[str, Any]:
    assert text is not None
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=="))
    return value


def memo_of(challenge: mpp.ChallengeEcho) -> bytes:
    return bytes.fromhex(_attribution.encode(challenge.id, challenge.realm)[2:])


def pay_call(challenge: mpp.ChallengeEcho, **changes: Any) -> TempoCall:
    """Return the call that a challenge asks for, or one with something else in it."""
    request = read_part(challenge.request)
    given: dict[str, Any] = {
        "token": request["currency"],
        "to": request["recipient"],
        "amount": int(request["amount"]),
        "memo": memo_of(challenge),
        "value": 0,
        **changes,
    }
    data = tempo.transfer_with_memo(given["to"].lower(), given["amount"], given["memo"])
    return TempoCall(to=given["token"].lower(), value=given["value"], data=data)


def signed(*calls: TempoCall, key: EvmKey = BUYER, **changes: Any) -> TempoTransaction:
    given: dict[str, Any] = {
        "chain_id": CHAIN_ID,
        "gas_limit": 500_000,
        "max_fee_per_gas": 5 * 10**10,
        "max_priority_fee_per_gas": 0,
        "valid_before": NOW + 25,
        "fee_token": TOKEN,
        **changes,
    }
    return tempo.sign(key, calls=calls, **given)


def credential(challenge: mpp.ChallengeEcho, raw: bytes, *, key: EvmKey | None = BUYER) -> mpp.Credential:
    """Return a credential with these signed bytes, which says that they are `key`'s."""
    source = f"did:pkh:eip155:{CHAIN_ID}:{key.address}" if key else None
    payload = {"type": "transaction", "signature": "0x" + raw.hex()}
    return mpp.Credential(challenge=challenge, payload=payload, source=source)


def pay(line: str, *, key: EvmKey = BUYER, **changes: Any) -> mpp.Credential:
    """Answer a challenge as SDKs do; changes are of the transaction."""
    challenge = read_challenge(line)
    return credential(challenge, signed(pay_call(challenge), key=key, **changes).raw, key=key)


def with_challenge(given: mpp.Credential, **changes: Any) -> mpp.Credential:
    return replace(given, challenge=replace(given.challenge, **changes))


def sent(given: mpp.Credential) -> mpp.Credential:
    """Return a credential as it arrives."""
    return mpp.decode_credential(mpp.encode_credential(given))
