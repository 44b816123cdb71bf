"""The buyer's side: ask a price, sign once, pay once, wait and download."""

from stablestudio.client.errors import (
    BuyerError,
    DownloadFailed,
    JobError,
    JobFailed,
    JobStillRunning,
    PaymentOutcomeUnknown,
    PaymentRejected,
    PriceAboveLimit,
    PurchaseRefused,
    ServiceUnreachable,
    StudioApiError,
    WalletError,
)
from stablestudio.client.jobs import Job
from stablestudio.client.journal import Journal
from stablestudio.client.offers import Quote
from stablestudio.client.orders import Order
from stablestudio.client.studio import Resumed, StudioClient
from stablestudio.client.wallet import KeyWallet

__all__ = [
    "BuyerError",
    "DownloadFailed",
    "Job",
    "JobError",
    "JobFailed",
    "JobStillRunning",
    "Journal",
    "KeyWallet",
    "Order",
    "PaymentOutcomeUnknown",
    "PaymentRejected",
    "PriceAboveLimit",
    "PurchaseRefused",
    "Quote",
    "Resumed",
    "ServiceUnreachable",
    "StudioApiError",
    "StudioClient",
    "WalletError",
]
