"""What an operator sees of providers, and what each vendor is asked when it is checked: never for work."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner, Result

from stablestudio.cli import main
from stablestudio.cli import providers as command
from stablestudio.provider_settings import Kind
from stablestudio.server.providers import MADE
from tests.providers.fakes import (
    bfl,
    dashscope,
    fal,
    gemini,
    interactions,
    modelark,
    openai_images,
    openai_videos,
    openrouter,
    replicate,
    tasks,
    vertex,
    xai,
)
from tests.providers.loopback import Answer, Handler, Loopback, Request, Silence, serving

_V1 = "/v1"
# By kind: the vendor, the path of its base, a key that it takes.
VENDORS: Mapping[str, tuple[Callable[[], Handler], str, str]] = {
    "openai-images": (openai_images.FakeOpenAIImages, _V1, openai_images.KEY),
    "openai-videos": (openai_videos.FakeOpenAIVideos, _V1, openai_images.KEY),
    "xai": (xai.FakeXai, _V1, xai.KEY),
    "gemini": (gemini.FakeGemini, _V1, gemini.KEY),
    "interactions": (interactions.FakeInteractions, _V1, gemini.KEY),
    "vertex-veo": (vertex.FakeVertex, "/v1beta1", ""),
    "bfl": (bfl.FakeBfl, _V1, bfl.KEY),
    "modelark": (lambda: modelark.FakeModelArk().answer, "", tasks.KEY),
    "dashscope": (lambda: dashscope.FakeDashScope().answer, "", tasks.KEY),
    "fal": (lambda: fal.FakeFal().answer, "", tasks.KEY),
    "replicate": (lambda: replicate.FakeReplicate().answer, "", tasks.KEY),
    "openrouter": (lambda: openrouter.FakeOpenRouter().answer, "", tasks.KEY),
}
# What is free to POST: a sign-in, and a question about an operation.
_FREE_POSTS = ("/token", ":fetchPredictOperation")


@dataclass(frozen=True)
class Desk:
    """A folder with settings in it, and the command line there."""

    folder: Path

    def write(self, *lines: str) -> None:
        (self.folder / "stablestudio.toml").write_text("\n".join(lines))

    def configure(self, name: str, kind: str, **values: str) -> None:
        file = self.folder / "stablestudio.toml"
        told = [
            f"[providers.{name}]",
            f'kind = "{kind}"',
            *(f"{key} = {json.dumps(each)}" for key, each in values.items()),
        ]
        file.write_text((file.read_text() if file.exists() else "") + "\n".join(told) + "\n")

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["providers", *arguments], catch_exceptions=False)

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        result = self.run(*arguments)
        assert result.exit_code == code, result.output
        document: dict[str, Any] = json.loads(result.stdout)
        return document

    def facts(self, name: str, *arguments: str, code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = next(
            one for one in self.json(*arguments, code=code)["providers"] if one["name"] == name
        )
        return found


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path)


@pytest.fixture
def unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@contextmanager
def running(*handlers: Handler) -> Iterator[list[Loopback]]:
    """Run vendors in a thread of their own, since a command has an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    stack = AsyncExitStack()

    async def start() -> list[Loopback]:
        return [await stack.enter_async_context(serving(handler)) for handler in handlers]

    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def _configure(desk: Desk, kind: str, vendor: Loopback, *, key: str | None = None) -> None:
    _, base, good = VENDORS[kind]
    more = {"token_url": f"{vendor.url}/token"} if kind == "vertex-veo" else {}
    usual = vertex.key_file() if kind == "vertex-veo" else good
    desk.configure(kind, kind, base_url=vendor.url + base, key=usual if key is None else key, **more)


def _spent(vendor: Loopback) -> list[str]:
    """Return what a vendor was asked that is not a question."""
    posts = [request.path for request in vendor.asked if request.method != "GET"]
    return [path for path in posts if not path.endswith(_FREE_POSTS)]


# The list


@pytest.mark.usefixtures("unplugged")
def test_without_settings_the_sandbox_makes_everything(desk: Desk) -> None:
    told = desk.json()
    (sandbox,) = told["providers"]
    assert (sandbox["name"], sandbox["on"], sandbox["address"]) == ("sandbox", True, None)
    assert [each["offering"] for each in sandbox["offerings"]] == [offering.key for offering in MADE]
    assert (told["success"], told["asked"], told["unserved"]) == (True, False, [])


