"""Who is told of a job, as its owner reads it: address, secret, and each message with its tries."""

from __future__ import annotations

import pydantic

from stablestudio.client.errors import InvalidAddress, UnreadableAnswer
from stablestudio.client.jobs import Told
from stablestudio.client.offers import origin
from stablestudio.client.steps import Reply


class Try(Told):
    """One try to tell a message; `status` is what the receiver answered, `reason` why there is none."""

    number: int
    at: str
    status: int | None = None
    reason: str | None = None


class Message(Told):
    """One thing to tell: `pending`, `delivered` or `given_up`."""

    id: str
    type: str
    state: str
    next_try_at: str | None = None
    tries: list[Try] = pydantic.Field(default_factory=list)


class Webhooks(Told):
    """What is told of one job. `secret` and `public_key` are what its messages are checked with (Standard Webhooks)."""

    job_id: str
    url: str | None = None
    secret: str = pydantic.Field(repr=False)
    public_key: str | None = None
    messages: list[Message] = pydantic.Field(default_factory=list)


def read_webhooks(reply: Reply) -> Webhooks:
    """Read the log of a job; raise `UnreadableAnswer` if it is none."""
    try:
        return Webhooks.model_validate(reply.document())
    except pydantic.ValidationError as error:
        raise UnreadableAnswer("The service answered no log of webhooks.") from error


def checked(url: str | None) -> str | None:
    """Return an address that can stand in a header; raise `InvalidAddress`. Whether it is ever called, the service says."""
    if url is None or (url.isascii() and url.isprintable() and " " not in url and origin(url)):
        return url
    raise InvalidAddress(
        f"This is no address of a webhook: {url!r}.", hint="Give a public https address; nothing was signed."
    )
