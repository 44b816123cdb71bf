"""Rails come from the settings: what is missing switches one off with a line, what is wrong stops the start."""

from __future__ import annotations

from typing import Any

import pytest

from stablestudio.config import ConfigurationInvalid, load_settings
from stablestudio.server.rails import NoRail, Rails, build_rails
from stablestudio.store.database import Database
from tests.doubles import PAY_TO, ManualClock

KEYS = {name: "0x" + byte * 32 for name, byte in (("gas_key", "11"), ("refund_key", "22"))}
BASE = {"kind": "x402-evm", "network": "eip155:84532", "rpc": "http://127.0.0.1:1", "pay_to": PAY_TO, **KEYS}
TEMPO = {
    "kind": "mpp-tempo",
    "network": "eip155:42431",
    "rpc": "http://127.0.0.1:1",
    "pay_to": PAY_TO,
    "refund_key": KEYS["refund_key"],
}


def _build(database: Database, clock: ManualClock, **rails: dict[str, Any]) -> Rails:
    settings = load_settings({"rails": rails})
    return build_rails(settings, database=database, secret=b"s" * 32, clock=clock)


def test_a_complete_rail_is_built(database: Database, clock: ManualClock) -> None:
    rails = _build(database, clock, base=BASE)
    assert [rail.name for rail in rails.all] == ["x402:eip155:84532:0x036cbd53842c5426634e7929541ec2318f3dcf7e"]
    assert (rails.off, rails.world) == ([], "live")


@pytest.mark.parametrize("missing", ["rpc", "pay_to", "refund_key", "gas_key"])
def test_a_missing_value_switches_its_rail_off_and_is_named(
    database: Database, clock: ManualClock, missing: str
) -> None:
    incomplete = {name: value for name, value in BASE.items() if name != missing}
    rails = _build(database, clock, whole=BASE, base=incomplete)
    assert len(rails.all) == 1
    assert [line for line in rails.off if line.startswith("rails.base is off: ") and missing in line]


@pytest.mark.parametrize("absent", ["env:STABLESTUDIO_TEST_NO_SUCH_KEY", "file:/no/such/key"])
def test_a_key_that_is_not_where_it_should_be_is_missing(database: Database, clock: ManualClock, absent: str) -> None:
    with pytest.raises(NoRail, match=r"rails\.base is off: refund_key \(.*\) is not set"):
        _build(database, clock, base=BASE | {"refund_key": absent})


def test_a_key_may_stand_in_the_environment(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_GAS", KEYS["gas_key"])
    assert _build(database, clock, base=BASE | {"gas_key": "env:MY_GAS"}).all


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"gas_key": "0x12"}, "gas_key is not a key"),
        ({"refund_key": "nonsense"}, "refund_key is not a key"),
        ({"gas_key": KEYS["refund_key"]}, "gas_key belongs to pay_to or is the refund key"),
        ({"pay_to": "0x1563915e194D8CfBA1943570603F7606A3115508"}, "belongs to pay_to"),
        ({"pay_to": "0x12"}, "pay_to is not an address"),
        ({"pay_to": PAY_TO.replace("2", "3")}, "pay_to has a wrong checksum"),
        ({"token": "0x036CbD53842c5426634e7929541eC2318f3dCF7E", "token_name": "a", "token_version": "1"}, "checksum"),
        ({"network": "eip155:8453", "chain": "ledger"}, "test networks only"),
        ({"network": "eip155:1"}, "token, token_name and token_version"),
        ({"rpc": "http://node.example"}, "https"),
        ({"facilitators": [{"url": "https://x402.org/facilitator"}]}, "not both"),
        ({"gass_key": "0x"}, "gass_key"),
        ({"network": "base"}, "network"),
    ],
)
def test_a_wrong_value_stops_the_start_and_is_named(
    database: Database, clock: ManualClock, wrong: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigurationInvalid, match=told) as stopped:
        _build(database, clock, whole=BASE, base=BASE | wrong)
    assert "rails.base" in stopped.value.message
    assert KEYS["gas_key"] not in stopped.value.message


def test_a_facilitator_without_its_key_is_left_out_and_the_next_one_serves(
    database: Database, clock: ManualClock
) -> None:
    served = {name: value for name, value in BASE.items() if name != "gas_key"}
    cdp = {"url": "https://api.cdp.coinbase.com/platform/v2/x402", "auth": "cdp", "key_id": "env:NO_SUCH_CDP_ID"}
    rails = _build(database, clock, base=served | {"facilitators": [cdp, {"url": "http://127.0.0.1:1"}]})
    assert len(rails.all) == 1
    with pytest.raises(NoRail, match=r"key_id \(the variable NO_SUCH_CDP_ID is not set\) and key_secret are not set"):
        _build(database, clock, base=served | {"facilitators": [cdp]})


def test_refunds_are_capped_as_the_settings_say(database: Database, clock: ManualClock) -> None:
    rails = _build(database, clock, base=BASE | {"refund_daily_cap": "12.5", "refund_minimum": "0.01"})
    (limits,) = rails.limits.values()
    assert (limits.daily_cap, limits.minimum) == (12_500_000, 10_000)


def test_without_settings_all_rails_are_the_embedded_ones_on_test_networks(
    database: Database, clock: ManualClock
) -> None:
    rails = _build(database, clock)
    assert rails.world == "embedded"
    assert {rail.network for rail in rails.all} == {
        "eip155:84532",
        "eip155:42431",
        "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
    }
    assert all(limits.daily_cap is None for limits in rails.limits.values())
