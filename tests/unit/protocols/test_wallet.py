from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.protocols.wallet import InvalidWallet, Wallet

from .builders import KEY, SOLANA_KEY


def test_an_evm_wallet_is_the_same_on_every_chain_and_in_every_case() -> None:
    wallets = {
        Wallet.parse("eip155:84532", KEY.address),
        Wallet.parse("eip155:42431", KEY.address.lower()),
        Wallet.parse("eip155", "0x" + KEY.address[2:].upper()),
        Wallet(namespace="eip155", address=KEY.address),
    }
    assert [str(wallet) for wallet in wallets] == [f"eip155:{KEY.address.lower()}"]
    assert wallets.pop().display == KEY.address


def test_a_solana_wallet_keeps_its_case() -> None:
    wallet = Wallet.parse("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", SOLANA_KEY.address)
    assert wallet.address == wallet.display == SOLANA_KEY.address
    with pytest.raises(InvalidWallet):
        Wallet.parse("solana", SOLANA_KEY.address + "1")


@pytest.mark.parametrize(
    ("chain", "address"),
    [
        ("eip155:84532", SOLANA_KEY.address),
        ("solana:devnet", KEY.address),
        ("cosmos:hub", KEY.address),
        ("", KEY.address),
        ("eip155:84532", KEY.address[2:]),
        ("eip155:84532", f" {KEY.address}"),
    ],
)
def test_an_address_of_another_family_is_refused(chain: str, address: str) -> None:
    with pytest.raises(InvalidWallet):
        Wallet.parse(chain, address)


@given(chain=st.text() | st.sampled_from(["eip155:1", "solana:x"]), address=st.text())
def test_any_text_is_a_wallet_or_an_invalid_wallet(chain: str, address: str) -> None:
    with pytest.raises(InvalidWallet):
        Wallet.parse(chain, address)
