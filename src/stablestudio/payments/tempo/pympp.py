"""The one place that knows pympp: its rules for what the transaction of a Tempo charge may do, and its attribution memo."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from stablestudio.protocols.mpp import Credential, TransferRefused

if TYPE_CHECKING:
    from mpp.methods.tempo.intents import ChargeIntent

_LATER = "9999-12-31T23:59:59Z"


@lru_cache(maxsize=1)
def load() -> ChargeIntent:
    """Import pympp and what it imports late: about a second, so not before the first payment may come."""
    limit = sys.getrecursionlimit()
    import eth_account  # noqa: F401, PLC0415 - pympp recovers senders with it
    from mpp.methods.tempo.intents import ChargeIntent  # noqa: PLC0415

    # py_ecc, which comes along, raises it to 100,000: a deeply nested JSON would then overflow the stack.
    sys.setrecursionlimit(limit)
    return ChargeIntent()


def require_payment(credential: Credential, request: Mapping[str, Any]) -> None:
    """Check the calls of a signed transaction, its memo and the credential's source against a charge request.

    Nothing is asked of a network: pympp needs none for a transaction that was not sent yet. Whether the challenge is ours
    and still good is not its business here. Raise `TransferRefused`.
    """
    intent = load()
    from mpp import ChallengeEcho  # noqa: PLC0415
    from mpp import Credential as Theirs  # noqa: PLC0415
    from mpp.errors import PaymentError  # noqa: PLC0415

    echo = credential.challenge
    theirs = Theirs(
        # Its clock is the machine's; ours was asked before.
        challenge=ChallengeEcho(echo.id, echo.realm, echo.method, echo.intent, echo.request, expires=_LATER),
        payload=dict(credential.payload),
        source=credential.source,
    )
    validation = intent.validate(theirs, dict(request))
    try:
        validation.send(None)
    except StopIteration:
        return
    except (PaymentError, ValueError) as error:
        raise TransferRefused(f"The signed transaction was refused: {_first_line(error)}.") from None
    finally:
        validation.close()
    raise TransferRefused("The signed transaction was refused: it cannot be judged by itself.")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200].rstrip(".")
