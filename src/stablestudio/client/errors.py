"""Errors of the buyer's side, each saying what happened, what to do next and whether money moved.

StudioError
└── BuyerError
    ├── StudioApiError            the service answered with an error: its code, status, hint, issues, charged
    │   ├── PaymentRejected       ... to a signed payment
    │   └── SignInRejected        ... to a fresh proof of the wallet
    ├── PurchaseRefused           we stopped before anything was signed
    │   ├── PriceAboveLimit
    │   ├── PurchaseDeclined
    │   ├── MainNetworkNotAllowed
    │   ├── NoUsableOffer
    │   └── ForeignOffer
    ├── PaymentOutcomeUnknown     sent, and no answer says what became of it; the order is in the journal
    ├── JobError
    │   ├── JobFailed             the service could not make it
    │   ├── CancelTooLate         it cannot be stopped any more, and is charged
    │   └── JobStillRunning       our patience ended, not the job
    ├── ServiceUnreachable
    ├── UnreadableAnswer
    ├── FileUnusable              a file of the buyer's that cannot be handed over; nothing was paid for it
    ├── UploadError               the place for a file is paid, and the file is not in it
    │   ├── UploadInterrupted     the network or the service failed; the order is in the journal
    │   ├── UploadRefused         the service does not take this file
    │   ├── UploadExpired         the time for sending is over
    │   └── FileChanged           the file is not what it was when its upload began
    ├── UploadNotOpen             there is no such upload to give up
    ├── DownloadFailed
    │   ├── LinkExpired           an old link; the next read of the job brings a fresh one
    │   └── FilesGone             expired, or deleted by the wallet
    ├── InvalidAddress
    ├── UnknownModel
    └── WalletError
        ├── WalletMissing
        ├── WalletExists
        ├── WalletUnsafe
        └── WalletUnreadable
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from stablestudio.errors import Issue, StudioError
from stablestudio.money import Money

if TYPE_CHECKING:
    from stablestudio.client.jobs import Job
    from stablestudio.client.orders import Order

__all__ = [
    "BuyerError",
    "CancelTooLate",
    "DownloadFailed",
    "FileChanged",
    "FileUnusable",
    "FilesGone",
    "ForeignOffer",
    "InvalidAddress",
    "JobError",
    "JobFailed",
    "JobStillRunning",
    "LinkExpired",
    "MainNetworkNotAllowed",
    "NoUsableOffer",
    "PaymentOutcomeUnknown",
    "PaymentRejected",
    "PriceAboveLimit",
    "PurchaseDeclined",
    "PurchaseRefused",
    "ServiceUnreachable",
    "SignInRejected",
    "StudioApiError",
    "UnknownModel",
    "UnreadableAnswer",
    "UploadError",
    "UploadExpired",
    "UploadInterrupted",
    "UploadNotOpen",
    "UploadRefused",
    "WalletError",
    "WalletExists",
    "WalletMissing",
    "WalletUnreadable",
    "WalletUnsafe",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidUpload:
    """A file that was uploaded and paid for an order which then came to nothing; until `usable_until` it is not paid again."""

    file: str
    price: Money
    blob_url: str
    usable_until: str

    def __str__(self) -> str:
        return f"${self.price} was paid for the upload of {self.file}, which stays usable until {self.usable_until}"

    def body(self) -> dict[str, str]:
        return {
            "file": self.file,
            "price": str(self.price),
            "blobUrl": self.blob_url,
            "usableUntil": self.usable_until,
        }


class BuyerError(StudioError):
    """Something stopped the buyer's side.

    `status` is 0 where no HTTP answer stands behind the error; `money_moved` is None where nobody knows yet;
    `uploads` are those that were paid before it.
    """

    status: ClassVar[int] = 0
    hint: ClassVar[str] = "Read the message; nothing was sent that has to be undone."
    uploads: tuple[PaidUpload, ...] = ()

    @property
    def money_moved(self) -> bool | None:
        """Tell whether this purchase took money, with its uploads: yes, no, or not known (None)."""
        return True if self.uploads and self.order_charged is False else self.order_charged

    @property
    def order_charged(self) -> bool | None:
        """Tell whether what the error is about took money: yes, no, or not known (None)."""
        return self.charged

    def after(self, uploads: Sequence[PaidUpload]) -> None:
        """Tell of uploads that were paid before: what else is said speaks of the order alone."""
        self.uploads = tuple(uploads)
        self.message = " ".join([self.message, *(f"{upload}." for upload in uploads)])
        self.args = (self.message,)
        self.extra["uploads"] = [upload.body() for upload in uploads]
        for free in ("nothing was charged", "nothing was signed", "nothing was paid"):
            self.advice = self.advice.replace(free, f"{free} for the order itself")

    def body(self) -> dict[str, Any]:
        """Return the JSON shape of contract section 6, without a status where there was no HTTP answer."""
        body = super().body() | {"charged": self.money_moved}
        if not self.status:
            del body["status"]
        return body


class StudioApiError(BuyerError):
    """The service answered with an error."""

    hint: ClassVar[str] = "Correct the request and send it again."

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int,
        hint: str | None = None,
        issues: Sequence[Issue] = (),
        charged: bool | None = False,
        retryable: bool = False,
    ) -> None:
        super().__init__(message, hint=hint, issues=issues, charged=charged)
        self.code = code  # type: ignore[misc]  # the service's own code, not our class's
        self.status = status  # type: ignore[misc]  # likewise
        self.retryable = retryable  # type: ignore[misc]  # likewise


class PaymentRejected(StudioApiError):
    """The service rejected the signed payment."""


class SignInRejected(StudioApiError):
    """The service rejected the wallet's proof."""


