from __future__ import annotations

from dataclasses import replace

from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.protocols.evm import EvmKey, checksum_address, recover_address
from stablestudio.protocols.evm_transaction import Transaction, digest, sign

from .builders import KEY

WEI = st.integers(min_value=0, max_value=2**128)
TRANSACTION = Transaction(
    chain_id=84532,
    nonce=7,
    max_priority_fee_per_gas=1_000_000,
    max_fee_per_gas=3_000_000,
    gas_limit=112_000,
    to="0x036CbD53842c5426634e7929541eC2318f3dCF7e",
    data=b"\xe3\xee\x16\x0e",
)
transactions = st.builds(
    Transaction,
    chain_id=st.integers(min_value=1, max_value=2**53),
    nonce=st.integers(min_value=0, max_value=2**64 - 2),
    max_priority_fee_per_gas=WEI,
    max_fee_per_gas=WEI,
    gas_limit=st.integers(min_value=21_000, max_value=2**40),
    to=st.binary(min_size=20, max_size=20).map(lambda address: checksum_address("0x" + address.hex())),
    value=WEI,
    data=st.binary(max_size=300),
)


@given(transaction=transactions, secret=st.integers(min_value=1, max_value=2**255))
def test_a_signed_transaction_is_the_one_that_eth_account_makes(transaction: Transaction, secret: int) -> None:
    key = EvmKey(secret.to_bytes(32))
    signed = sign(transaction, key)
    theirs = Account.from_key(key.hex()).sign_transaction(
        {
            "type": 2,
            "chainId": transaction.chain_id,
            "nonce": transaction.nonce,
            "maxPriorityFeePerGas": transaction.max_priority_fee_per_gas,
            "maxFeePerGas": transaction.max_fee_per_gas,
            "gas": transaction.gas_limit,
            "to": transaction.to,
            "value": transaction.value,
            "data": transaction.data,
        }
    )
    assert signed.raw == bytes(theirs.raw_transaction)
    assert signed.hash == "0x" + bytes(theirs.hash).hex()


def test_its_sender_is_who_signed_it() -> None:
    signed = sign(TRANSACTION, KEY)
    assert Account.recover_transaction(signed.raw) == KEY.address
    assert recover_address(digest(TRANSACTION), KEY.sign_digest(digest(TRANSACTION))) == KEY.address


def test_the_same_transaction_has_the_same_hash_each_time() -> None:
    assert sign(TRANSACTION, KEY) == sign(replace(TRANSACTION, to=TRANSACTION.to.lower()), KEY)


def test_every_field_is_signed() -> None:
    changes = {
        "chain_id": 1,
        "nonce": 8,
        "max_priority_fee_per_gas": 2,
        "max_fee_per_gas": 4,
        "gas_limit": 1,
        "to": KEY.address,
        "value": 1,
        "data": b"",
    }
    hashes = {sign(replace(TRANSACTION, **{name: value}), KEY).hash for name, value in changes.items()}  # type: ignore[arg-type]
    assert len(hashes | {sign(TRANSACTION, KEY).hash}) == len(changes) + 1
