"""Who is asking: SIGN-IN-WITH-X proofs, checked once and remembered for as long as they hold."""

from __future__ import annotations

from collections.abc import Sequence

from stablestudio.clock import Clock
from stablestudio.errors import StudioError
from stablestudio.protocols import siwx, x402
from stablestudio.protocols.wallet import Wallet
from stablestudio.server.http import Scope, header
from stablestudio.store import nonces
from stablestudio.store.database import Database

_HEADER = b"sign-in-with-x"
_REMEMBERED = 20_000


class Gate:
    """Lets a wallet's owner in; everybody else gets a challenge to sign."""

    def __init__(self, database: Database, *, secret: bytes, origin: str, chains: Sequence[str], clock: Clock) -> None:
        self._database = database
        self._nonces = siwx.NonceIssuer(secret)
        self._origin = origin
        self._chains = tuple(chains)
        self._clock = clock
        # A poller sends the same proof again and again: (header, path) -> (wallet, milliseconds until which it holds).
        self._known: dict[tuple[bytes, str], tuple[str, int]] = {}

    def reader(self, scope: Scope) -> str:
        """Return the wallet that may read here. A proof holds for its path until it expires."""
        path = scope["path"]
        for name, value in scope["headers"]:
            if name == _HEADER:
                known = self._known.get((value, path))
                if known is not None and self._clock.now_ms() < known[1]:
                    return known[0]
                break
        proof, wallet = self._prove(scope, path)
        self._remember((value, path), (str(wallet), _holds_until(proof)))
        return str(wallet)

    async def writer(self, scope: Scope) -> str:
        """Return the wallet that may change something here, once: the nonce is burnt."""
        proof, wallet = self._prove(scope, scope["path"])
        nonce, expires = proof.nonce, _holds_until(proof)
        if not await self._database.write(lambda connection: nonces.burn(connection, nonce, expires_at=expires)):
            raise self._challenge(scope["path"], siwx.SiwxNonceUsed())
        return str(wallet)

    def _prove(self, scope: Scope, path: str) -> tuple[siwx.Proof, Wallet]:
        given = header(scope, _HEADER)
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
        return proof, wallet

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
        error.headers[x402.PAYMENT_REQUIRED] = siwx.encode_challenge(challenge)
        error.extra.update(challenge)
        return error

    def _remember(self, key: tuple[bytes, str], value: tuple[str, int]) -> None:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()  # the cheapest bound; whoever polls is known again one signature check later
        self._known[key] = value


def _holds_until(proof: siwx.Proof) -> int:
    return min(proof.expires_at_ms, proof.issued_at_ms + siwx.LIFETIME_MS)
