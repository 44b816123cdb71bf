"""Who is asking: SIGN-IN-WITH-X or a zero-amount MPP proof, checked once and remembered; or a poll token of one job."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from stablestudio.clock import Clock
from stablestudio.errors import StudioError
from stablestudio.protocols import mpp, siwx, x402
from stablestudio.server.http import Scope, header
from stablestudio.server.poll_tokens import PollTokens
from stablestudio.store import nonces, views
from stablestudio.store.database import Database

_HEADER = b"sign-in-with-x"
_AUTHORIZATION = b"authorization"
_REMEMBERED = 20_000
_LONG = 1_500
_ACTS = {
    "cancel": "Sign in to cancel this job",
    "redeliver": "Sign in to have this job's webhooks sent again",
    "confirm": "Sign in to confirm your upload",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A proof that holds: for which wallet, under which nonce, until when (milliseconds)."""

    wallet: str
    nonce: str
    until_ms: int
    has_signed: bool = True  # rather than shown a poll token
    seen: int | None = None  # the job's revision, where it was read with the wallet of a poll token


@dataclass(frozen=True, slots=True, kw_only=True)
class Proofs:
    """What is needed to ask for MPP proofs of an account: payments of nothing, in these terms."""

    desk: mpp.ChallengeDesk
    terms: mpp.ChargeTerms


# Tells whether the contract wallet at an address accepts a signature of a digest.
Judge = Callable[[str, bytes, bytes], Awaitable[bool]]


