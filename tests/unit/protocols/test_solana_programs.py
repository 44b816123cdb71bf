"""Token accounts have the addresses that the chain gives them, and instructions the bytes that it reads."""

from __future__ import annotations

import random

import pytest

from stablestudio.protocols import solana_programs as programs
from stablestudio.protocols.solana import b58decode, b58encode

USDC = b58decode("4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU")
OWNER = bytes(range(32))


def test_a_known_token_account() -> None:
    # Circle's devnet mint and the system program as owner, derived by solders 0.29.
    assert b58encode(programs.token_account(bytes(32), USDC)) == "27SXXCACcdgCZLU5hwYYjCb4j22H4ovDpHooVJpAJtXw"


def test_token_accounts_are_those_of_the_chains_own_library() -> None:
    pytest.importorskip("solders")
    from solders.pubkey import Pubkey
    from solders.token.associated import get_associated_token_address

    chance = random.Random(4)
    for _ in range(100):
        owner, mint = chance.randbytes(32), chance.randbytes(32)
        for program in (programs.TOKEN, programs.TOKEN_2022):
            expected = get_associated_token_address(Pubkey(owner), Pubkey(mint), Pubkey(program))
            assert programs.token_account(owner, mint, program) == bytes(expected)


def test_points_of_the_curve_are_told_from_others() -> None:
    pytest.importorskip("solders")
    from solders.pubkey import Pubkey

    chance = random.Random(5)
    odd = [bytes(32), b"\xff" * 32, (1).to_bytes(32, "little"), (2**255 - 19).to_bytes(32, "little"), OWNER]
    for key in odd + [chance.randbytes(32) for _ in range(200)]:
        assert programs.is_on_curve(key) == Pubkey(key).is_on_curve(), key.hex()


def test_a_transfer_is_read_back() -> None:
    made = programs.transfer_checked(
        source=b"\x01" * 32, mint=USDC, destination=b"\x02" * 32, authority=OWNER, amount=2**64 - 1, decimals=6
    )

    assert programs.read_transfer_checked(made.data) == programs.TransferChecked(amount=2**64 - 1, decimals=6)
    assert [(account.signer, account.writable) for account in made.accounts] == [
        (False, True), (False, False), (False, True), (True, False),
    ]  # fmt: skip


@pytest.mark.parametrize("data", [b"", b"\x0c", b"\x0c" + bytes(8), b"\x0c" + bytes(10), b"\x03" + bytes(9)])
def test_other_data_is_no_transfer(data: bytes) -> None:
    assert programs.read_transfer_checked(data) is None


@pytest.mark.parametrize("data", [b"", b"\x02" + bytes(3), b"\x02" + bytes(5), b"\x03" + bytes(4)])
def test_other_data_is_no_limit(data: bytes) -> None:
    assert programs.read_unit_limit(data) is None


@pytest.mark.parametrize("data", [b"", b"\x03" + bytes(7), b"\x03" + bytes(9), b"\x02" + bytes(8)])
def test_other_data_is_no_price(data: bytes) -> None:
    assert programs.read_unit_price(data) is None


def test_budgets_are_read_back() -> None:
    assert programs.read_unit_limit(programs.unit_limit(2**32 - 1).data) == 2**32 - 1
    assert programs.read_unit_price(programs.unit_price(2**64 - 1).data) == 2**64 - 1


@pytest.mark.parametrize(("state", "usable"), [("Initialized", True), ("Frozen", False), ("Uninitialized", False)])
def test_a_token_account_is_read_as_the_chain_writes_it(state: str, usable: bool) -> None:  # noqa: FBT001
    pytest.importorskip("solders")
    from solders.pubkey import Pubkey
    from solders.token.state import TokenAccount, TokenAccountState

    theirs = TokenAccount(Pubkey(USDC), Pubkey(OWNER), 77, None, getattr(TokenAccountState, state), None, 0, None)

    read = programs.read_token_account(bytes(theirs))

    assert read == programs.TokenAccount(mint=USDC, owner=OWNER, amount=77, usable=usable)


def test_a_mint_is_read_as_the_chain_writes_it() -> None:
    pytest.importorskip("solders")
    from solders.token.state import Mint

    assert programs.read_decimals(bytes(Mint(None, 10, 9, True, None))) == 9  # noqa: FBT003
    assert programs.read_decimals(bytes(Mint(None, 10, 9, False, None))) is None  # noqa: FBT003


@pytest.mark.parametrize("data", [b"", bytes(81), bytes(164)])
def test_other_accounts_are_neither_mints_nor_token_accounts(data: bytes) -> None:
    assert programs.read_token_account(data) is None
    assert programs.read_decimals(data) is None
