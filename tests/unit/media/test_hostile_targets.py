"""Hostile addresses are refused with a clear error, and nobody is contacted: no look-up, no connection, no datagram."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from stablestudio.catalog import MediaInput
from stablestudio.errors import InvalidInput
from stablestudio.media.addresses import FetchPolicy, FetchRefused
from stablestudio.media.copies import Copies
from stablestudio.media.fetch import FetchFailed, MediaFetcher
from stablestudio.media.inputs import InputReader
from stablestudio.media.intake import Intake
from stablestudio.media.storage import Storage
from stablestudio.store.database import Database
from tests.contacts import answering, heard
from tests.doubles import WALLET, ManualClock, png
from tests.hostile_targets import ANSWERS, TARGETS, Target
from tests.providers.loopback import Answer, serving

pytestmark = pytest.mark.anyio


def test_the_table_names_each_target_once() -> None:
    assert len({target.url for target in TARGETS}) == len({str(target) for target in TARGETS}) == len(TARGETS)


@pytest.mark.parametrize("target", TARGETS, ids=str)
async def test_hostile_target_is_refused_and_nobody_is_contacted(target: Target) -> None:
    with heard() as contacts, pytest.raises(FetchRefused, match=target.told) as caught:
        await MediaFetcher().get(target.url)

    assert contacts == []
    assert (caught.value.status, caught.value.retryable) == (400, False)
    assert "secret" not in str(caught.value.body())


@pytest.mark.parametrize("name", ANSWERS)
async def test_name_with_any_answer_that_is_not_public_is_refused_unconnected(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answering(ANSWERS))

    with heard() as contacts, pytest.raises(FetchRefused) as caught:
        await MediaFetcher().get(f"https://{name}/a.png?token=secret")

    assert contacts == []
    assert caught.value.message == f"{name} is not a public address."  # and neither which nor the query


async def test_name_that_turns_private_between_two_look_ups_is_called_where_it_was_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = {"rebind.example.com": ["93.184.215.14"]}
    look_up = answering(answers)

    def turning(host: object, *arguments: object, **options: object) -> object:
        said = look_up(host, *arguments, **options)
        answers["rebind.example.com"] = ["127.0.0.1"]
        return said

    monkeypatch.setattr(socket, "getaddrinfo", turning)
    with heard() as contacts, pytest.raises(FetchFailed, match="could not be reached"):
        await MediaFetcher().get("https://rebind.example.com/")
    assert contacts == ["socket.connect 93.184.215.14 443"]


async def test_whoever_is_contacted_is_heard() -> None:
    """Else the tests above would prove nothing."""
    with heard() as outside:
        for url in ("https://8.8.8.8/", "https://[2606:4700::1111]:80/", "https://media.example.com/"):
            with pytest.raises(FetchFailed):
                await MediaFetcher().get(url)
    assert outside == [
        "socket.connect 8.8.8.8 443",
        "socket.connect 2606:4700::1111 80",
        "socket.getaddrinfo media.example.com",
    ]

    async with serving(lambda _: Answer(body=png())) as host:
        port = int(host.url.rpartition(":")[2])
        policy = FetchPolicy(
            schemes=frozenset({"http"}),
            ports=frozenset({port}),
            permits=lambda address: address == ip_address("127.0.0.1"),
        )
        with heard() as inside:
            assert (await MediaFetcher(policy=policy).get(host.url)).data == png()
    assert inside == [f"socket.connect 127.0.0.1 {port}"]

    with heard() as datagrams, socket.socket(type=socket.SOCK_DGRAM) as sender, pytest.raises(ConnectionRefusedError):
        sender.sendto(b"x", ("8.8.8.8", 53))
    assert datagrams == ["socket.sendto 8.8.8.8 53"]


class Pointing:
    """An input that points to anything, also to what no route's input would let by."""

    def __init__(self, media: tuple[MediaInput, ...]) -> None:
        self._media = media

    def media(self) -> tuple[MediaInput, ...]:
        return self._media


async def test_the_intake_names_the_field_of_each_hostile_target(database: Database, tmp_path: Path) -> None:
    storage, clock = Storage.at(str(tmp_path / "files")), ManualClock()
    reader = InputReader(database, fetcher=MediaFetcher(), storage=storage)
    intake = Intake(reader, Copies(database, storage=storage, clock=clock), clock=clock)
    media = tuple(
        MediaInput(path=("images", number), kind="image", url=target.url, role="reference")
        for number, target in enumerate(TARGETS)
    )

    with heard() as contacts, pytest.raises(InvalidInput) as caught:
        await intake.check(Pointing(media), wallet=WALLET)  # type: ignore[arg-type] # as far as it is asked

    assert contacts == []
    assert [issue.path for issue in caught.value.issues] == [each.path for each in media]
    assert {issue.code for issue in caught.value.issues} == {"fetch_refused"}
    for issue, target in zip(caught.value.issues, TARGETS, strict=True):
        assert target.told in issue.message