class PurchaseRefused(BuyerError):
    """The purchase was stopped before anything was signed."""

    hint: ClassVar[str] = "Nothing was signed and no money moved."


class PriceAboveLimit(PurchaseRefused):
    """The price is above your limit."""

    hint: ClassVar[str] = "Raise the limit (max_price, --max-price) or choose a cheaper input; nothing was signed."


class PurchaseDeclined(PurchaseRefused):
    """The purchase was not approved."""

    hint: ClassVar[str] = "Approve the price, or name a limit that covers it (--max-price); nothing was signed."


class MainNetworkNotAllowed(PurchaseRefused):
    """The service asks for real money, and this client signs for test networks only."""

    hint: ClassVar[str] = "Allow it explicitly (allow_mainnet=True, --allow-mainnet) if you mean to pay real money."


class NoUsableOffer(PurchaseRefused):
    """None of the offered ways to pay is one that this wallet knows."""

    hint: ClassVar[str] = "This wallet pays USDC by x402 `exact` on Base and Base Sepolia."


class ForeignOffer(PurchaseRefused):
    """The offer names another origin than the one that was asked."""

    hint: ClassVar[str] = "Use the service's public address (base_url, --url); nothing was signed."


class PaymentOutcomeUnknown(BuyerError):
    """The payment was sent and nothing said what became of it.

    Never pay again by hand: the signed order is in the journal, and sending the same bytes again cannot charge twice.
    """

    hint: ClassVar[str] = "Do not order again: continue this order with client.resume() or `stablestudio resume`."
    retryable: ClassVar[bool] = True

    def __init__(self, message: str | None = None, *, order: Order) -> None:
        super().__init__(
            message, extra={"order": order.key, "price": order.price, "network": order.network}, charged=None
        )
        self.order = order


class JobError(BuyerError):
    """A paid job did not end with a result; `job` is its last known state."""

    def __init__(self, message: str | None = None, *, job: Job, hint: str | None = None) -> None:
        refund = job.payment.refund if job.payment else None
        told = {
            "jobId": job.id,
            "jobStatus": job.status,
            "errorCode": job.error_code,
            "paymentState": job.payment.state if job.payment else None,
            "refundTransaction": refund.transaction if refund else None,
        }
        known = {name: value for name, value in told.items() if value is not None}
        super().__init__(message, hint=hint, charged=True, extra=known)
        self.job = job


class JobFailed(JobError):
    """The job failed."""

    hint: ClassVar[str] = (
        "A failed job is refunded to the paying wallet automatically; look at it again for the refund."
    )

    @property
    def order_charged(self) -> bool | None:
        return not (self.job.refunded or self.job.uncharged)


class CancelTooLate(JobError):
    """This job cannot be cancelled any more: it goes on, and it is charged."""

    hint: ClassVar[str] = "Take its result: client.wait(job), `stablestudio job ID --wait --download`."


