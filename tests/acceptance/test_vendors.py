"""From a buyer's request to the stored file, for every offering of every vendor; and what vendors may do to a sale."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest

from stablestudio import provider_settings
from stablestudio.catalog import Kind, LifecycleState, Offering
from stablestudio.media.probe import probe
from stablestudio.provider_settings import ProviderSettings
from stablestudio.providers.bfl import Bfl
from stablestudio.providers.dashscope import DashScope
from stablestudio.providers.fal import Fal
from stablestudio.providers.faults import SENTENCES
from stablestudio.providers.gemini import Gemini
from stablestudio.providers.interactions import Interactions
from stablestudio.providers.modelark import ModelArk
from stablestudio.providers.openai_images import OpenAIImages
from stablestudio.providers.openai_videos import OpenAIVideos
from stablestudio.providers.openrouter import OpenRouter
from stablestudio.providers.provider import FailureKind
from stablestudio.providers.replicate import Replicate
from stablestudio.providers.vertex_veo import VertexVeo
from stablestudio.providers.xai import Xai
from stablestudio.server.providers import served
from tests.acceptance.stands import SECRET_WORDS, VENDORS, Stand, Turn, with_tasks
from tests.acceptance.vendors import OF, Plan, Shop, Street, body, keys_in
from tests.chaos.audit import audit
from tests.chaos.zygote import Zygote
from tests.providers.fakes.replicate import FakeReplicate
from tests.providers.loopback import Answer, Request, Silence

_DOCS = Path(__file__).parents[2] / "docs"
# Only its table of models is looked at.
ADAPTERS: Mapping[str, Any] = {
    "openai-images": OpenAIImages,
    "openai-videos": OpenAIVideos,
    "xai": Xai,
    "gemini": Gemini,
    "interactions": Interactions,
    "vertex-veo": VertexVeo,
    "bfl": Bfl,
    "modelark": ModelArk,
    "dashscope": DashScope,
    "fal": Fal,
    "replicate": Replicate,
    "openrouter": OpenRouter,
}


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    process = Zygote()
    yield process
    process.close()


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    with Street() as opened:
        yield opened


def word(key: str) -> str:
    """Return what marks the order of an offering, wherever its prompt goes."""
    return f"[{key}]"


# Vendors that make different things share a service: a start takes longer than what is sold in it.
_TOGETHER = [
    ("openai-images", "openai-videos", "xai", "gemini", "vertex-veo", "bfl", "modelark", "dashscope"),
    ("interactions", "openrouter"),
    ("fal",),
    ("replicate",),
]


def test_no_vendor_is_left_out() -> None:
    assert sorted(name for names in _TOGETHER for name in names) == sorted(VENDORS) == sorted(ADAPTERS)
    assert set(get_args(provider_settings.Kind)) - {"sandbox"} == set(VENDORS)


@pytest.mark.parametrize("names", _TOGETHER, ids="+".join)
def test_every_offering_of_a_vendor_is_made_by_one_submission_and_delivered(
    names: Sequence[str], street: Street, zygote: Zygote, data: Path
) -> None:
    stands = {name: street.stand(name) for name in names}
    settings = {name: VENDORS[name].configured(name, stands[name].server.url) for name in names}
    wanted = [
        (name, key, model)
        for name in names
        for key, model in served(ProviderSettings(**settings[name]), ADAPTERS[name]).items()
    ]
    with Shop(data, Plan(providers=settings), zygote=zygote) as shop:
        assert sorted(on_sale(shop)) == sorted(key for _, key, _ in wanted)
        jobs = {key: shop.order(key, word(key), **VENDORS[name].inputs.get(key, {})) for name, key, _ in wanted}
        for name, key, model in wanted:
            job = shop.buyer.wait(jobs[key])
            assert job["status"] == "complete", (key, job)
            assert job["upstreamModel"].removesuffix("/edit").startswith(model), (key, job)
            expect_file(job, OF[key], VENDORS[name].pixels(body(key), OF[key]))
            assert stands[name].orders(word(key)) == 1, key
        expect_books_in_order(shop)


def on_sale(shop: Shop) -> set[str]:
    models = shop.buyer.http.get("/api/models").json()["models"]
    return {f"{each['model']}/{each['operation']}" for each in models if each["available"]} & set(OF)


def expect_file(job: dict[str, Any], offering: Offering, pixels: tuple[int, int]) -> None:
    """Check that what was bought can be had, and is what it is said to be."""
    result = job["result"]
    asked: Any = offering.read(json.dumps(offering.input.example).encode()).output()
    is_clip = offering.kind is Kind.VIDEO
    answer = httpx2.get(result["videoUrl" if is_clip else "imageUrl"], trust_env=False)
    seen = probe(answer.content)
    kind = "video/mp4" if is_clip else f"image/{asked.format}"
    assert (answer.status_code, answer.headers["content-type"], seen.content_type) == (200, kind, kind)
    assert (seen.width, seen.height) == (result["width"], result["height"]) == pixels
    assert "thumbnailUrl" in result
    assert ("posterUrl" in result) == is_clip


# What vendors may do to a sale


@pytest.mark.parametrize("name", VENDORS)
def test_refused_work_is_paid_back_in_clean_words(name: str, wary: Trade) -> None:
    vendor = VENDORS[name]
    job = wary.shop.buyer.wait(wary.job[name])
    expect_refund(job, "moderation")
    assert job["error"] == SENTENCES[FailureKind.MODERATION]
    assert not leaks(job)
    assert (wary.stands[name].orders(word(vendor.bought)), wary.orders_of_spare(name, word(vendor.bought))) == (1, 0)


@pytest.mark.parametrize("name", VENDORS)
def test_a_second_provider_makes_what_the_first_certainly_did_not_take(name: str, wary: Trade) -> None:
    key = VENDORS[name].other
    job = wary.shop.buyer.wait(wary.job[f"{name}-other"])
    assert job["status"] == "complete", job
    assert (wary.stands[name].orders(word(key)), wary.orders_of_spare(name, word(key))) == (1, 1)


@pytest.mark.parametrize("name", VENDORS)
def test_a_second_provider_is_not_asked_where_the_first_may_have_taken_it(name: str, wary: Trade) -> None:
    lost = f"[{name}-lost]"
    expect_refund(wary.shop.buyer.wait(wary.job[lost]), "upstream_unknown")
    assert (wary.stands[name].orders(lost), wary.orders_of_spare(name, lost)) == (1, 0)


@pytest.mark.parametrize("name", VENDORS)
@pytest.mark.parametrize("trouble", ["moderated", "error", "reset", "silent"])
def test_a_submission_is_never_repeated_and_its_failure_is_paid_back(name: str, trouble: str, plagued: Trade) -> None:
    job = plagued.shop.buyer.wait(plagued.job[f"{name}-{trouble}"])
    expect_refund(job, "moderation" if trouble == "moderated" else "upstream_unknown")
    assert not leaks(job)
    assert plagued.stands[name].orders(f"[{name}-{trouble}]") == 1


@pytest.mark.parametrize("name", VENDORS)
def test_after_a_vendor_had_no_credit_for_us_nobody_is_asked_to_pay(name: str, plagued: Trade) -> None:
    key = VENDORS[name].other
    job = plagued.shop.buyer.wait(plagued.job[f"{name}-broke"])
    expect_refund(job, "upstream_quota")
    assert not leaks(job)
    assert plagued.stands[name].orders(f"[{name}-broke]") == 1
    answer = plagued.shop.buyer.http.post(OF[key].path, json=body(key))
    assert (answer.status_code, answer.json()["code"], answer.json()["charged"]) == (503, "offering_interrupted", False)
    assert "PAYMENT-REQUIRED" not in answer.headers
    assert key not in on_sale(plagued.shop)


# Stops, slowness, one key


@dataclass(frozen=True, kw_only=True)
class Death:
    """A process that dies while it asks a vendor, and what becomes of the job: nobody is ever asked twice."""

    vendor: str
    place: str
    orders: int  # seen by the vendor in the end
    ends: str

    def __str__(self) -> str:
        return f"{self.vendor}-{self.place}"


DEATHS = [
    Death(vendor="openai-images", place="make.intended", orders=0, ends="failed"),
    Death(vendor="openai-images", place="make.asked", orders=1, ends="complete"),  # the answer was the result, and kept
    Death(vendor="fal", place="make.intended", orders=0, ends="failed"),
    Death(vendor="fal", place="make.asked", orders=1, ends="failed"),  # it has no list of tasks
    Death(vendor="replicate", place="make.asked", orders=1, ends="complete"),  # found in its list
]


@pytest.mark.parametrize("death", DEATHS, ids=str)
def test_a_kill_around_the_question_never_makes_two(death: Death, street: Street, zygote: Zygote, data: Path) -> None:
    vendor, stand = VENDORS[death.vendor], street.stand(death.vendor)
    key = "flux-2-pro/generate" if death.vendor == "replicate" else vendor.bought
    plan = Plan(providers={death.vendor: vendor.configured(death.vendor, stand.server.url)})
    with Shop(data, plan, zygote=zygote, failpoint=death.place) as shop:
        path, ordered = OF[key].path, body(key, word(key))
        payment = shop.buyer.sign(path, ordered)
        with suppress(httpx2.TransportError):
            shop.buyer.pay(path, ordered, payment)
        assert shop.wait_dead() == -signal.SIGKILL
        shop.start()
        (job,) = shop.buyer.jobs()
        ended = shop.buyer.wait(job["jobId"])
        assert (ended["status"], ended["payment"]["state"]) == (
            death.ends,
            "charged" if death.ends == "complete" else "refunded",
        )
        expect_books_in_order(shop)
    assert stand.orders(word(key)) == death.orders


def test_a_slow_vendor_does_not_slow_another(street: Street, zygote: Zygote, data: Path) -> None:
    slow, quick = street.stand("xai"), street.stand("gemini")
    slow.front.rules["[grok/generate]"] = answering_after(slow, 30.0)
    plan = Plan(
        providers={
            "xai": VENDORS["xai"].configured("xai", slow.server.url, at_once=1),
            "gemini": VENDORS["gemini"].configured("gemini", quick.server.url),
        }
    )
    with Shop(data, plan, zygote=zygote) as shop:
        waiting = [shop.order("grok/generate", word("grok/generate"), str(number)) for number in range(10)]
        began = time.monotonic()
        job = shop.buyer.wait(shop.order("nano-banana/generate", imageSize="512"))
        assert job["status"] == "complete"
        assert time.monotonic() - began < 25
        assert slow.orders(word("grok/generate")) <= 2  # one at a time
        assert {shop.buyer.job(each)["status"] for each in waiting[2:]} <= {"pending", "loading"}


def test_a_task_past_its_deadline_is_called_off_and_paid_back(street: Street, zygote: Zygote, data: Path) -> None:
    stand = street.open(with_tasks(FakeReplicate, {"status": "processing"})(refusing=True))
    settings = VENDORS["replicate"].configured("replicate", stand.server.url, deadline_seconds=1)
    with Shop(data, Plan(providers={"replicate": settings}), zygote=zygote) as shop:
        job = shop.buyer.wait(shop.order("flux-2-pro/generate"))
        expect_refund(job, "upstream_timeout")
        assert "did not finish within 1 second" in job["error"]
        expect_books_in_order(shop)
    assert [request.path.rpartition("/")[2] for request in stand.server.asked].count("cancel") == 1


def test_a_stop_waits_for_the_vendor_whose_answer_is_the_result(street: Street, zygote: Zygote, data: Path) -> None:
    stand, key = street.stand("gemini"), VENDORS["gemini"].bought
    stand.front.rules[word(key)] = answering_after(stand, 2.0)
    plan = Plan(providers={"gemini": VENDORS["gemini"].configured("gemini", stand.server.url)})
    with Shop(data, plan, zygote=zygote) as shop:
        job = shop.order(key, word(key))
        while not stand.orders(word(key)):
            time.sleep(0.01)
        began = time.monotonic()
        shop.stop()
        assert time.monotonic() - began > 1
        shop.start()
        assert shop.buyer.wait(job)["status"] == "complete"
    assert stand.orders(word(key)) == 1


def test_one_key_for_an_aggregator_sells_all_that_its_vendors_have_not_ended(
    street: Street, zygote: Zygote, data: Path
) -> None:
    plan = Plan(providers={"fal": VENDORS["fal"].configured("fal", street.stand("fal").server.url)})
    with Shop(data, plan, zygote=zygote) as shop:
        sold = on_sale(shop)
        answers = {key: shop.buyer.http.post(OF[key].path, json=body(key)) for key in set(OF) - sold}
    ended = {key for key, offering in OF.items() if offering.lifecycle.state is LifecycleState.RETIRED}
    assert set(OF) - sold == ended
    assert ended == {"gpt-image-1/generate", "gpt-image-1/edit", "sora-2/generate", "sora-2-pro/generate"}
    assert f"`fal` serves {len(sold)} of the {len(OF)} offerings" in (_DOCS / "providers.md").read_text()
    for key, answer in answers.items():
        assert (answer.status_code, answer.json()["code"]) == (410, "offering_retired")
        assert str(OF[key].lifecycle.successor) in answer.json()["error"]


def test_an_input_that_no_vendor_can_make_is_refused_before_any_money_is_asked_or_taken(
    street: Street, zygote: Zygote, data: Path
) -> None:
    stands = {name: street.stand(name) for name in ("modelark", "openrouter")}  # both read clips by address only
    plan = Plan(providers={name: VENDORS[name].configured(name, stand.server.url) for name, stand in stands.items()})
    path, asked = OF["seedance/i2v"].path, body("seedance/i2v", "[unreachable]")
    frames = {"mode": "keyframe", "urls": asked["urls"][:1], "urlMediaTypes": ["image"], "prompt": "x"}
    makeable = {name: value for name, value in asked.items() if name != "audioUrls"} | frames
    with Shop(data, plan, zygote=zygote) as shop:
        unpaid = shop.buyer.http.post(path, json=asked)
        paid = shop.buyer.pay(path, asked, shop.buyer.sign(path, makeable))
        assert shop.buyer.jobs() == []
    for answer in (unpaid, paid):
        told = answer.json()
        assert (answer.status_code, told["code"], told["charged"]) == (400, "invalid_input", False)
        assert [issue["path"] for issue in told["issues"]] == [["urls", 1]]
        assert "public https address" in told["issues"][0]["message"]
        assert "PAYMENT-REQUIRED" not in answer.headers
    assert not any(stand.orders("[unreachable]") for stand in stands.values())


def answering_after(stand: Stand, seconds: float) -> Callable[[Request], Awaitable[Turn]]:
    async def answer(request: Request) -> Turn:
        await asyncio.sleep(seconds)
        return stand.front.inner(request)

    return answer


@dataclass(frozen=True, kw_only=True)
class Trade:
    """A service with all vendors, and what was bought there."""

    shop: Shop
    stands: Mapping[str, Stand]
    job: dict[str, str] = field(default_factory=dict)

    def orders_of_spare(self, name: str, marked: str) -> int:
        return self.stands[f"{name}-spare"].orders(marked)


@pytest.fixture(scope="module")
def wary(street: Street, zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trade]:
    """Vendors that refuse what they made, and have a second one behind them for what their key is not good for."""
    plan = Plan()
    stands: dict[str, Stand] = {}
    for name, vendor in VENDORS.items():
        stands |= {name: street.stand(name, refusing=True), f"{name}-spare": street.stand(name)}
        for each in (name, f"{name}-spare"):
            plan.providers[each] = vendor.configured(name, stands[each].server.url)
        plan.bindings |= {key: [name, f"{name}-spare"] for key in (vendor.bought, vendor.other)}
        stands[name].front.rules |= {word(vendor.other): vendor.unauthorised, f"[{name}-lost]": Answer(status=500)}
    with Shop(tmp_path_factory.mktemp("wary") / "data", plan, zygote=zygote) as shop:
        trade = Trade(shop=shop, stands=stands)
        for name, vendor in VENDORS.items():
            inputs = vendor.inputs.get(vendor.other, {})
            trade.job[f"[{name}-lost]"] = shop.order(vendor.other, f"[{name}-lost]", **inputs)
        for job in trade.job.values():
            shop.buyer.wait(job)  # before the first provider is passed over
        for name, vendor in VENDORS.items():
            for label, key in ((name, vendor.bought), (f"{name}-other", vendor.other)):
                trade.job[label] = shop.order(key, word(key), **vendor.inputs.get(key, {}))
        yield trade
        expect_books_in_order(shop)


@pytest.fixture(scope="module")
def plagued(street: Street, zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trade]:
    """Vendors that fail in every way after they have read an order."""
    plan = Plan()
    stands: dict[str, Stand] = {}
    for name, vendor in VENDORS.items():
        stands[name] = street.stand(name)
        stands[name].front.rules |= {
            f"[{name}-moderated]": vendor.moderated,
            f"[{name}-error]": Answer(status=500, json={"error": {"message": SECRET_WORDS}}),
            f"[{name}-reset]": Silence.RESET,
            f"[{name}-silent]": Silence.HANG,
            f"[{name}-broke]": vendor.broke,
        }
        plan.providers[name] = vendor.configured(name, stands[name].server.url, timeout_seconds=2)
        plan.bindings |= {vendor.bought: [name], vendor.other: [name]}
    with Shop(tmp_path_factory.mktemp("plagued") / "data", plan, zygote=zygote) as shop:
        trade = Trade(shop=shop, stands=stands)
        for name, vendor in VENDORS.items():
            for trouble in ("moderated", "error", "reset", "silent", "broke"):
                key = vendor.other if trouble == "broke" else vendor.bought
                inputs = vendor.inputs.get(key, {})
                trade.job[f"{name}-{trouble}"] = shop.order(key, f"[{name}-{trouble}]", **inputs)
        yield trade
        expect_books_in_order(shop)


def expect_books_in_order(shop: Shop) -> None:
    """Wait until nothing is under way; then every order is delivered and charged, or paid back."""
    deadline = time.monotonic() + 30
    while (open_ends := _open_ends(shop)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert open_ends == []


def _open_ends(shop: Shop) -> list[str]:
    # This question is about the sandbox, which makes nothing here.
    return [line for line in audit(shop.database) if not line.startswith("vendor's task that the job does not know")]


def expect_refund(job: Mapping[str, Any], code: str) -> None:
    assert (job["status"], job["errorCode"], job["payment"]["state"]) == ("failed", code, "refunded"), job
    assert job["payment"]["refund"]["amountAtomic"] == job["payment"]["amountAtomic"]


def leaks(job: Mapping[str, Any]) -> bool:
    """Tell whether a failed job shows words of its vendor, but for what the buyer wrote."""
    told = json.dumps({name: value for name, value in job.items() if name != "input"})
    return "zebra" in told or "http" in job["error"] or bool(keys_in(told))
