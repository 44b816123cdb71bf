"""The buyer's client: a thin blocking shell over the flows of this package."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2

from stablestudio.client import coins
from stablestudio.client.connection import connections, perform
from stablestudio.client.desk import Desk
from stablestudio.client.downloads import Place, assets_of, save
from stablestudio.client.errors import BuyerError, DownloadFailed, FilesGone, InvalidAddress, JobFailed, LinkExpired
from stablestudio.client.files import Handed, open_file, source_of
from stablestudio.client.jobs import Job
from stablestudio.client.journal import Journal
from stablestudio.client.menu import Dish, menu
from stablestudio.client.offers import DEFAULT_LIMIT, Quote, origin
from stablestudio.client.orders import Order, Upload
from stablestudio.client.parcels import Parcels
from stablestudio.client.prices import Price
from stablestudio.client.sending import Sent
from stablestudio.client.steps import Flow, Result, drive
from stablestudio.client.till import Approve, Till
from stablestudio.client.uploads import Courier
from stablestudio.client.wallet import KeyWallet, home
from stablestudio.client.webhooks import Webhooks
from stablestudio.clock import Clock, SystemClock
from stablestudio.money import Money

DEFAULT_TIMEOUT = 900.0
REFUND_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What became of an order when it was continued: its job or its upload, or the error that stands in its way."""

    order: Order
    job: Job | None = None
    upload: Upload | None = None
    error: BuyerError | None = None

    @property
    def wanted_for(self) -> str | None:
        """Return the model and operation of the order that a file was sent for, which is not placed yet."""
        return self.order.sending.wanted_for if self.order.sending else None