@pytest.mark.usefixtures("unplugged")
def test_a_provider_is_told_with_its_models_and_its_place_in_each_order(desk: Desk) -> None:
    desk.configure("openai", "openai-images", key="k")
    desk.configure("fal", "fal", key="k")
    desk.write(*(desk.folder / "stablestudio.toml").read_text().splitlines(), "at_once = 3")
    openai, aggregator = desk.json()["providers"]
    assert {name: openai[name] for name in ("kind", "on", "why", "address", "atOnce", "unused")} == {
        "kind": "openai-images",
        "on": True,
        "why": None,
        "address": "api.openai.com",
        "atOnce": 16,
        "unused": [],
    }
    assert {"offering": "gpt-image-2/edit", "model": "gpt-image-2", "place": 1, "of": 2} in openai["offerings"]
    assert {"offering": "gpt-image-2/edit", "model": "openai/gpt-image-2", "place": 2, "of": 2} in aggregator[
        "offerings"
    ]
    assert {"offering": "wan-2.6/t2v", "model": "wan/v2.6", "place": 1, "of": 1} in aggregator["offerings"]
    assert aggregator["atOnce"] == 3


@pytest.mark.usefixtures("unplugged")
def test_bindings_and_models_of_the_settings_count(desk: Desk) -> None:
    desk.configure("openai", "openai-images", key="k")
    desk.configure("fal", "fal", key="k")
    lines = (desk.folder / "stablestudio.toml").read_text().splitlines()
    more = [
        'models = { "veo-3.1/generate" = "fal-ai/veo3.1/lite", "grok/edit" = "" }',
        "[bindings]",
        'default = ["fal", "openai"]',
        "gpt-image-2 = []",
    ]
    desk.write(*lines, *more)
    told = desk.json()
    openai, aggregator = told["providers"]
    assert {"offering": "veo-3.1/generate", "model": "fal-ai/veo3.1/lite", "place": 1, "of": 1} in aggregator[
        "offerings"
    ]
    assert {"offering": "gpt-image-1.5/edit", "model": "gpt-image-1.5", "place": 2, "of": 2} in openai["offerings"]
    assert {each["offering"] for each in told["unserved"]} >= {"grok/edit", "gpt-image-2/generate"}
    assert openai["unused"] == ["gpt-image-2/generate", "gpt-image-2/edit"]
    assert {
        "offering": "gpt-image-2/edit",
        "lifecycle": "live",
        "ends": None,
        "successor": None,
        "status": 503,
    } in told["unserved"]


@pytest.mark.usefixtures("unplugged")
def test_what_nobody_serves_is_told_with_its_successor(desk: Desk) -> None:
    desk.configure("flux", "bfl", key="k")
    left = {each["offering"]: each for each in desk.json()["unserved"]}
    assert left.keys() == {offering.key for offering in MADE if not offering.model.startswith("flux-2")}
    assert left["sora-2/generate"] == {
        "offering": "sora-2/generate",
        "lifecycle": "retired",
        "ends": "2026-09-24",
        "successor": "veo-3.1",
        "status": 410,
    }


@pytest.mark.usefixtures("unplugged")
def test_a_provider_without_its_key_is_off_and_says_where_the_key_was_looked_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    desk.configure("flux", "bfl", key="k")
    desk.configure("openai", "openai-images", key="env:NO_SUCH_KEY")
    told = desk.facts("openai")
    assert (told["on"], told["why"], told["offerings"]) == (False, "key is not set (env:NO_SUCH_KEY)", [])
    assert "Off: openai. Next: set what is missing" in desk.run().stderr


@pytest.mark.usefixtures("unplugged")
def test_settings_that_leave_nobody_are_exit_code_2_and_still_told(desk: Desk) -> None:
    desk.configure("openai", "openai-images")
    assert desk.json(code=2)["success"] is False
    assert desk.facts("openai", code=2)["why"] == "key is not set"
    assert "nobody is left who could make anything" in desk.run().stderr


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"key": "sk-…"}, "providers.wrong: key has characters that no key has"),
        ({"key": "k", "base_url": "http://vendor.example"}, "must be https"),
        ({"key": "k", "project": "mars"}, "project is a setting of vertex-veo alone"),
        ({"key": "k", "bodies": "form"}, "bodies is a setting of openai-images and openai-videos alone"),
    ],
)
def test_a_wrong_value_is_exit_code_2_and_named(desk: Desk, values: dict[str, str], part: str) -> None:
    desk.configure("wrong", "fal", **values)
    for arguments in ((), ("check",)):
        told = desk.json(*arguments, code=2)
        assert (told["code"], told["exitCode"]) == ("configuration_invalid", 2)
        assert part in told["error"]
        assert "sk-" not in json.dumps(told)


def test_a_model_for_what_a_vendor_cannot_make_is_exit_code_2(desk: Desk) -> None:
    desk.configure("fal", "fal", key="k")
    desk.write(*(desk.folder / "stablestudio.toml").read_text().splitlines(), 'models = { "sora-2/generate" = "sora" }')
    assert desk.json(code=2)["error"] == "providers.fal: models: fal cannot make 'sora-2/generate'"


