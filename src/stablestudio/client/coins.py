"""Balance and test coins of the embedded world: its JSON-RPC and its faucet."""

from __future__ import annotations

import json
from typing import Any

from stablestudio.client.answers import api_error
from stablestudio.client.errors import UnreadableAnswer
from stablestudio.client.offers import TOKENS, Token
from stablestudio.client.steps import Call, Flow, Lost, ask
from stablestudio.client.till import steadily, unreachable
from stablestudio.money import Money

_JSON = {"content-type": "application/json"}
_BALANCE_OF = "0x70a08231"  # the first four bytes of keccak256("balanceOf(address)")


def balance(base_url: str, *, address: str, token: Token = TOKENS[0]) -> Flow[Money]:
    """Return what an address holds of a token, asked of the service's own chain."""
    call = {"to": token.contract, "data": f"{_BALANCE_OF}{address[2:].lower():0>64}"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [call, "latest"]}
    url = f"{base_url}/rpc/{token.network}"
    reply = yield from steadily(Call(method="POST", url=url, headers=_JSON, body=json.dumps(body).encode()))
    if reply.status != 200:
        raise api_error(reply)
    return _amount(reply.document().get("result"), token=token)


def fund(base_url: str, *, address: str) -> Flow[dict[str, Any]]:
    """Ask the faucet for test coins and return its answer; there is none where coins are worth something."""
    body = json.dumps({"address": address}).encode()
    outcome = yield from ask(Call(method="POST", url=f"{base_url}/faucet", headers=_JSON, body=body))
    if isinstance(outcome, Lost):
        raise unreachable(outcome)
    if outcome.status >= 300:
        raise api_error(outcome)
    return outcome.document()


def _amount(result: object, *, token: Token) -> Money:
    try:
        return Money.from_base_units(int(str(result), 16), decimals=token.decimals)
    except ValueError:
        raise UnreadableAnswer("The service's chain told no balance.") from None