class StudioClient:
    """Buy from one service with one wallet.

    A call pays at most once, whatever the network does. `max_price` is the most that one call may cost ($5 unless given),
    with the uploads of its files.
    Main networks, where coins are worth something, are refused unless `allow_mainnet`. Orders are kept in `journal`.
    """

    def __init__(
        self,
        base_url: str,
        wallet: KeyWallet,
        *,
        max_price: Money | None = None,
        allow_mainnet: bool = False,
        journal: Journal | None = None,
        transport: httpx2.BaseTransport | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base_url = _base(base_url)
        self.wallet = wallet
        self._sleep = sleep
        self._journal = journal or Journal(home() / "orders")
        clock = clock or SystemClock()
        self._till = Till(
            base_url=self.base_url,
            wallet=wallet,
            journal=self._journal,
            clock=clock,
            limit=DEFAULT_LIMIT if max_price is None else max_price,
            allow_mainnet=allow_mainnet,
        )
        self._desk = Desk(base_url=self.base_url, wallet=wallet, clock=clock)
        self._courier = Courier(till=self._till, desk=self._desk)
        self._parcels = Parcels(till=self._till, courier=self._courier)
        self._http = connections(self.base_url, transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def models(self) -> list[Dish]:
        """Return what the service sells."""
        return self._run(menu(self.base_url))

    def quote(self, model: str, operation: str, input: Mapping[str, Any]) -> Quote:  # noqa: A002  # the contract's word
        """Return the exact price of an input; nothing is signed and nothing leaves but the input, without its large files."""
        return self._run(self._parcels.quote(model, operation, input))

    def price(self, model: str, operation: str, input: Mapping[str, Any]) -> Price | None:  # noqa: A002  # the contract's word
        """Return the price with its reasons, the time to expect and what each network asks; as free as `quote`.

        None where the service does not tell them by `POST /api/quote`.
        """
        return self._run(self._parcels.price(model, operation, input))

    def upload(
        self,
        file: Handed | str,
        *,
        content_type: str | None = None,
        max_price: Money | None = None,
        approve: Approve | None = None,
        on_progress: Callable[[Sent], None] | None = None,
    ) -> Upload:
        """Buy a place for a file, once, send the file and return what media fields take.

        `file` is a path, bytes, or a file open for reading bytes. The first bytes tell the type unless it is given. An upload of the same file that was cut off is continued
        instead of paid anew. Raise `FileUnusable` and what `submit` raises before anything is paid, and after that an
        `UploadError` that says whether the place still waits.
        """
        source = Path(file) if isinstance(file, str) else source_of(file)
        opened = open_file(source, content_type=content_type)
        wish = self._courier.wish(opened)
        flow = self._courier.upload(wish, file=opened, limit=max_price, approve=approve, tell=on_progress)
        upload = self._run(flow)
        self._courier.forget(upload.blob_url)
        return upload

    def submit(
        self,
        model: str,
        operation: str,
        input: Mapping[str, Any],  # noqa: A002  # the contract's word
        *,
        max_price: Money | None = None,
        approve: Approve | None = None,
        on_upload: Callable[[Sent], None] | None = None,
        webhook: str | None = None,
    ) -> Job:
        """Pay for a job, once, and return it as it begins; `approve` sees the quote and may decline.

        Media fields take a `Path`, bytes, or a file open for reading bytes: files go inside the order while they have
        3 MB together, any other is uploaded first. A file that its field does not take is a `FileUnusable`, for nothing.
        `max_price` covers the uploads too, and is compared before the first payment.
        `webhook` is an address that is told when the job ends; one that is never called is refused before the payment.
        An earlier order of the same input whose payment was never answered is continued instead of paid anew, with the
        webhook that it has: `Job.webhook` tells. Raise
        `PurchaseRefused` before anything is signed, `PaymentRejected` where the service took nothing, `PaymentOutcomeUnknown`
        where only `resume` can tell, and for files what `upload` raises.
        """
        flow = self._parcels.buy(
            model, operation, input, limit=max_price, approve=approve, tell=on_upload, webhook=webhook
        )
        return self._run(flow)

    def run(
        self,
        model: str,
        operation: str,
        input: Mapping[str, Any],  # noqa: A002  # the contract's word
        *,
        max_price: Money | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        on_progress: Callable[[Job], None] | None = None,
        on_upload: Callable[[Sent], None] | None = None,
        webhook: str | None = None,
    ) -> Job:
        """Submit, wait and return the complete job; raise `JobFailed` or, after `timeout` seconds, `JobStillRunning`."""
        job = self.submit(model, operation, input, max_price=max_price, on_upload=on_upload, webhook=webhook)
        job = self.wait(job, timeout=timeout, on_progress=on_progress)
        if job.failed:
            raise JobFailed(f"Job {job.id} failed: {job.complaint or 'no reason was told'}", job=job)
        return job

    def job(self, job_id: str) -> Job:
        """Read a job; its links are fresh."""
        return self._run(self._desk.job(job_id))

    def jobs(self, *, limit: int = 20, status: str | None = None) -> list[Job]:
        """Read the wallet's jobs, newest first."""
        return self._run(self._desk.jobs(limit=limit, status=status))

    def cancel(self, job_id: str) -> Job:
        """End a job early and return it, `failed`; its payment goes back in full, which `wait_for_refund` waits for.

        A job that has failed stays as it is. Raise `CancelTooLate` where the job goes on, or is complete, and is charged.
        """
        job = self._run(self._desk.cancel(job_id))
        self._forget(job_id)
        return job

    def webhooks(self, job_id: str) -> Webhooks:
        """Read who is told of a job, the secret of its messages, and each message with its tries."""
        return self._run(self._desk.webhooks(job_id))

    def redeliver(self, job_id: str) -> Webhooks:
        """Have everything that was told of a job told once more, at once."""
        return self._run(self._desk.redeliver(job_id))

    def delete(self, job_id: str) -> None:
        """Delete the files of a job that has ended; a failed one leaves the list, too."""
        self._run(self._desk.delete(job_id))
        self._forget(job_id)

    def wait(
        self, job: Job | str, *, timeout: float = DEFAULT_TIMEOUT, on_progress: Callable[[Job], None] | None = None
    ) -> Job:
        """Return the job once it is complete or failed; raise `JobStillRunning` after `timeout` seconds."""
        done = self._run(self._desk.wait(_job(job), timeout=timeout, until=_ended, on_progress=on_progress))
        if done.failed:
            self._forget(done.id)
        return done

    def wait_for_refund(self, job: Job | str, *, timeout: float = REFUND_TIMEOUT) -> Job:
        """Return the failed job once its payment is back; raise `JobStillRunning` after `timeout` seconds."""
        return self._run(self._desk.wait(_job(job), timeout=timeout, until=_refunded, on_progress=None))

    def download(self, job: Job, target: Path | str = ".") -> list[Path]:
        """Save a complete job's files: into a folder under the job's name, or the main file under a file name.

        Raise `FilesGone` where they are not kept any more, else `DownloadFailed`; a download can always be repeated.
        """
        place = Place(target=Path(target), job_id=job.id)
        try:
            paths = self._save_all(job, place)
        except LinkExpired:
            paths = self._save_all(self.job(job.id), place)
        self._forget(job.id)
        return paths

    def pending(self) -> list[Order]:
        """Return this wallet's orders here whose payment was never answered, and uploads that were cut off."""
        return [order for order in self._till.left() if order.open]

    def kept(self) -> list[Order]:
        """Return this wallet's uploads here that are in their places, for orders that were not answered yet."""
        return self._courier.kept()

    def drop(self, key: str) -> Order:
        """Give up an upload that was cut off, with the place that is paid; raise `UploadNotOpen` for any other order."""
        return self._courier.drop(key)

    def resume(self, *, on_upload: Callable[[Sent], None] | None = None) -> list[Resumed]:
        """Continue every order whose payment was never answered, with the bytes that were signed then, and send files on.

        Where a file was sent for an order that was not placed yet (`Resumed.wanted_for`), `submit` places it, and does not
        pay for the file again.
        """
        return [self._resume(order, on_upload) for order in self.pending()]

    def balance(self, address: str | None = None) -> Money:
        """Return the test dollars of an address, the wallet's unless given."""
        return self._run(coins.balance(self.base_url, address=address or self.wallet.address))

    def fund(self, address: str | None = None) -> dict[str, Any]:
        """Ask the service's faucet for test dollars."""
        return self._run(coins.fund(self.base_url, address=address or self.wallet.address))

    def _resume(self, order: Order, on_upload: Callable[[Sent], None] | None) -> Resumed:
        try:
            if order.sending is not None:
                upload = self._run(self._courier.resume(order, tell=on_upload))
                if order.sending.wanted_for is None:
                    self._courier.forget(upload.blob_url)
                return Resumed(order=order, upload=upload)
            job = self._run(self._till.resume(order))
            self._courier.forget(order.body)
            return Resumed(order=order, job=job)
        except BuyerError as error:
            return Resumed(order=order, error=error)

    def _save_all(self, job: Job, place: Place) -> list[Path]:
        assets = assets_of(job)
        if not assets and job.result and job.result.gone:
            raise FilesGone(f"The files of job {job.id} are {job.result.gone}.")
        if not assets:
            raise DownloadFailed(f"Job {job.id} is {job.status} and has no files.")
        return [save(self._http, asset, place=place, sleep=self._sleep) for asset in assets if place.takes(asset)]

    def _forget(self, job_id: str) -> None:
        order = self._journal.of_job(job_id)
        if order:
            self._journal.discard(order.key)

    def _run(self, flow: Flow[Result]) -> Result:
        return drive(flow, perform=partial(perform, self._http), sleep=self._sleep)


def _base(url: str) -> str:
    site = origin(url)
    if not site:
        raise InvalidAddress(f"This is no address of a service: {url!r}.")
    return site + urlsplit(url).path.rstrip("/")


def _job(job: Job | str) -> Job:
    return Job(id=job, status="pending") if isinstance(job, str) else job


def _ended(job: Job) -> bool:
    return job.ended


def _refunded(job: Job) -> bool:
    return job.refunded or job.uncharged