def test_people_get_tables(desk: Desk) -> None:
    document = {
        "providers": [
            {
                "name": "flux",
                "kind": "bfl",
                "on": True,
                "why": None,
                "address": "api.bfl.ai",
                "atOnce": 16,
                "offerings": [{"offering": "flux-2-max/edit", "model": "flux-2-max", "place": 1, "of": 2}],
                "unused": ["flux-2-max/generate"],
            },
            {
                "name": "fal",
                "kind": "fal",
                "on": False,
                "why": "key is not set",
                "address": "queue.fal.run",
                "atOnce": 2,
            }
            | {"offerings": [], "unused": []},
        ],
        "unserved": [{"offering": "sora-2/generate", "status": 410}],
    }
    lines = [line.split("  ") for line in command._lines(document)]
    told = [[cell.strip() for cell in line if cell] for line in lines]
    assert told[1] == ["flux", "bfl", "on", "api.bfl.ai", "16", "1 of 2 offerings, first for 1"]
    assert told[2] == ["fal", "fal", "off", "queue.fal.run", "2", "key is not set"]
    assert told[5] == ["flux-2-max/edit", "1 of 2", "flux", "flux-2-max", "live"]
    assert told[8] == ["sora-2/generate", "retired 2026-09-24; successor veo-3.1", "410"]


# The check


def test_every_kind_of_vendor_is_here() -> None:
    assert VENDORS.keys() == set(get_args(Kind)) - {"sandbox"}


def test_every_vendor_proves_its_key_and_none_is_asked_for_work(desk: Desk) -> None:
    with running(*(make() for make, _, _ in VENDORS.values())) as vendors:
        for kind, vendor in zip(VENDORS, vendors, strict=True):
            _configure(desk, kind, vendor)
        told = desk.json("check", "--live")
    assert {one["name"]: (one["state"], one["why"]) for one in told["providers"]} == dict.fromkeys(
        VENDORS, ("ok", None)
    )
    assert (told["success"], told["asked"]) == (True, True)
    assert all(vendor.asked for vendor in vendors)
    assert [_spent(vendor) for vendor in vendors] == [[] for _ in vendors]


def test_a_wrong_key_is_exit_code_1_at_every_vendor_and_is_not_repeated(desk: Desk) -> None:
    kinds = [kind for kind in VENDORS if kind != "vertex-veo"]
    with running(*(VENDORS[kind][0]() for kind in kinds)) as vendors:
        for kind, vendor in zip(kinds, vendors, strict=True):
            _configure(desk, kind, vendor, key="wrong-key")
        told = desk.json("check", "--live", code=1)
    assert {one["name"]: one["state"] for one in told["providers"]} == dict.fromkeys(kinds, "unusable")
    assert all(one["why"].startswith(f"{one['name']} refuses the configured key") for one in told["providers"])
    assert "wrong-key" not in json.dumps(told)


def test_a_key_that_a_vendor_repeats_is_not_printed(desk: Desk) -> None:
    def echo(request: Request) -> Answer:
        told = f"{request.headers.get('authorization')} {request.headers.get('x-key')}"
        return Answer(status=401, json={"error": {"message": f"Incorrect API key provided: {told}"}})

    with running(echo, echo) as (one, other):
        _configure(desk, "openai-images", one, key="sk-very-secret-1")
        _configure(desk, "bfl", other, key="bfl-very-secret-2")
        result = desk.run("check", "--live")

    assert result.exit_code == 1
    assert "Incorrect API key provided" in result.output + result.stderr
    assert "very-secret" not in result.output + result.stderr


