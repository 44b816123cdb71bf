"""Who is asking: SIGN-IN-WITH-X proofs, checked once and remembered for as long as they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stablestudio.clock import Clock
from stablestudio.errors import StudioError
from stablestudio.protocols import siwx, x402
from stablestudio.server.http import Scope, header
from stablestudio.store import nonces
from stablestudio.store.database import Database

_HEADER = b"sign-in-with-x"
_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A proof that holds: for which wallet, under which nonce, until when (milliseconds)."""

    wallet: str
    nonce: str
    until_ms: int


class Gate:
    """Lets a wallet's owner in; everybody else gets a challenge to sign."""

    def __init__(self, database: Database, *, secret: bytes, origin: str, chains: Sequence[str], clock: Clock) -> None:
        self._database = database
        self._nonces = siwx.NonceIssuer(secret)
        self._origin = origin
        self._chains = tuple(chains)
        self._clock = clock
        # A poller sends the same proof again and again.
        self._known: dict[tuple[str, str], Signed] = {}

    def reader(self, scope: Scope) -> str:
        """Return the wallet that may read here. A proof holds for its path until it expires."""
        path = scope["path"]
        given = header(scope, _HEADER)
        known = self._known.get((given or "", path))
        if known is not None and self._clock.now_ms() < known.until_ms:
            return known.wallet
        signed = self._prove(given, path)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()  # the cheapest bound; whoever polls is known again one signature check later
        self._known[given or "", path] = signed
        return signed.wallet

    def writer(self, scope: Scope) -> Signed:
        """Return who wants to change something here; the change itself must `burn` the proof."""
        return self._prove(header(scope, _HEADER), scope["path"])

    async def burn(self, scope: Scope, signed: Signed) -> None:
        """Use a proof up; raise `SiwxNonceUsed` if it was used before."""
        if not await self._database.write(
            lambda connection: nonces.burn(connection, signed.nonce, expires_at=signed.until_ms)
        ):
            raise self._challenge(scope["path"], siwx.SiwxNonceUsed())

    def _prove(self, given: str | None, path: str) -> Signed:
        try:
            proof = siwx.decode_proof(given)
            wallet = siwx.verify(
                proof,
                origin=self._origin,
                path=path,
                chains=self._chains,
                nonces=self._nonces,
                now_ms=self._clock.now_ms(),
            )
        except siwx.SiwxRefused as error:
            raise self._challenge(path, error) from None
        until = min(proof.expires_at_ms, proof.issued_at_ms + siwx.LIFETIME_MS)
        return Signed(wallet=str(wallet), nonce=proof.nonce, until_ms=until)

    def _challenge(self, path: str, error: StudioError) -> StudioError:
        """Add a fresh challenge to a refusal, in header and body (contract section 3)."""
        now = self._clock.now_ms()
        challenge = siwx.challenge(
            self._origin,
            path=path,
            nonce=self._nonces.issue(now),
            now_ms=now,
            chains=self._chains,
            error=error.message,
        )
        error.headers.append((x402.PAYMENT_REQUIRED, siwx.encode_challenge(challenge)))
        error.extra.update(challenge)
        return error
