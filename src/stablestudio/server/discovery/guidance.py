"""How to buy, in words for agents: the same text in OpenAPI's `x-guidance`, in llms.txt and in agents.txt."""

from __future__ import annotations

from stablestudio.server.discovery.shop import Shop

LONGEST = 4000
"""Characters: clients put up to a thousand tokens of guidance into an agent's context by themselves."""


def guidance(shop: Shop) -> str:
    """Return the text; shorter than `LONGEST`."""
    return "\n".join([*_steps(shop), "", *_rules(shop)])


def headline(shop: Shop) -> str:
    """Return what this is, in one sentence."""
    makes = len({offering.model for offering in shop.making})
    where = ", ".join(dict.fromkeys(way.place for way in shop.ways))
    return (
        f"AI images and video by the call from {makes} models, paid in stablecoins on {where}. No account, no API key."
    )


def _steps(shop: Shop) -> list[str]:
    x402 = "PAYMENT-REQUIRED (base64 JSON, x402 v2)" if shop.of("x402") else ""
    mpp = "WWW-Authenticate: Payment (MPP)" if shop.of("mpp") else ""
    pay = "PAYMENT-SIGNATURE" if shop.of("x402") else ""
    authorize = "Authorization: Payment" if shop.of("mpp") else ""
    proof = ", or an MPP proof of amount 0" if shop.of("mpp") else ""
    return [
        "How to buy:",
        (
            '1. Price, free: POST /api/quote {"model", "operation", "input"} answers the exact price, why, how long it takes and '
            "what each network asks. GET /api/models lists everything."
        ),
        (
            "2. Ask: POST /api/generate/{model}/{operation} with the input as JSON answers 402; the offers are in "
            f"{' and '.join(filter(None, (x402, mpp)))}. An empty body is quoted the route's highest price."
        ),
        (
            f"3. Pay: send the same request with the same body and {' or '.join(filter(None, (pay, authorize)))}. "
            "200 has jobId, pollUrl and pollAfter."
        ),
        (
            f"4. Read: GET pollUrl with SIGN-IN-WITH-X of the wallet that paid{proof}, until status is complete or failed, "
            "pollAfter seconds apart. The 402 of an unsigned read has the challenge; a proof holds for its path for 5 minutes. "
            "The Poll-Token of the paid answer, sent as Authorization: Bearer, reads the job without a signature."
        ),
        (
            "   Or wait: Prefer: wait=60 holds an answer until the job has ended, GET {pollUrl}/events streams it (SSE), and "
            "Webhook-Url: https://... on the paid request has you called: GET /docs/waiting."
        ),
        (
            "5. Download result.imageUrl or result.videoUrl: a link ends after "
            f"{_span(shop.link_seconds)}; reading the job again gives a new one."
        ),
    ]


def _rules(shop: Shop) -> list[str]:
    return [
        "Rules:",
        "- All about a model, with the rules over several fields: GET /llms/{model}.txt, or as data GET /api/models/{model}.",
        "- A job under way is not lost: keep reading it, never buy it again. Clips take minutes.",
        "- 202 means that the payment's outcome is not known yet: send the same request again, never a new payment.",
        (
            "- The same signed payment always gets the same job, and so does another payment with the same Idempotency-Key. "
            "With another body it is 409."
        ),
        "- A failed or refused job is refunded to the payer by itself. 400, 410, 413 and 503 never charge.",
        "- POST {pollUrl}/cancel, signed, ends a job and refunds it, as long as its vendor stops.",
        "- Every error is JSON: code, error, hint, retryable, charged, and issues with the fields at fault; GET /docs/errors.",
        "- Many clients cap payments ($1 in the x402 SDKs, $5 in agentcash): raise the cap for dear clips.",
        "- A job belongs to the wallet that paid: one paid on Solana is read with the Solana key.",
        (
            f"- Media fields take an https URL, a data: URI (request bodies up to {shop.max_body_bytes} bytes), job:ID of an "
            "earlier result of yours, or the blobUrl of an upload (POST /api/upload, PUT the file, POST /api/upload/confirm; up to "
            f"{shop.max_upload_bytes} bytes). A multipart/form-data request takes small files as parts."
        ),
        "- Files are kept: "
        + ", ".join(f"{what} {f'{days:g} days' if days else 'for ever'}" for what, days in shop.keep_days.items())
        + ".",
        *([] if shop.real_money else ["- This service runs on test networks: its coins are not real money."]),
    ]


def _span(seconds: int) -> str:
    return f"{seconds // 60} minutes" if seconds % 60 == 0 else f"{seconds} seconds"