class JobStillRunning(JobError):
    """The job is still running; it is paid and not lost."""

    hint: ClassVar[str] = "Do not order again: wait for this job with client.wait(job) or `stablestudio job ID --wait`."
    retryable: ClassVar[bool] = True


class ServiceUnreachable(BuyerError):
    """The service could not be reached."""

    hint: ClassVar[str] = "Check the address and that the service runs, then try again."
    retryable: ClassVar[bool] = True


class UnreadableAnswer(BuyerError):
    """The service answered something that this client cannot read."""

    hint: ClassVar[str] = "Check that the address is a StableStudio service."


class FileUnusable(BuyerError):
    """This file cannot be handed over."""

    hint: ClassVar[str] = "Name a PNG, JPEG, WebP, MP4, MOV, WebM, MP3, WAV, M4A or OGG file; nothing was paid for it."


class UploadError(BuyerError):
    """The place for a file is paid, and the file is not in it."""

    hint: ClassVar[str] = "Upload the file again; until its time is over, the place that is paid is used."

    def __init__(self, message: str | None = None, *, order: Order, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, charged=True, extra={"order": order.key, "price": order.price})
        self.order = order


class UploadInterrupted(UploadError):
    """The file could not be sent to its end."""

    hint: ClassVar[str] = "The place is paid: go on with client.resume(), `stablestudio resume` or the same call."
    retryable: ClassVar[bool] = True


class UploadRefused(UploadError):
    """The service does not take this file."""

    hint: ClassVar[str] = (
        "Upload a right file of the same name and type: within the hour it gets the place that is paid."
    )


class UploadExpired(UploadError):
    """The time for sending the file is over, and the place is gone."""

    hint: ClassVar[str] = "Upload the file anew, for a new payment."


class FileChanged(UploadError):
    """The file is not what it was when its upload began."""

    hint: ClassVar[str] = "Bring the former file back, or upload the new one for a payment of its own."

    def __init__(
        self, message: str | None = None, *, order: Order, hint: str | None = None, waits: bool = True
    ) -> None:
        drop = f" client.drop({order.key!r}) or `stablestudio resume --drop {order.key}` gives the former up."
        super().__init__(message, order=order, hint=(hint or type(self).hint) + (drop if waits else ""))


class UploadNotOpen(BuyerError):
    """No upload of this wallet that could be given up has this id."""

    hint: ClassVar[str] = (
        "client.pending() and `stablestudio resume` tell the ids; an order of a job is continued, never given up."
    )


class DownloadFailed(BuyerError):
    """A file of a finished job could not be fetched."""

    hint: ClassVar[str] = "The file is kept by the service: download the job again, at no cost."
    retryable: ClassVar[bool] = True


class LinkExpired(DownloadFailed):
    """The link to the file has expired."""


class FilesGone(DownloadFailed):
    """The files of this job are not kept any more."""

    hint: ClassVar[str] = "Order it again; a job tells until when its files are kept, as expiresAt."
    retryable: ClassVar[bool] = False


class InvalidAddress(BuyerError):
    """This is no address of a service."""

    hint: ClassVar[str] = "Give the service's http or https address, such as http://127.0.0.1:8402."


class UnknownModel(BuyerError):
    """The service sells no such model."""

    hint: ClassVar[str] = "`stablestudio models` lists what is sold."


class WalletError(BuyerError):
    """The wallet cannot be used."""


class WalletMissing(WalletError):
    """There is no wallet yet."""

    hint: ClassVar[str] = "Make one with `stablestudio wallet create`, or set STABLESTUDIO_PRIVATE_KEY."


class WalletExists(WalletError):
    """There is a wallet already, and it is never overwritten."""

    hint: ClassVar[str] = "Use it, or point STABLESTUDIO_HOME to another folder."


class WalletUnsafe(WalletError):
    """Others on this machine can read the wallet's file."""

    hint: ClassVar[str] = (
        "Take their rights away with chmod 600 on the file; if they may have read it, use a new wallet."
    )


class WalletUnreadable(WalletError):
    """The wallet's key cannot be read."""

    hint: ClassVar[str] = "A key is 32 bytes in hex, with or without 0x."
