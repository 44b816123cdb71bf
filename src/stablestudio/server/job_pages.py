"""Ready answers to whoever reads a job, each kept until something changes."""

from __future__ import annotations

from pydantic_core import to_json

from stablestudio.clock import Clock, iso
from stablestudio.errors import StudioError
from stablestudio.server.http import CORS, JSON, PRIVATE, Answer, Headers, answer
from stablestudio.server.job_bodies import JobBodies, Phase, phase_of
from stablestudio.server.poll_tokens import PollTokens
from stablestudio.store import views
from stablestudio.store.database import Database
from stablestudio.store.views import OrderView

_HEADERS = [JSON, *CORS, PRIVATE]
_RENDERED = 10_000
_UPLOAD = "upload"  # a paid place for a file is nothing that is made


class JobNotFound(StudioError):
    """There is no such job."""

    status = 404
    hint = "Use the jobId of the answer to your paid request."


class NotYourJob(StudioError):
    """This job belongs to another wallet."""

    status = 403
    hint = (
        "Sign in with the wallet that paid. A wallet of another network is another identity: "
        "a job paid on Solana is read with the Solana key, one paid on Base or Tempo with the EVM key."
    )


class JobPages:
    """The answers to polls."""

    def __init__(self, database: Database, *, bodies: JobBodies, tokens: PollTokens, clock: Clock) -> None:
        self._database = database
        self._bodies = bodies
        self._tokens = tokens
        self._clock = clock
        self._rendered: dict[str, tuple[str, int | None, int, Answer]] = {}

    async def own(self, job_id: str, wallet: str) -> OrderView:
        """Return an order of this wallet; raise `JobNotFound` or `NotYourJob`."""
        return require_owner(await views.find(self._database, job_id), wallet)

    async def page(
        self, job_id: str, wallet: str, *, signed: bool, order: OrderView | None = None, seen: int | None = None
    ) -> Answer:
        """Return the answer to a read; one that nothing changed since costs a single look at the order's revision.

        Whoever `signed` is given a poll token with it. Who has the `order` in hand already, or has `seen` its revision,
        spares that look, too.
        """
        minute = self._clock.now_ms() // 60_000  # links are signed for full minutes
        revision = order.revision if order is not None else seen
        if revision is None:
            revision = await views.revision(self._database, job_id)
        key = job_id if signed else f"token:{job_id}"
        rendered = self._rendered.get(key)
        if rendered is not None and rendered[:3] == (wallet, revision, minute):
            return rendered[3]
        found = require_owner(order or await views.find(self._database, job_id), wallet)
        ready = await self._database.look(lambda: self._render(found, signed=signed))
        if len(self._rendered) >= _RENDERED:
            self._rendered.clear()
        self._rendered[key] = (wallet, revision, minute, ready)
        return ready

    def _render(self, order: OrderView, *, signed: bool) -> Answer:
        body = self._bodies.whole(order)
        if signed:
            token = self._tokens.issue(order.id, wallet=order.wallet, now_ms=self._clock.now_ms())
            body |= {"pollToken": token.text, "pollTokenExpiresAt": iso(token.until_ms)}
        headers: Headers = list(_HEADERS)
        if phase_of(order) is Phase.MAKING:
            headers.append((b"retry-after", b"%d" % body["pollAfter"]))
        return answer(200, to_json(body), headers)


def require_owner(order: OrderView | None, wallet: str) -> OrderView:
    """Return the order; raise `JobNotFound` where there is none to be seen, or `NotYourJob`."""
    if order is None or order.deleted_at is not None or order.model == _UPLOAD:
        raise JobNotFound
    if order.wallet != wallet:
        raise NotYourJob
    return order
