"""Signed requests for jobs: look, list, wait, cancel, delete. A wallet signs once per path, not once per look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urlencode

from stablestudio.client.answers import api_error
from stablestudio.client.errors import (
    BuyerError,
    CancelTooLate,
    JobStillRunning,
    ServiceUnreachable,
    SignInRejected,
    StudioApiError,
)
from stablestudio.client.jobs import Job, poll_delay, read_job, read_jobs
from stablestudio.client.proofs import ProofCache, prove
from stablestudio.client.steps import Call, Flow, Lost, Reply, ask, pause
from stablestudio.client.wallet import KeyWallet
from stablestudio.client.webhooks import Webhooks, read_webhooks
from stablestudio.clock import Clock
from stablestudio.protocols import siwx

_PAUSES = (0.3, 1.0, 3.0)
_LONGEST_PAUSE = 10.0
# A service that can do so holds its answer back until the job has ended; one that cannot is asked at its pace.
_PREFER = "Prefer"
_HELD_SECONDS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A read that did not succeed and may by itself; `after` is the service's wish in seconds."""

    error: BuyerError
    after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where the jobs of one wallet at one service are read."""

    base_url: str
    wallet: KeyWallet
    clock: Clock
    proofs: ProofCache = field(default_factory=ProofCache)

    def job(self, job_id: str) -> Flow[Job]:
        """Read one job."""
        reply = yield from self._steadily(Call(method="GET", url=self._url(job_id)))
        return read_job(reply, job_id=job_id)

    def jobs(self, *, limit: int, status: str | None) -> Flow[list[Job]]:
        """Read the wallet's jobs, newest first."""
        query = urlencode({"limit": limit} | ({"status": status} if status else {}))
        reply = yield from self._steadily(Call(method="GET", url=f"{self.base_url}/api/jobs?{query}"))
        return read_jobs(reply)

    def cancel(self, job_id: str) -> Flow[Job]:
        """Cancel a job and return it, failed; after a lost answer it is asked again, which changes nothing.

        Raise `CancelTooLate` with the job as it is.
        """
        try:
            reply = yield from self._steadily(Call(method="POST", url=f"{self._url(job_id)}/cancel"))
        except StudioApiError as error:
            if error.code != CancelTooLate.code:
                raise
            job = yield from self.job(job_id)
            if not job.failed:
                raise CancelTooLate(f"Too late to cancel. {error.message}", job=job) from None
            return job
        return read_job(reply, job_id=job_id)

    def webhooks(self, job_id: str) -> Flow[Webhooks]:
        """Read who is told of a job, with which secret, and how that went."""
        return read_webhooks((yield from self._steadily(Call(method="GET", url=f"{self._url(job_id)}/webhooks"))))

    def redeliver(self, job_id: str) -> Flow[Webhooks]:
        """Have everything that was told of a job told once more."""
        call = Call(method="POST", url=f"{self._url(job_id)}/webhooks/redeliver")
        return read_webhooks((yield from self._steadily(call)))

    def delete(self, job_id: str) -> Flow[None]:
        """Delete a failed job. Its proof is single use, so a lost answer is told, not repeated."""
        outcome = yield from self._signed(Call(method="DELETE", url=self._url(job_id)))
        if isinstance(outcome, Trouble):
            raise outcome.error

    def post(self, url: str, body: bytes) -> Flow[Reply]:
        """Send a signed request that may be repeated, each time with a proof of its own."""
        headers = {"content-type": "application/json"}
        return (yield from self._steadily(Call(method="POST", url=url, headers=headers, body=body)))

    def wait(
        self, job: Job, *, timeout: float, until: Callable[[Job], bool], on_progress: Callable[[Job], None] | None
    ) -> Flow[Job]:
        """Look until `until` holds; raise `JobStillRunning` after `timeout` seconds.

        A look that fails for want of a connection, or by the service's own fault, costs time and nothing else.
        """
        end = self.clock.now_ms() + timeout * 1000
        count = 0
        while True:
            # Whoever wants to see progress looks at the usual pace: a held answer tells of the end alone.
            asked = self.clock.now_ms()
            held = 0 if on_progress else min(_HELD_SECONDS, int(end - asked) // 1000)
            headers = {_PREFER: f"wait={held}"} if held > 0 else {}
            outcome = yield from self._signed(Call(method="GET", url=self._url(job.id), headers=headers))
            if isinstance(outcome, Reply):
                job = read_job(outcome, job_id=job.id)
                if on_progress:
                    on_progress(job)
                if until(job):
                    return job
            was_held = held > 0 and self.clock.now_ms() - asked >= held * 900
            delay = 0.0 if was_held and isinstance(outcome, Reply) else _delay(count, job, outcome)
            if self.clock.now_ms() + delay * 1000 > end:
                raise _too_late(job, outcome, timeout=timeout)
            yield from pause(delay)
            count += 1

    def _steadily(self, call: Call) -> Flow[Reply]:
        """Send a signed read, and a few times more while the trouble may pass."""
        for wait in (*_PAUSES, None):
            outcome = yield from self._signed(call)
            if isinstance(outcome, Reply):
                return outcome
            if wait is None:
                raise outcome.error
            yield from pause(max(wait, min(outcome.after or 0, _LONGEST_PAUSE)))
        raise AssertionError("the last round returns or raises")

    def _signed(self, call: Call) -> Flow[Reply | Trouble]:
        """Send a request with a proof of the wallet; on a fresh challenge sign once, and only once."""
        reusable = call.method == "GET"
        header = self.proofs.get(call.url, now_ms=self.clock.now_ms()) if reusable else None
        outcome = yield from _send(call, proof=header)
        if isinstance(outcome, Trouble) or outcome.status != 402:
            return outcome
        proof = prove(outcome, base_url=self.base_url, wallet=self.wallet, now_ms=self.clock.now_ms())
        outcome = yield from _send(call, proof=proof.header)
        if isinstance(outcome, Reply) and outcome.status == 402:
            raise api_error(outcome, SignInRejected)
        if reusable:
            self.proofs.keep(call.url, proof, now_ms=self.clock.now_ms())
        return outcome

    def _url(self, job_id: str) -> str:
        return f"{self.base_url}/api/jobs/{quote(job_id, safe='')}"


def _send(call: Call, *, proof: str | None) -> Flow[Reply | Trouble]:
    """Send once; 402 is returned as a challenge, what may pass as `Trouble`, every other error is raised."""
    proven = replace(call, headers={**call.headers, siwx.HEADER: proof}) if proof else call
    outcome = yield from ask(proven)
    if isinstance(outcome, Lost):
        return Trouble(error=ServiceUnreachable(f"The service could not be reached: {outcome.reason}."))
    if outcome.status in {425, 429} or outcome.status >= 500:
        return Trouble(error=api_error(outcome), after=outcome.retry_after())
    if outcome.status >= 300 and outcome.status != 402:
        raise api_error(outcome)
    return outcome


def _delay(count: int, job: Job, outcome: Reply | Trouble) -> float:
    if isinstance(outcome, Trouble):
        return max(outcome.after or 0, poll_delay(count, poll_after=job.poll_after))
    return poll_delay(count, poll_after=job.poll_after)


def _too_late(job: Job, outcome: Reply | Trouble, *, timeout: float) -> JobStillRunning:
    last = f" The last look failed: {outcome.error.message}" if isinstance(outcome, Trouble) else ""
    return JobStillRunning(f"Job {job.id} is {job.status} after {timeout:g} s; it is paid and not lost.{last}", job=job)
