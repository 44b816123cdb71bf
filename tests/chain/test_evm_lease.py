"""One gas key in two processes: under a lease in the database their nonces neither collide nor leave a gap."""

from __future__ import annotations

import asyncio

import pytest

from stablestudio.clock import SystemClock
from stablestudio.payments.evm.gas import GasAccount
from stablestudio.payments.evm.rpc import EvmRpc
from stablestudio.payments.rail import Settled
from stablestudio.payments.stored import StoredLease
from stablestudio.store.database import Database, connect
from tests.chain.anvil import GAS_KEY, Anvil
from tests.chain.signing import FUNDS, PRICE, nonce_of, signed
from tests.chain.worlds import chain_on
from tests.doubles import BUYER, PAY_TO, USDC

pytestmark = [pytest.mark.anyio, pytest.mark.npm]
COUNT = 16


async def test_two_writers_of_one_gas_key_take_turns(anvil: Anvil, rpc: EvmRpc, database: Database) -> None:
    anvil.fund(BUYER.address, FUNDS)
    other = connect(database.url)
    chains = [
        chain_on(
            rpc,
            gas=GasAccount(
                rpc, GAS_KEY, chain_id=USDC.chain_id, lease=StoredLease(each, "gas", f"{number}", SystemClock())
            ),
        )
        for number, each in enumerate((database, other))
    ]
    calls = [signed(nonce=nonce_of(number)) for number in range(COUNT)]
    outcomes = await asyncio.gather(*(chains[number % 2].submit(*call) for number, call in enumerate(calls)))
    assert all(isinstance(outcome, Settled) for outcome in outcomes)
    assert (len(anvil.transfers()), anvil.failures(), anvil.balance(PAY_TO)) == (COUNT, 0, COUNT * PRICE)
    assert database.fetch("SELECT name FROM leases") == []
    other.close()