class Gate:
    """Lets a wallet's owner in; everybody else gets challenges to sign."""

    def __init__(
        self,
        database: Database,
        *,
        secret: bytes,
        origin: str,
        chains: Sequence[str],
        clock: Clock,
        tokens: PollTokens,
        proofs: Proofs | None = None,
        judges: Mapping[str, Judge] | None = None,
    ) -> None:
        """Take what is signed for; `judges` ask contract wallets, by the CAIP-2 id of the chain that they live on."""
        self._database = database
        self._nonces = siwx.NonceIssuer(secret)
        self._origin = origin
        self._chains = tuple(chains)
        self._clock = clock
        self._tokens = tokens
        self._proofs = proofs
        self._judges = judges or {}
        # A poller sends the same proof again and again.
        self._known: dict[tuple[str, str], Signed] = {}

    async def reader(self, scope: Scope, *, job_id: str | None = None) -> Signed:
        """Return who may read here. A proof holds for its path until it expires, a poll token for `job_id` alone."""
        path = scope["path"]
        given = self._given(scope)
        if given is None and job_id is not None and (token := _bearer(scope)) is not None:
            return await self._hold(token, job_id, scope)
        # Long headers are remembered by their hash, or padding would fill the memory.
        name = given if given is None or len(given) < _LONG else hashlib.sha256(given.encode()).hexdigest()
        known = self._known.get((name or "", path))
        if known is not None and self._clock.now_ms() < known.until_ms:
            return known
        signed = await self._prove(given, scope)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()  # the cheapest bound; whoever polls is known again one signature check later
        self._known[name or "", path] = signed
        return signed

    async def writer(self, scope: Scope) -> Signed:
        """Return who wants to change something here; the change itself must `burn` the proof."""
        return await self._prove(self._given(scope), scope)

    async def burn(self, scope: Scope, signed: Signed) -> None:
        """Use a proof up; raise `SiwxNonceUsed` if it was used before."""
        if not await self._database.write(
            lambda connection: nonces.burn(connection, signed.nonce, expires_at=signed.until_ms)
        ):
            raise self._challenge(scope, siwx.SiwxNonceUsed())

    def _given(self, scope: Scope) -> str | None:
        """Return the header that proves who asks; a proof by MPP has a space in it, one by SIGN-IN-WITH-X has none."""
        given = header(scope, _HEADER)
        if given is not None or self._proofs is None:
            return given
        authorization = header(scope, _AUTHORIZATION)
        return authorization if authorization is not None and mpp.is_payment(authorization) else None

    async def _hold(self, token: str, job_id: str, scope: Scope) -> Signed:
        """Return whose job a poll token is for."""
        wallet, seen = await views.standing(self._database, job_id) or ("", None)
        try:
            until_ms = self._tokens.check(token, job_id, wallet=wallet, now_ms=self._clock.now_ms())
        except StudioError as error:
            raise self._challenge(scope, error) from None
        return Signed(wallet=wallet, nonce="", until_ms=until_ms, has_signed=False, seen=seen)

    async def _prove(self, given: str | None, scope: Scope) -> Signed:
        if given is None and _bearer(scope) is not None:
            raise self._challenge(scope, siwx.SiwxMissing("A poll token reads its job alone; this needs a signature."))
        if self._proofs is not None and given is not None and mpp.is_payment(given):
            return self._prove_account(self._proofs, given, scope)
        try:
            proof = siwx.decode_proof(given)
            try:
                self._verify(proof, scope["path"])
            except siwx.SiwxInvalidSignature:
                if not await self._wallet_accepts(proof):
                    raise
        except siwx.SiwxRefused as error:
            raise self._challenge(scope, error) from None
        until = min(proof.expires_at_ms, proof.issued_at_ms + siwx.LIFETIME_MS)
        return Signed(wallet=str(proof.wallet), nonce=proof.nonce, until_ms=until)

    def _verify(self, proof: siwx.Proof, path: str) -> None:
        siwx.verify(
            proof,
            origin=self._origin,
            path=path,
            chains=self._chains,
            nonces=self._nonces,
            now_ms=self._clock.now_ms(),
        )

    async def _wallet_accepts(self, proof: siwx.Proof) -> bool:
        """Ask a contract wallet on its chain whether it signed (ERC-1271); without a judge of the chain it did not."""
        judge, question = self._judges.get(proof.chain), siwx.wallet_question(proof)
        if judge is None or question is None:
            return False
        digest, signature = question
        return await judge(proof.wallet.address, digest, signature)

    def _prove_account(self, proofs: Proofs, given: str, scope: Scope) -> Signed:
        now = self._clock.now_ms()
        try:
            credential = mpp.decode_credential(given)
            wallet = mpp.verify_proof(proofs.desk, proofs.terms, credential, path=scope["path"], now_s=now // 1000)
        except mpp.MppRefused as error:
            raise self._challenge(scope, error) from None
        until = datetime.fromisoformat(credential.challenge.expires or "").timestamp()
        return Signed(wallet=str(wallet), nonce=f"mpp:{credential.challenge.id}", until_ms=int(until * 1000))

    def _challenge(self, scope: Scope, error: StudioError) -> StudioError:
        """Add fresh challenges to a refusal, in headers and body (contract section 3)."""
        path = scope["path"]
        now = self._clock.now_ms()
        challenge = siwx.challenge(
            self._origin,
            path=path,
            nonce=self._nonces.issue(now),
            now_ms=now,
            chains=self._chains,
            statement=_statement(scope["method"], path),
            error=error.message,
        )
        error.headers.append((x402.PAYMENT_REQUIRED, siwx.encode_challenge(challenge)))
        error.extra.update(challenge)
        if self._proofs is not None:
            line = mpp.proof_challenge(self._proofs.desk, self._proofs.terms, path=path, now_s=now // 1000)
            error.headers.append((mpp.WWW_AUTHENTICATE, line))
        return error


def _statement(method: str, path: str) -> str:
    """Return what a wallet shows to whoever is to sign: what the signature does here."""
    if method == "DELETE":
        return "Sign in to delete this job's files"
    return _ACTS.get(path.rpartition("/")[2], siwx.READS) if method == "POST" else siwx.READS


def _bearer(scope: Scope) -> str | None:
    """Return the token of `Authorization: Bearer` (RFC 6750, section 2.1)."""
    scheme, _, token = (header(scope, _AUTHORIZATION) or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
