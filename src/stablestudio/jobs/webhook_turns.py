"""Whose webhooks are sent next: the longest due, but nobody's and nobody's receiver's more than its share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import sqlalchemy as sa

from stablestudio.store import webhooks as store
from stablestudio.store.webhooks import WebhookEvent

AT_ONCE = 64
AT_ONCE_EACH_RECEIVER = 4
AT_ONCE_EACH_WALLET = 8


def choose(connection: sa.Connection, *, now: int, busy: Collection[WebhookEvent]) -> list[WebhookEvent]:
    """Return what may begin now (ms) beside what is `busy`, the longest due first.

    Messages whose wallet or receiver has its share are passed over, however many there are: others behind them are found.
    """
    room = AT_ONCE - len(busy)
    under_way = {event.id for event in busy}
    wallets, receivers = _counted(busy)
    chosen: list[WebhookEvent] = []
    page: list[WebhookEvent] = []
    while len(chosen) < room:
        page = store.due(
            connection,
            now=now,
            limit=AT_ONCE,
            after=page[-1] if page else None,
            wallets=_full(wallets, AT_ONCE_EACH_WALLET),
            receivers=_full(receivers, AT_ONCE_EACH_RECEIVER),
        )
        for event in page:
            fits = wallets[event.wallet] < AT_ONCE_EACH_WALLET and receivers[event.receiver] < AT_ONCE_EACH_RECEIVER
            if fits and event.id not in under_way:
                chosen.append(event)
                wallets[event.wallet] += 1
                receivers[event.receiver] += 1
        if len(page) < AT_ONCE:
            break
    return chosen[:room]


def crowded(busy: Collection[WebhookEvent], *, by: WebhookEvent) -> bool:
    """Tell whether others may wait for the place of one that is `busy`."""
    wallets, receivers = _counted(busy)
    return (
        len(busy) >= AT_ONCE
        or wallets[by.wallet] >= AT_ONCE_EACH_WALLET
        or receivers[by.receiver] >= AT_ONCE_EACH_RECEIVER
    )


def _counted(events: Collection[WebhookEvent]) -> tuple[Counter[str], Counter[str]]:
    return Counter(event.wallet for event in events), Counter(event.receiver for event in events)


def _full(counts: Mapping[str, int], most: int) -> list[str]:
    return [name for name, count in counts.items() if count >= most]
