from __future__ import annotations

from dataclasses import replace

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st
from x402.mechanisms.evm.eip712 import hash_eip3009_authorization
from x402.mechanisms.evm.types import ExactEIP3009Authorization

from stablestudio.protocols import eip3009, evm
from stablestudio.protocols.eip3009 import Authorization, TokenDomain

from .builders import KEY, PAY_TO, USDC

DOMAIN = TokenDomain(name="USDC", version="2", chain_id=84532, contract=USDC)
TRANSFER = Authorization(
    sender=KEY.address, recipient=PAY_TO, value=134000, valid_after=0, valid_before=1_795_204_741, nonce=b"\x11" * 32
)
uint256 = st.integers(min_value=0, max_value=2**256 - 1)
address = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
authorization = st.builds(
    Authorization,
    sender=address,
    recipient=address,
    value=uint256,
    valid_after=uint256,
    valid_before=uint256,
    nonce=st.binary(min_size=32, max_size=32),
)


def typed_data(signed: Authorization) -> dict[str, object]:
    return {
        "from": signed.sender,
        "to": signed.recipient,
        "value": signed.value,
        "validAfter": signed.valid_after,
        "validBefore": signed.valid_before,
        "nonce": signed.nonce,
    }


def test_the_separator_is_the_one_that_the_contract_on_base_sepolia_returns() -> None:
    expected = "71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818"
    assert eip3009.separator(DOMAIN).hex() == expected


def test_the_type_hash_is_the_one_of_the_standard() -> None:
    text = (
        b"TransferWithAuthorization(address from,address to,uint256 value,"
        b"uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    )
    expected = "7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267"
    assert evm.keccak256(text).hex() == eip3009._TRANSFER_TYPE.hex() == expected


@given(signed=authorization)
def test_digests_are_those_of_the_x402_sdk(signed: Authorization) -> None:
    theirs = ExactEIP3009Authorization(
        from_address=signed.sender,
        to=signed.recipient,
        value=str(signed.value),
        valid_after=str(signed.valid_after),
        valid_before=str(signed.valid_before),
        nonce="0x" + signed.nonce.hex(),
    )
    assert eip3009.digest(DOMAIN, signed) == hash_eip3009_authorization(theirs, 84532, USDC, "USDC", "2")


def test_signatures_are_those_of_eth_account() -> None:
    message = encode_typed_data(
        domain_data={"name": "USDC", "version": "2", "chainId": 84532, "verifyingContract": USDC},
        message_types={
            "TransferWithAuthorization": [
                {"name": "from", "type": "address"},
                {"name": "to", "type": "address"},
                {"name": "value", "type": "uint256"},
                {"name": "validAfter", "type": "uint256"},
                {"name": "validBefore", "type": "uint256"},
                {"name": "nonce", "type": "bytes32"},
            ]
        },
        message_data=typed_data(TRANSFER),
    )
    theirs = bytes(Account.from_key(KEY.hex()).sign_message(message).signature)
    assert KEY.sign_digest(eip3009.digest(DOMAIN, TRANSFER)) == theirs
    assert eip3009.recover(DOMAIN, TRANSFER, theirs) == KEY.address


@pytest.mark.parametrize(
    "domain",
    [
        replace(DOMAIN, name="USD Coin"),
        replace(DOMAIN, version="1"),
        replace(DOMAIN, chain_id=84531),
        replace(DOMAIN, contract=PAY_TO),
    ],
)
def test_every_part_of_the_domain_is_signed(domain: TokenDomain) -> None:
    signature = KEY.sign_digest(eip3009.digest(DOMAIN, TRANSFER))
    assert eip3009.recover(domain, TRANSFER, signature) != KEY.address


def test_the_key_has_one_spelling() -> None:
    assert TRANSFER.key == f"{KEY.address.lower()}:0x{'11' * 32}"
    assert replace(TRANSFER, sender=KEY.address.lower()).key == TRANSFER.key
