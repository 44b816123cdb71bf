"""`stablestudio providers`: who makes what, in which order, and whether each vendor takes our key."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import click

from stablestudio.catalog import LifecycleState, Offering
from stablestudio.cli.books import OperatorMistake, operates
from stablestudio.cli.faults import USAGE
from stablestudio.cli.output import Output
from stablestudio.clock import SystemClock
from stablestudio.config import Settings
from stablestudio.errors import StudioError
from stablestudio.providers.provider import Vendor
from stablestudio.server.providers import MADE, SANDBOX, Providers, Workshop, address, named, plan, served

log = logging.getLogger(__name__)
NOT_USABLE = 1
_BOUND_SECONDS = 30.0  # for each vendor, all at the same time
_FACTS = ("PROVIDER", "KIND", "STATE", "ADDRESS", "AT ONCE", "SERVES")
_ORDER = ("OFFERING", "PLACE", "PROVIDER", "MODEL", "LIFECYCLE")
_LEFT = ("NOBODY SERVES", "LIFECYCLE", "ANSWER")
_CHECKS = ("PROVIDER", "KIND", "STATE", "")


class ProviderUnknown(OperatorMistake):
    """The settings have no provider of this name."""

    status = 404
    hint = "See `stablestudio providers` for the names; they are those of [providers.NAME] in stablestudio.toml."


@click.group(invoke_without_command=True)
@operates
def providers(out: Output, settings: Settings) -> None:
    """Show who makes what: each provider of the settings, each offering's order, and what nobody serves.

    Nobody is asked anything. Exit code 2: the settings are wrong, or leave nobody who could make anything.
    """
    context = click.get_current_context()
    if context.invoked_subcommand is not None:
        context.default_map = {context.invoked_subcommand: context.params}
        return
    planned = plan(settings, _workshop())
    document = _document(settings, planned)
    out.result(document, *_lines(document))
    if not planned.built:
        out.say("The service does not start like this: nobody is left who could make anything.")
    if off := ", ".join(planned.missing):
        out.say(f"Off: {off}. Next: set what is missing, or take the provider out of the settings.")
    if not planned.built:
        context.exit(USAGE)
    out.say("Nobody was asked. Next: stablestudio providers check --live")


@providers.command(short_help="Ask each vendor whether it takes our key.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--live", is_flag=True, help="Ask, by a question that costs nothing. Without it nobody is asked.")
@operates
def check(out: Output, settings: Settings, *, names: Sequence[str], live: bool) -> None:
    """Prove the key and the address of each provider, or of those named, by a question that costs nothing.

    All are asked at the same time and have half a minute. Exit code 0: all can be used as far as is known; 1: one
    cannot; 2: the settings are wrong.
    """
    wanted = named(settings)
    if strangers := [name for name in names if name not in wanted]:
        raise ProviderUnknown(f"There is no provider {strangers[0]!r} among {', '.join(wanted)}.")
    chosen = list(dict.fromkeys(names)) or list(wanted)
    findings = asyncio.run(_check(plan(settings, _workshop()), chosen, live=live))
    told = [{"name": name, "kind": wanted[name].kind, **findings[name]} for name in chosen]
    unusable = [each["name"] for each in told if each["state"] in ("unusable", "off")]
    document = {"success": not unusable, "asked": live, "providers": told}
    out.result(document, *_report(told))
    if not live:
        out.say("Nobody was asked. Next: add --live; it costs nothing.")
    if unusable:
        again = f"stablestudio providers check {' '.join(unusable)} --live"
        out.say(f"Not usable: {', '.join(unusable)}. Next: correct key, address or account, then {again}")
        click.get_current_context().exit(NOT_USABLE)


def _workshop() -> Workshop:
    """Return what adapters need to be built: they make nothing here."""
    nothing: Any = SimpleNamespace(name=SANDBOX)
    return Workshop(source=nothing, kept=nothing, clock=SystemClock(), secret=b"", sandbox=nothing)


async def _check(planned: Providers, names: Sequence[str], *, live: bool) -> Mapping[str, dict[str, Any]]:
    # What adapters log of a check is in its result.
    logging.getLogger("stablestudio").addHandler(logging.NullHandler())
    try:
        findings = await asyncio.gather(*(_finding(planned, name, live=live) for name in names))
    finally:
        for close in planned.close:
            await close()
    return dict(zip(names, findings, strict=True))


async def _finding(planned: Providers, name: str, *, live: bool) -> dict[str, Any]:
    """Tell what is known of a provider: `state` is ok, unusable, off or unasked, `why` a sentence."""
    if name in planned.missing:
        return _found("off", planned.missing[name])
    vendor = planned.vendors.get(name)
    if vendor is None:
        return _found("ok", "It is part of this service.")
    if not live:
        return _found("unasked", "")
    began = time.monotonic()
    wrong = await _ask(name, vendor)
    seconds = round(time.monotonic() - began, 3)
    return _found("unusable" if wrong else "ok", wrong or "", notices=getattr(vendor, "notices", ()), seconds=seconds)


def _found(state: str, why: str, *, notices: Sequence[str] = (), seconds: float | None = None) -> dict[str, Any]:
    return {"state": state, "why": why or None, "notices": list(notices), "seconds": seconds}


async def _ask(name: str, vendor: Vendor) -> str | None:
    """Return what is wrong with a vendor."""
    try:
        async with asyncio.timeout(_BOUND_SECONDS):
            await vendor.check()
    except TimeoutError:
        return f"{name} did not answer within {_BOUND_SECONDS:g} s."
    except StudioError as error:
        return error.message
    except Exception as error:
        # Whatever one vendor answers, the operator hears of the others.
        log.warning("check_faulted", extra={"provider": name}, exc_info=error)
        return f"{name} could not be checked: its answer led to {type(error).__name__}."
    return None


def _document(settings: Settings, planned: Providers) -> dict[str, Any]:
    return {
        "success": bool(planned.built),
        "asked": False,
        "providers": [_facts(name, settings, planned) for name in named(settings)],
        "unserved": [_unserved(offering) for offering in MADE if not planned.bindings[offering.key]],
    }


def _facts(name: str, settings: Settings, planned: Providers) -> dict[str, Any]:
    """Return a provider for programs; `place` counts from 1, `unused` is what it makes but is not asked for."""
    one, provider = named(settings)[name], planned.built.get(name)
    bound = [
        {"offering": key, "model": binding.model or None, "place": place, "of": len(bindings)}
        for key, bindings in planned.bindings.items()
        for place, binding in enumerate(bindings, start=1)
        if binding.provider is provider
    ]
    taken = {each["offering"] for each in bound}
    makes = served(one, provider) if provider is not None else {}
    return {
        "name": name,
        "kind": one.kind,
        "on": provider is not None,
        "why": planned.missing.get(name),
        "address": urlsplit(address(one)).netloc or None,
        "atOnce": planned.at_once.get(name, one.at_once),
        "offerings": bound,
        "unused": [key for key in makes if key not in taken],
    }


def _unserved(offering: Offering) -> dict[str, Any]:
    lifecycle = offering.lifecycle
    return {
        "offering": offering.key,
        "lifecycle": lifecycle.state.value,
        "ends": lifecycle.ends.isoformat() if lifecycle.ends else None,
        "successor": lifecycle.successor,
        "status": 410 if lifecycle.state is LifecycleState.RETIRED else 503,
    }


def _lines(document: Mapping[str, Any]) -> list[str]:
    order = [
        (each["offering"], f"{each['place']} of {each['of']}", one["name"], each["model"] or "")
        for one in document["providers"]
        for each in one["offerings"]
    ]
    remarks = {offering.key: remark(offering) for offering in MADE}
    keys = list(remarks)
    order.sort(key=lambda row: (keys.index(row[0]), int(row[1].split()[0])))
    parts = [_table(_FACTS, [_row(each) for each in document["providers"]])]
    if order:
        parts.append(_table(_ORDER, [(*row, remarks[row[0]]) for row in order]))
    if left := document["unserved"]:
        parts.append(
            _table(_LEFT, [(each["offering"], remarks[each["offering"]], str(each["status"])) for each in left])
        )
    return "\n\n".join("\n".join(part) for part in parts).split("\n")


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    bound, unused = len(one["offerings"]), len(one["unused"])
    first = sum(each["place"] == 1 for each in one["offerings"])
    makes = f" of {bound + unused}" if unused else ""
    serves = f"{bound}{makes} offerings, first for {first}" if one["on"] else one["why"]
    place = one["address"] or ("" if one["kind"] != SANDBOX else "this process")
    return one["name"], one["kind"], "on" if one["on"] else "off", place, str(one["atOnce"]), serves


def remark(offering: Offering) -> str:
    """Return where the vendor is with a model, e.g. `retired 2026-09-24; successor veo-3.1`."""
    lifecycle = offering.lifecycle
    state = "ends" if lifecycle.state is LifecycleState.DEPRECATED and lifecycle.ends else lifecycle.state.value
    ends = f" {lifecycle.ends.isoformat()}" if lifecycle.ends else ""
    return f"{state}{ends}{f'; successor {lifecycle.successor}' if lifecycle.successor else ''}"


def _report(told: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [(each["name"], each["kind"], each["state"], each["why"] or _took(each["seconds"])) for each in told]
    notices = [f"Notice of {each['name']}: {notice}" for each in told for notice in each["notices"]]
    return [*_table(_CHECKS, rows), *notices]


def _took(seconds: float | None) -> str:
    return "" if seconds is None else f"answered in {seconds:.1f} s"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [heads, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
