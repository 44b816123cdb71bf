"""Whatever a file does to its decoder: a clear refusal, little memory and time, and the service goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablestudio.media import decoding
from stablestudio.media.decoder_child import TOO_MUCH
from stablestudio.media.decoding import LIMITS, Decoder, DecoderUnavailable, Limit
from stablestudio.media.probe import Probe, UnreadableMedia
from stablestudio.media.thumbnail import still
from stablestudio.media.transforms import Rewritten
from tests import hostile_files as hostile
from tests import media_samples as samples

pytestmark = pytest.mark.anyio

T = TypeVar("T")

MB = 1 << 20
IMPATIENT = dict.fromkeys(LIMITS, Limit(seconds=1))

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and macOS does not limit address space")


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    opened = Decoder(processes=2)
    yield opened
    opened.close()


@pytest.fixture
async def own() -> AsyncIterator[Callable[..., Decoder]]:
    """Make decoders that end with the test."""
    made: list[Decoder] = []

    def make(**options: Any) -> Decoder:
        made.append(Decoder(**({"processes": 1} | options)))
        return made[-1]

    yield make
    for each in made:
        each.close()


async def outcome(call: Awaitable[T]) -> T | UnreadableMedia:
    try:
        return await call
    except UnreadableMedia as refusal:
        return refusal


def cost_a_child(result: object) -> bool:
    return isinstance(result, UnreadableMedia) and result.message == TOO_MUCH


def pids(decoder: Decoder) -> list[int]:
    return [child._process.pid for child in decoder._children]


def has_ended(pid: int) -> bool:
    """Tell whether a process has ended, although nobody may have asked about it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def is_listed(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def kilobytes(pid: int | str, what: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


async def until(condition: Callable[[], object], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def busy(decoder: Decoder) -> list[decoding._Child]:
    return [child for child in decoder._children if child not in decoder._idle and child.calls]


def is_dropped(decoder: Decoder, child: decoding._Child) -> bool:
    return child not in decoder._children


@pytest.mark.parametrize("name", hostile.REFUSED)
async def test_what_is_no_file_that_is_taken_is_refused_with_advice(decoder: Decoder, name: str) -> None:
    refusal = await outcome(decoder.probe(hostile.REFUSED[name]()))
    assert isinstance(refusal, UnreadableMedia)
    assert not cost_a_child(refusal)
    assert refusal.status == 400
    assert refusal.message.endswith(".")
    assert refusal.advice.startswith(("Send", "Scale"))


@pytest.mark.parametrize("name", hostile.COSTLY)
async def test_a_costly_file_is_read_or_refused_and_the_next_is_read(decoder: Decoder, name: str) -> None:
    data = hostile.COSTLY[name]()
    for verb in (
        decoder.probe(data),
        decoder.thumbnail(data, content_type="image/png"),
        decoder.shrunk(data, max_bytes=2000, types=["image/png"]),
        decoder.cropped(data, size=(64, 64)),
        decoder.reshaped(data, size=(32, 32)),
    ):
        assert not cost_a_child(await outcome(verb))
    assert (await decoder.probe(samples.image())).width == 64


@pytest.mark.parametrize("name", hostile.GOOD)
async def test_a_file_cut_anywhere_is_read_or_refused(decoder: Decoder, name: str) -> None:
    data = hostile.GOOD[name]()
    assert isinstance(await outcome(decoder.probe(data)), Probe)
    lengths = {*range(min(64, len(data))), *range(0, len(data), max(1, len(data) // 60))}
    cut = await asyncio.gather(*(outcome(decoder.probe(data[:length])) for length in sorted(lengths)))
    assert any(isinstance(each, UnreadableMedia) for each in cut)
    assert not any(map(cost_a_child, cut))


_GOOD_BYTES = {name: make() for name, make in hostile.GOOD.items()}


@settings(max_examples=300)
@given(data=st.data())
def test_a_file_with_changed_bytes_is_read_or_refused(decoder: Decoder, data: st.DataObject) -> None:
    file = bytearray(_GOOD_BYTES[data.draw(st.sampled_from(sorted(_GOOD_BYTES)))])
    places = st.integers(0, len(file) - 1)
    for at, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=30)):
        file[at] = value
    start = data.draw(places)
    file[start:start] = data.draw(st.sampled_from([b"", b"\xff" * 8, bytes(64), bytes(file[start : start + 100]) * 5]))
    result = asyncio.run(outcome(decoder.probe(bytes(file))))
    assert isinstance(result, Probe | UnreadableMedia)


@pytest.mark.parametrize(("name", "kind"), [("jpeg and script", "image/jpeg"), ("gif and zip", "image/gif")])
async def test_a_polyglot_is_named_by_what_it_shows(decoder: Decoder, name: str, kind: str) -> None:
    assert (await decoder.probe(hostile.COSTLY[name]())).content_type == kind


async def test_a_files_name_proves_nothing(decoder: Decoder, tmp_path: Path) -> None:
    picture, page = tmp_path / "song.mp3", tmp_path / "picture.png"
    picture.write_bytes(samples.image("JPEG"))
    page.write_bytes(hostile.REFUSED["html"]())
    assert (await decoder.probe(picture)).content_type == "image/jpeg"
    assert isinstance(await outcome(decoder.probe(page)), UnreadableMedia)


async def test_a_file_that_takes_too_long_is_refused_and_the_next_is_read(own: Callable[..., Decoder]) -> None:
    decoder = own(limits={**LIMITS, "thumbnail": Limit(seconds=1)})
    endless = hostile.jpeg_of_many_scans()
    with pytest.raises(UnreadableMedia, match="too much time") as refusal:
        await decoder.thumbnail(endless, content_type="image/jpeg")
    assert "smaller or shorter" in refusal.value.advice
    assert (await decoder.probe(samples.image())).width == 64


async def test_packets_without_end_are_refused_in_time(own: Callable[..., Decoder]) -> None:
    decoder = own(limits=IMPATIENT)
    refusal = await outcome(decoder.probe(hostile.webm_of_tiny_packets(4_000_000)))
    assert isinstance(refusal, UnreadableMedia)
    assert refusal.message == TOO_MUCH


async def test_a_child_that_stands_still_is_not_waited_for(own: Callable[..., Decoder]) -> None:
    decoder = own(limits={**LIMITS, "thumbnail": Limit(seconds=1)})
    await decoder.probe(samples.image())
    (still_one,) = pids(decoder)
    os.kill(still_one, signal.SIGSTOP)
    with pytest.raises(UnreadableMedia, match="too much time"):
        await decoder.thumbnail(samples.image(), content_type="image/png")
    assert (await decoder.probe(samples.image())).width == 64
    assert still_one not in pids(decoder)


@on_linux
async def test_a_file_that_takes_too_much_memory_is_refused_and_the_child_lives(own: Callable[..., Decoder]) -> None:
    decoder = own(limits={**LIMITS, "thumbnail": Limit(memory=200 * MB)})
    await decoder.probe(samples.image())
    before = pids(decoder)
    with pytest.raises(UnreadableMedia, match="memory to read"):
        await decoder.thumbnail(samples.image(size=(6000, 6000)), content_type="image/png")
    assert (await decoder.probe(samples.image())).width == 64
    assert pids(decoder) == before


@on_linux
async def test_hostile_files_make_neither_the_child_nor_the_service_large(own: Callable[..., Decoder]) -> None:
    decoder = own()
    await decoder.probe(samples.image())
    large = samples.image("WEBP", size=(6000, 6000))
    before = kilobytes("self", "VmRSS")
    for data in (large, hostile.REFUSED["png of 20,000 x 20,000"](), hostile.COSTLY["png with a text of 600 MB"]()) * 3:
        await outcome(decoder.probe(data))
    await decoder.thumbnail(large, content_type="image/webp")
    grown = kilobytes("self", "VmRSS") - before
    (child,) = pids(decoder)
    assert grown < 64 * 1024
    assert 100 * 1024 < kilobytes(child, "VmHWM") < 1024 * 1024
    assert kilobytes(child, "VmPeak") <= 1024 * 1024


@on_linux
async def test_a_large_file_on_disk_is_read_by_nobody_into_memory(own: Callable[..., Decoder], tmp_path: Path) -> None:
    size = 200 * MB
    song = tmp_path / "song.wav"
    with song.open("wb") as file:
        head = bytearray(samples.wav()[:44])
        head[40:44] = size.to_bytes(4, "little")
        file.write(head)
        file.truncate(44 + size)  # a hole: no disk is needed for silence
    decoder = own()
    before = kilobytes("self", "VmRSS")
    found = await decoder.probe(song)
    assert found.seconds == pytest.approx(size / 16_000)
    assert kilobytes("self", "VmRSS") - before < 32 * 1024
    assert kilobytes(pids(decoder)[0], "VmHWM") < 120 * 1024


@on_linux
async def test_a_child_has_no_secrets_and_cannot_write_files(
    own: Callable[..., Decoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STABLESTUDIO_SECRET", "hush")
    decoder = own()
    await decoder.probe(samples.image())
    home = Path(f"/proc/{pids(decoder)[0]}")
    limits = {line[:25].strip(): line[25:].split()[:2] for line in (home / "limits").read_text().splitlines()[1:]}
    assert b"hush" not in (home / "environ").read_bytes()
    assert limits["Max file size"] == limits["Max core file size"] == ["0", "0"]
    assert limits["Max open files"] == ["16", "16"]
    assert limits["Max address space"][0] == str(LIMITS["probe"].memory)
    assert len(list((home / "fd").iterdir())) <= 4
    assert kilobytes(home.name, "NoNewPrivs") == 1


async def test_a_child_that_is_killed_in_the_midst_is_replaced_and_the_file_is_read(
    own: Callable[..., Decoder],
) -> None:
    decoder = own()
    await decoder.probe(samples.image())
    (first,) = pids(decoder)
    os.kill(first, signal.SIGSTOP)
    call = asyncio.create_task(decoder.probe(samples.clip()))
    await until(lambda: busy(decoder))
    os.kill(first, signal.SIGKILL)
    assert (await call).kind == "video"
    assert first not in pids(decoder)


async def test_a_file_that_ends_two_children_is_refused(own: Callable[..., Decoder]) -> None:
    decoder = own()
    call = asyncio.create_task(decoder.thumbnail(hostile.jpeg_of_many_scans(), content_type="image/jpeg"))
    for _ in range(2):
        await until(lambda: busy(decoder))
        (child,) = busy(decoder)
        child._process.send_signal(signal.SIGKILL)
        await until(partial(is_dropped, decoder, child))
    with pytest.raises(UnreadableMedia, match="time or memory"):
        await call
    assert (await decoder.probe(samples.image())).width == 64


async def test_a_child_that_died_between_calls_is_replaced(own: Callable[..., Decoder]) -> None:
    decoder = own()
    for _ in range(3):
        assert (await decoder.probe(samples.image())).width == 64
        (pid,) = pids(decoder)
        os.kill(pid, signal.SIGKILL)
        await until(partial(has_ended, pid))


async def test_one_hostile_file_among_fifty_disturbs_no_other(own: Callable[..., Decoder]) -> None:
    decoder = own(processes=2, limits={**LIMITS, "thumbnail": Limit(seconds=2)})
    files = [_GOOD_BYTES[name] for name in ("png", "mp4", "wav", "webp", "webm", "gif", "jpeg")] * 7
    endless = asyncio.create_task(decoder.thumbnail(hostile.jpeg_of_many_scans(), content_type="image/jpeg"))
    found = await asyncio.gather(*(decoder.probe(data) for data in files))
    assert [each.kind for each in found] == ["image", "video", "audio", "image", "video", "image", "image"] * 7
    with pytest.raises(UnreadableMedia, match="time or memory"):
        await endless
    assert len(pids(decoder)) <= 2


async def test_children_are_renewed_after_many_calls(
    own: Callable[..., Decoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_CALLS_EACH", 3)
    decoder = own()
    first: list[int] = []
    for _ in range(4):
        assert (await decoder.probe(samples.image())).width == 64
        first = first or pids(decoder)
    assert pids(decoder) != first


def test_it_serves_several_event_loops_at_once(decoder: Decoder) -> None:
    async def together() -> list[Any]:
        return await asyncio.gather(*(asyncio.to_thread(asyncio.run, decoder.probe(samples.image())) for _ in range(8)))

    assert {each.width for each in asyncio.run(together())} == {64}


async def test_closing_ends_every_child_and_no_call_blames_its_file(own: Callable[..., Decoder]) -> None:
    decoder = own(processes=2)
    call = asyncio.create_task(decoder.thumbnail(hostile.jpeg_of_many_scans(), content_type="image/jpeg"))
    await until(lambda: busy(decoder))
    await decoder.probe(samples.image())
    ended = pids(decoder)
    assert len(ended) == 2
    decoder.close()
    with pytest.raises(DecoderUnavailable):
        await call
    assert pids(decoder) == []
    # Waited for as well, so not even a zombie is left.
    assert not any(map(is_listed, ended))
    assert (await decoder.probe(samples.image())).width == 64, "closed is not broken"


_PARENT = """
import asyncio, sys
from stablestudio.media.decoding import Decoder
from tests import hostile_files, media_samples

async def main():
    decoder = Decoder(processes=2)
    await decoder.probe(media_samples.image())
    call = asyncio.create_task(decoder.thumbnail(hostile_files.jpeg_of_many_scans(), content_type="image/jpeg"))
    while len(decoder._children) - len(decoder._idle) < 1:
        await asyncio.sleep(0.01)
    await decoder.probe(media_samples.image())
    print(*(child._process.pid for child in decoder._children), flush=True)
    {end}

asyncio.run(main())
"""


@on_linux
@pytest.mark.parametrize("end", ["await call", "import os; os._exit(0)"])
def test_no_child_outlives_a_killed_parent(end: str) -> None:
    command = [sys.executable, "-c", _PARENT.replace("{end}", end)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3], text=True) as parent:
        assert parent.stdout is not None
        orphans = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(orphans) == 2
    asyncio.run(until(lambda: all(map(has_ended, orphans))))


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/python"])
async def test_a_child_that_cannot_start_is_not_the_files_fault(
    own: Callable[..., Decoder], monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    decoder = own()
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(DecoderUnavailable) as outage:
        await decoder.probe(samples.image())
    assert (outage.value.status, outage.value.retryable) == (503, True)
    monkeypatch.undo()
    assert (await decoder.probe(samples.image())).width == 64


async def test_what_a_decoder_trips_over_unforeseen_is_logged_and_refused(
    own: Callable[..., Decoder], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UnreadableMedia):
        await own().converted(samples.image(), content_type="image/unheard-of")
    assert "KeyError" in next(each for each in caplog.records if each.message == "decoder_faulted").__dict__["fault"]


async def test_the_transforms_answer_as_in_this_process(decoder: Decoder) -> None:
    gif, png = samples.image("GIF"), samples.image()
    shrunk = await decoder.shrunk(gif, max_bytes=10_000, types=("image/jpeg",))
    assert isinstance(shrunk, Rewritten)
    assert (shrunk.content_type, shrunk.width, shrunk.height) == ("image/jpeg", 64, 48)
    assert await decoder.shrunk(png, max_bytes=10_000, types=("image/png",)) is None
    cropped = await decoder.cropped(png, size=(20, 30))
    assert cropped is not None
    assert (await decoder.probe(cropped.data)).height == 30
    assert await decoder.cropped(png, size=(64, 48)) is None
    assert await decoder.converted(png, content_type="image/png", within=(64, 64)) is None
    converted = await decoder.converted(png, content_type="image/webp", quality=80, within=(32, 32))
    assert converted is not None
    assert ((await decoder.probe(converted.data)).content_type, converted.width) == ("image/webp", 32)
    reshaped = await decoder.reshaped(samples.clip(), size=(32, 32))
    assert reshaped is not None
    assert (await decoder.probe(reshaped)).width == 32
    assert await decoder.reshaped(samples.clip(), size=(64, 48)) is None
    picture = still(png, at_least=(64, 48))
    assert picture is not None
    assert await asyncio.to_thread(decoder.fitted, png, size=(64, 48)) == picture.tobytes()
    assert await asyncio.to_thread(decoder.fitted, samples.wav(), size=(8, 8)) is None


async def test_pictures_as_large_as_are_taken_fit_into_the_limits(own: Callable[..., Decoder]) -> None:
    decoder = own()
    for format_, mode in (("PNG", "RGBA"), ("JPEG", "CMYK"), ("WEBP", "RGBA")):
        data = samples.image(format_, mode=mode, size=(8000, 5000), colour=None)
        assert (await decoder.probe(data)).width == 8000
        assert await decoder.thumbnail(data, content_type="image/png")
        assert await decoder.cropped(data, size=(512, 512))
