"""Errors as OpenAI's clients read them: `error` is an object there, beside the members that all our errors have."""

from __future__ import annotations

from stablestudio.errors import StudioError
from stablestudio.server.job_bodies import payment_of
from stablestudio.store.views import OrderView

PREFIX = "/v1/"
_RETURNED = ("refunded", "refund_pending", "released", "rejected")


class OrderFailed(StudioError):
    """What was ordered could not be made."""

    status = 502
    hint = "The job tells why. Send a new request with a new payment if you want to try again."


class OrderRefused(OrderFailed):
    """What was ordered is something that its maker does not make."""

    status = 422
    hint = "Change the prompt or the files, and send a new request with a new payment."


class ClipNotReady(StudioError):
    """The clip is not there yet."""

    status = 409
    retryable = True
    hint = "Read the video until its status is completed, then ask for its content."


class ClipFailed(StudioError):
    """There is no clip: it could not be made."""

    status = 404
    hint = "Read the video, its `error` tells why; the payment goes back by itself."


class VideoKeyRefused(StudioError):
    """The API key of this request is no poll token of this video."""

    status = 401
    hint = (
        "Send the Poll-Token of the paid answer as the API key, as docs/openai has it, or sign the read. "
        "A lost token is told anew to whoever signs GET /api/jobs/{id}; GET /api/jobs lists a wallet's jobs."
    )


_KINDS: dict[int, str] = {402: "payment_required"}


def failed(order: OrderView, *, body_of_job: str) -> OrderFailed:
    """Return the error for an order that failed, with what becomes of its money; `body_of_job` is where it is read."""
    refused = order.error_code in ("moderation", "invalid_input")
    payment = payment_of(order)
    returned = payment["state"] in _RETURNED
    error = (OrderRefused if refused else OrderFailed)(
        order.error or None,
        charged=not returned,
        extra={
            "jobId": order.id,
            "pollUrl": body_of_job,
            "errorCode": order.error_code or "payment_rejected",
            "payment": payment,
        },
    )
    if returned:
        # Here OpenAI's clients show it; they do not show the hint.
        error.message = f"{error.message.rstrip('.')}. {_MONEY[payment['state']]}"
    return error


_MONEY = {
    "refunded": "The payment was refunded.",
    "refund_pending": "The payment is being refunded.",
    "released": "Nothing was charged.",
    "rejected": "Nothing was charged.",
}


def worded(error: StudioError) -> StudioError:
    """Add OpenAI's members to an error: its SDKs read `error.message`, and whether they may send a request again.

    What may have been paid for is never sent again by itself: a paying client would pay once more.
    """
    kind = _KINDS.get(error.status) or ("server_error" if error.status >= 500 else "invalid_request_error")
    param = ".".join(map(str, error.issues[0].path)) if error.issues else ""
    code = error.extra.get("errorCode", error.code)
    error.extra["error"] = {"message": error.message, "type": kind, "code": code, "param": param or None}
    error.headers.append(("x-should-retry", "true" if error.retryable and not error.charged else "false"))
    return error
