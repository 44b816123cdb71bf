"""What the errors of OpenAI mean, and of the servers that speak its language: Azure, gateways, local ones.

Bodies are `{"error": {"message", "type", "param", "code"}}` (OpenAI's API reference, "Error codes"; Azure adds `inner_error`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stablestudio.providers.answers import Reply
from stablestudio.providers.checks import asked
from stablestudio.providers.faults import kind_of, unusable
from stablestudio.providers.http import VendorHttp
from stablestudio.providers.provider import FailureKind

_CODES: Mapping[str, FailureKind] = {
    "moderation_blocked": FailureKind.MODERATION,
    "content_policy_violation": FailureKind.MODERATION,
    "content_filter": FailureKind.MODERATION,
    "contentfilter": FailureKind.MODERATION,
    "responsibleaipolicyviolation": FailureKind.MODERATION,
    "sentinel_block": FailureKind.MODERATION,
    "insufficient_quota": FailureKind.UPSTREAM_QUOTA,
    "billing_hard_limit_reached": FailureKind.UPSTREAM_QUOTA,
    "billing_not_active": FailureKind.UPSTREAM_QUOTA,
    "model_not_found": FailureKind.UPSTREAM_RETIRED,
    "deploymentnotfound": FailureKind.UPSTREAM_RETIRED,
    "invalid_api_key": FailureKind.UPSTREAM_AUTH,
    "account_deactivated": FailureKind.UPSTREAM_AUTH,
    "unsupported_country_region_territory": FailureKind.UPSTREAM_AUTH,
    "rate_limit_exceeded": FailureKind.RATE_LIMITED,
    "invalid_image_file": FailureKind.INVALID_INPUT,
    "invalid_value": FailureKind.INVALID_INPUT,
}
_MAX_LIST_BYTES = 16 * 1024 * 1024  # gateways list thousands of models


def error_of(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the `error` object of a body or of a failed task, empty where there is none."""
    error = document.get("error")
    return error if isinstance(error, Mapping) else {}


def meaning(error: Mapping[str, Any], *, otherwise: FailureKind) -> FailureKind:
    """Return what an error object means."""
    message = str(error.get("message") or "").lower()
    if "must be verified" in message:
        return FailureKind.UPSTREAM_AUTH  # an organisation that has yet to prove who it is, told as 403 or 400
    inner = error.get("inner_error")
    codes = (error.get("code"), inner.get("code") if isinstance(inner, Mapping) else None, error.get("type"))
    known = [_CODES[str(code).lower()] for code in codes if str(code).lower() in _CODES]
    if known and known[0] is FailureKind.INVALID_INPUT and error.get("param") == "model":
        return FailureKind.UPSTREAM_RETIRED
    if known:
        return known[0]
    if error.get("type") == "image_generation_user_error":
        return FailureKind.MODERATION
    return otherwise


def refusal(reply: Reply) -> FailureKind:
    """Return why a request was refused; also tells an empty account from a crowd where both are 429."""
    return meaning(error_of(reply.document), otherwise=kind_of(reply.status))


async def listed_models(http: VendorHttp) -> Mapping[str, str | None]:
    """Return the models that the key may use with the day on which each ends, if told. `GET /models` costs nothing.

    Raises `VendorUnusable`.
    """
    reply = await asked(http, "/models", max_bytes=_MAX_LIST_BYTES)
    listed = reply.document.get("data")
    if not reply.ok or not isinstance(listed, list):
        unusable(http.name, reply, kind=refusal(reply))
    models = (each for each in listed if isinstance(each, Mapping))
    return {str(each.get("id")): _day(each.get("shutdown_date")) for each in models}


def warnings_of(listed: Mapping[str, str | None], wanted: Mapping[str, str]) -> tuple[str, ...]:
    """Return what an operator should know of the models behind the offerings: which end, and which are not there."""
    told = []
    for model in dict.fromkeys(wanted.values()):
        if model not in listed:
            told.append(f"{model} is not among the models that this key may use.")
        elif ends := listed[model]:
            told.append(f"{model} will be shut down on {ends}.")
    return tuple(told)


def _day(value: object) -> str | None:
    return str(value)[:40] if value else None
