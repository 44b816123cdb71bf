from __future__ import annotations

import stat
from pathlib import Path

import pytest

from stablestudio.client import Journal, KeyWallet
from stablestudio.client.errors import WalletExists, WalletMissing, WalletUnreadable, WalletUnsafe
from stablestudio.client.wallet import wallet_file

from .builders import ADDRESS, KEY, order


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_wallet_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    environ = {"STABLESTUDIO_HOME": str(tmp_path / "home")}
    made = KeyWallet.create(environ=environ)
    assert mode(wallet_file(environ=environ)) == 0o600
    assert mode(tmp_path / "home") == 0o700
    assert KeyWallet.load(environ=environ).address == made.address


def test_a_wallet_is_never_overwritten(tmp_path: Path) -> None:
    environ = {"STABLESTUDIO_HOME": str(tmp_path)}
    KeyWallet.create(environ=environ)
    before = wallet_file(environ=environ).read_bytes()
    with pytest.raises(WalletExists):
        KeyWallet.create(environ=environ)
    assert wallet_file(environ=environ).read_bytes() == before


def test_the_environments_key_goes_before_the_file(tmp_path: Path) -> None:
    environ = {"STABLESTUDIO_HOME": str(tmp_path)}
    KeyWallet.create(environ=environ)
    assert KeyWallet.load(environ=environ | {"STABLESTUDIO_PRIVATE_KEY": f" {KEY}\n"}).address == ADDRESS


def test_a_wallet_that_others_can_read_is_refused(tmp_path: Path) -> None:
    environ = {"STABLESTUDIO_HOME": str(tmp_path)}
    KeyWallet.create(environ=environ)
    wallet_file(environ=environ).chmod(0o640)
    with pytest.raises(WalletUnsafe):
        KeyWallet.load(environ=environ)


def test_no_wallet_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(WalletMissing) as caught:
        KeyWallet.load(environ={"STABLESTUDIO_HOME": str(tmp_path)})
    assert "wallet create" in caught.value.advice


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"privateKey": 5}', '{"privateKey": "0x00"}'])
def test_a_file_that_is_no_wallet_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "wallet.json"
    path.touch(mode=0o600)
    path.write_text(content)
    with pytest.raises(WalletUnreadable):
        KeyWallet.load(environ={"STABLESTUDIO_HOME": str(tmp_path)})


def test_a_key_never_shows_itself() -> None:
    wallet = KeyWallet.from_hex(KEY)
    assert KEY[2:] not in f"{wallet} {wallet!r} {vars(wallet)}"
    with pytest.raises(WalletUnreadable) as caught:
        KeyWallet.from_hex("secret words")
    assert "secret" not in str(caught.value) + repr(caught.value.__cause__)


def test_an_order_is_kept_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "orders")
    journal.write(order())
    journal.write(order(job_id="job_0"))
    (path,) = (tmp_path / "orders").iterdir()
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert journal.find(order().key) == order(job_id="job_0") == journal.of_job("job_0")


def test_the_signed_payment_does_not_show_in_logs() -> None:
    assert "signed" not in repr(order())


def test_what_is_no_order_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note.json").write_text("{}")
    (tmp_path / "torn.json").write_text('{"key": "ord')
    journal = Journal(tmp_path)
    assert journal.orders() == []
    assert len(list(tmp_path.iterdir())) == 2


def test_an_order_whose_key_could_leave_the_folder_is_no_order(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="key"):
        order(key="../../0123456789abcdef")


def test_an_order_is_held_by_one_at_a_time_and_let_go_at_the_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "orders")
    with journal.hold("order_0123456789abcdef") as ours:
        assert ours
        with Journal(tmp_path / "orders").hold("order_0123456789abcdef") as too:
            assert not too
    with journal.hold("order_0123456789abcdef") as ours:
        assert ours


def test_orders_come_oldest_first(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for key, day in (("order_a_0123456789abcdef", "03"), ("order_b_0123456789abcdef", "01")):
        journal.write(order(key=key, created_at=f"2026-11-{day}T00:00:00.000Z"))
    assert [each.key[6] for each in journal.orders()] == ["b", "a"]
