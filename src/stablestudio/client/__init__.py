"""The buyer's side: ask a price, sign once, pay once, wait and download."""

from stablestudio.client.errors import (
    BuyerError,
    CancelTooLate,
    DownloadFailed,
    FileChanged,
    FileUnusable,
    JobError,
    JobFailed,
    JobStillRunning,
    PaidUpload,
    PaymentOutcomeUnknown,
    PaymentRejected,
    PriceAboveLimit,
    PurchaseRefused,
    ServiceUnreachable,
    StudioApiError,
    UploadError,
    UploadExpired,
    UploadInterrupted,
    UploadNotOpen,
    UploadRefused,
    WalletError,
)
from stablestudio.client.jobs import Job
from stablestudio.client.journal import Journal
from stablestudio.client.offers import Quote
from stablestudio.client.orders import Order, Upload
from stablestudio.client.prices import Price
from stablestudio.client.sending import Sent
from stablestudio.client.studio import Resumed, StudioClient
from stablestudio.client.wallet import KeyWallet
from stablestudio.client.webhooks import Webhooks

__all__ = [
    "BuyerError",
    "CancelTooLate",
    "DownloadFailed",
    "FileChanged",
    "FileUnusable",
    "Job",
    "JobError",
    "JobFailed",
    "JobStillRunning",
    "Journal",
    "KeyWallet",
    "Order",
    "PaidUpload",
    "PaymentOutcomeUnknown",
    "PaymentRejected",
    "Price",
    "PriceAboveLimit",
    "PurchaseRefused",
    "Quote",
    "Resumed",
    "Sent",
    "ServiceUnreachable",
    "StudioApiError",
    "StudioClient",
    "Upload",
    "UploadError",
    "UploadExpired",
    "UploadInterrupted",
    "UploadNotOpen",
    "UploadRefused",
    "WalletError",
    "Webhooks",
]