def test_an_adapter_that_stumbles_does_not_silence_the_others(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stumble(_: object) -> None:
        raise TypeError("5 is no list")

    monkeypatch.setattr("stablestudio.providers.bfl.Bfl.check", stumble)
    with running(openai_images.FakeOpenAIImages(), bfl.FakeBfl()) as (one, other):
        _configure(desk, "openai-images", one)
        _configure(desk, "bfl", other)
        told = desk.json("check", "--live", code=1)["providers"]

    assert [each["state"] for each in told] == ["ok", "unusable"]
    assert told[1]["why"] == "bfl could not be checked: its answer led to TypeError."


def test_a_sign_in_that_fails_is_told(desk: Desk) -> None:
    fake = vertex.FakeVertex()
    fake.sign_in = Answer(status=400, json={"error": "invalid_grant"})
    with running(fake) as (vendor,):
        _configure(desk, "vertex-veo", vendor)
        (told,) = desk.json("check", "--live", code=1)["providers"]
    assert told["why"].startswith("vertex-veo cannot sign in")


def test_only_those_named_are_asked(desk: Desk) -> None:
    with running(VENDORS["bfl"][0](), VENDORS["xai"][0]()) as (asked, spared):
        _configure(desk, "bfl", asked)
        _configure(desk, "xai", spared)
        told = desk.json("check", "bfl", "bfl", "--live")
    assert [one["name"] for one in told["providers"]] == ["bfl"]
    assert (len(asked.asked), len(spared.asked)) == (1, 0)


def test_the_days_on_which_models_end_are_told(desk: Desk) -> None:
    with running(openai_images.FakeOpenAIImages()) as (vendor,):
        _configure(desk, "openai-images", vendor)
        result = desk.run("check", "--live")
    (told,) = json.loads(result.stdout)["providers"]
    assert told["notices"] == ["gpt-image-1.5 will be shut down on 2026-12-01."]
    assert "model_notice" not in result.stderr
    assert command._report([told])[-1] == f"Notice of openai-images: {told['notices'][0]}"


def test_the_models_that_are_asked_for_here_are_looked_for_and_no_others(desk: Desk) -> None:
    with running(openai_images.FakeOpenAIImages()) as (vendor,):
        _configure(desk, "openai-images", vendor)
        lines = (desk.folder / "stablestudio.toml").read_text().splitlines()
        desk.write(*lines, 'models = { "gpt-image-2/generate" = "my-own", "gpt-image-1/edit" = "" }')
        (told,) = desk.json("check", "--live")["providers"]
    assert sorted(told["notices"]) == [
        "gpt-image-1.5 will be shut down on 2026-12-01.",
        "my-own is not among the models that this key may use.",
    ]


def test_vendors_are_asked_at_the_same_time(desk: Desk) -> None:
    """Each answers only once both are asked: one after the other they would answer never."""
    waiting: list[asyncio.Event] = []

    def together(fake: Handler) -> Handler:
        async def answer(request: Request) -> Answer | Silence:
            event = asyncio.Event()
            waiting.append(event)
            if len(waiting) == 2:
                for each in waiting:
                    each.set()
            await event.wait()
            told = fake(request)
            assert isinstance(told, Answer)
            return told

        return answer

    with running(*(together(VENDORS[kind][0]()) for kind in ("bfl", "replicate"))) as vendors:
        for kind, vendor in zip(("bfl", "replicate"), vendors, strict=True):
            _configure(desk, kind, vendor)
        assert desk.json("check", "--live")["success"] is True


@pytest.mark.usefixtures("unplugged")
@pytest.mark.parametrize(
    ("bindings", "part"),
    [
        ({"gpt-image-2": ["flux"]}, "bindings: flux (bfl) does not make gpt-image-2/generate"),
        ({"flux-9": ["flux"]}, "bindings: flux-9 is no offering, no model and not `default`"),
        ({"flux-2-pro/edits": ["flux"]}, "bindings: flux-2-pro/edits is no offering"),
    ],
)
def test_a_binding_that_means_nothing_is_refused(
    desk: Desk, bindings: dict[str, list[str]], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.configure("flux", "bfl", key="k")
    monkeypatch.setenv("STABLESTUDIO_BINDINGS", json.dumps(bindings))
    assert part in desk.json(code=2)["error"]


@pytest.mark.parametrize("silence", [Silence.HANG, Silence.TRICKLE])
def test_a_vendor_that_does_not_answer_is_given_up(
    desk: Desk, silence: Silence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_BOUND_SECONDS", 0.2)
    with running(lambda _: silence) as (vendor,):
        _configure(desk, "fal", vendor)
        (told,) = desk.json("check", "--live", code=1)["providers"]
    assert (told["state"], told["why"]) == ("unusable", "fal did not answer within 0.2 s.")


@pytest.mark.usefixtures("unplugged")
def test_without_live_nobody_is_asked_and_that_is_said(desk: Desk) -> None:
    desk.configure("flux", "bfl", key="k")
    result = desk.run("check")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert (told["asked"], told["providers"][0]["state"]) == (False, "unasked")
    assert "Nobody was asked. Next: add --live; it costs nothing." in result.stderr


@pytest.mark.usefixtures("unplugged")
def test_a_provider_that_is_off_cannot_be_used(desk: Desk) -> None:
    desk.configure("flux", "bfl")
    desk.configure("toys", "sandbox")
    result = desk.run("check", "--live")
    assert result.exit_code == 1
    assert "Not usable: flux. Next: correct key, address or account, then stablestudio providers check flux --live" in (
        result.stderr
    )
    assert [one["state"] for one in json.loads(result.stdout)["providers"]] == ["off", "ok"]


def test_a_name_that_is_none_is_exit_code_2(desk: Desk) -> None:
    told = desk.json("check", "nobody", code=2)
    assert (told["code"], told["exitCode"]) == ("provider_unknown", 2)
    assert "'nobody' among sandbox" in told["error"]


def test_options_may_stand_before_the_word_check(desk: Desk) -> None:
    result = desk.run("--json", "--data", str(desk.folder), "check")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["asked"] is False
