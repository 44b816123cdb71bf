"""Facilitators as the settings name them, with their keys."""

from __future__ import annotations

import logging

from stablestudio.clock import Clock
from stablestudio.payments.facilitators.auth import CdpAuth, FacilitatorAuth, NoAuth, PayAiAuth
from stablestudio.payments.facilitators.client import Facilitator
from stablestudio.rail_settings import (
    FacilitatorSettings,
)
from stablestudio.server.rails.keys import require
from stablestudio.server.rails.plan import Missing

log = logging.getLogger(__name__)


def build_facilitators(given: tuple[FacilitatorSettings, ...], clock: Clock) -> list[Facilitator]:
    """Return those whose keys are there, in order; raise `Missing` if none is."""
    built, missing = [], []
    for settings in given:
        try:
            built.append(Facilitator(settings.url, auth=_auth(settings, clock)))
        except Missing as reason:
            missing.append(f"{settings.url}: {reason}")
            log.warning("facilitator %s is off: %s", settings.url, reason)
    if not built:
        raise Missing("; ".join(missing))
    return built


def _auth(settings: FacilitatorSettings, clock: Clock) -> FacilitatorAuth:
    if settings.auth == "none":
        return NoAuth()
    key_id, secret = require({"key_id": settings.key_id, "key_secret": settings.key_secret})
    kind = CdpAuth if settings.auth == "cdp" else PayAiAuth
    return kind(key_id=key_id, secret=secret, clock=clock)
