"""Every vendor protocol behind a front that can be told how to answer: what each is, and how it says no."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from stablestudio.catalog import Kind, Offering
from tests.doubles import png
from tests.media_samples import USUAL_CLIP, USUAL_IMAGE
from tests.providers.fakes import (
    bfl,
    dashscope,
    fal,
    gemini,
    modelark,
    openai_images,
    openrouter,
    replicate,
    vertex,
    xai,
)
from tests.providers.fakes.interactions import FakeInteractions
from tests.providers.fakes.openai_videos import FakeOpenAIVideos
from tests.providers.fakes.tasks import KEY, TaskVendor
from tests.providers.loopback import Answer, Loopback, Request, Silence, serving

Turn = Answer | Silence
Rule = Turn | Callable[[Request], Turn | Awaitable[Turn]]
PICTURE_SIZE = USUAL_IMAGE
SECRET_WORDS = "zebra violates clause 7"
"""What vendors say about refused work in these tests; no buyer may read it."""


def _either(_body: Mapping[str, Any], offering: Offering) -> tuple[int, int]:
    return PICTURE_SIZE if offering.kind is Kind.IMAGE else USUAL_CLIP


class Front:
    """Stands before a fake: an order whose prompt holds the word of a rule gets the answer of that rule."""

    def __init__(self, inner: Callable[[Request], Turn]) -> None:
        self.inner = inner
        self.rules: dict[str, Rule] = {}

    async def __call__(self, request: Request) -> Turn:
        for word, turn in self.rules.items():
            if word.encode() in request.body:
                told = turn(request) if callable(turn) else turn
                return told if isinstance(told, Answer | Silence) else await told
        return self.inner(request)


@dataclass(frozen=True, kw_only=True)
class Stand:
    """One vendor on the loopback."""

    server: Loopback
    front: Front

    def orders(self, word: str) -> int:
        """Return how many submissions held this word: polls never repeat a prompt."""
        return sum(word.encode() in request.body for request in list(self.server.asked))


class Opening(Protocol):
    """Opens a stand; where `refusing`, the vendor's content rules are against all that is ordered."""

    def __call__(self, *, refusing: bool) -> AbstractAsyncContextManager[Stand]: ...


class Making(Protocol):
    def __call__(self, *, refusing: bool) -> Callable[[Request], Turn]: ...


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """A vendor protocol: how its fake is opened and reached, and how it says no."""

    open: Opening
    base: str = ""  # path of the base URL
    key: Callable[[], str] = lambda: KEY
    bought: str  # the offering of tests that need one
    other: str  # the offering of tests that leave it closed
    moderated: Answer  # to a submission
    broke: Answer
    unauthorised: Answer
    settings: Callable[[str], Mapping[str, Any]] = lambda _: {}
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # where it takes less than the example
    pixels: Callable[[Mapping[str, Any], Offering], tuple[int, int]] = _either

    def configured(self, kind: str, url: str, **changes: Any) -> dict[str, Any]:
        """Return the settings of this vendor at `url`."""
        base = {"kind": kind, "key": self.key(), "base_url": url + self.base, "poll_seconds": 0.05}
        return {**base, **self.settings(url), **changes}


def _plain(make: Making) -> Opening:
    @asynccontextmanager
    async def opened(*, refusing: bool) -> AsyncIterator[Stand]:
        front = Front(make(refusing=refusing))
        async with serving(front) as server:
            yield Stand(server=server, front=front)

    return opened


def with_tasks(make: type[TaskVendor], refused: Mapping[str, Any]) -> Opening:
    """Return how a vendor with tasks is opened; where it refuses, each of its tasks says `refused`, for ever."""

    @asynccontextmanager
    async def opened(*, refusing: bool) -> AsyncIterator[Stand]:
        fake = make(states=[refused] if refusing else None)
        # The service fetches nothing from other ports of the loopback, so the store is under the vendor's own.
        front = Front(lambda each: fake._hand_out(each) if each.path.startswith("/result") else fake.answer(each))
        async with serving(front) as server:
            fake.url = fake._store = server.url
            yield Stand(server=server, front=front)

    return opened


@asynccontextmanager
async def _bfl(*, refusing: bool) -> AsyncIterator[Stand]:
    refused = {"status": "Request Moderated", "result": None, "details": {"Moderation Reasons": [SECRET_WORDS]}}
    fake = bfl.FakeBfl(ends=refused if refusing else None)
    store = bfl.FakeStore(size=PICTURE_SIZE)
    front = Front(lambda each: store(each) if each.path.startswith("/task-") else fake(each))
    async with serving(front) as server:
        fake.home = fake.store = server.url
        yield Stand(server=server, front=front)


class _BothKinds(TaskVendor):
    """Makes a clip or a picture, as the model asked for does."""

    model = ""

    @property
    def result_url(self) -> str:
        made = "mp4" if re.search("video|seedance|wan[/-]|veo", self.model) else "png"
        self.content_type = {"mp4": "video/mp4", "png": "image/png"}[made]
        return f"{self._store}/result.{made}"

    def _hand_out(self, request: Request) -> Answer:
        if request.path.endswith(".mp4"):
            return super()._hand_out(request)
        return Answer(body=png(PICTURE_SIZE), headers={"content-type": "image/png"})


class _Fal(_BothKinds, fal.FakeFal):
    def tell(self, request: Request) -> Turn:
        self.model = next((model for task, model in self.applications.items() if task in request.path), "")
        return super().tell(request)

    def _output(self) -> Mapping[str, Any]:
        file = {"url": self.result_url, "content_type": self.content_type}
        return {"video": file} if self.content_type == "video/mp4" else {"images": [file], "seed": 1}


class _Replicate(_BothKinds, replicate.FakeReplicate):
    def accept(self, request: Request, number: int) -> Answer:
        answer = super().accept(request, number)
        answer.json["created_at"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return answer

    def tell(self, request: Request) -> Turn:
        name = request.path.removeprefix("/predictions/")
        self.model = self.predictions.get(name, {}).get("model", "")
        return super().tell(request)


class _Vertex(vertex.FakeVertex):
    """Takes each token that it has issued: two jobs that begin at once may both sign in."""

    def __call__(self, request: Request) -> Turn:
        told = request.headers.get("authorization", "")
        if told in {f"Bearer ya29.{number}" for number in range(1, self.tokens)}:
            request = replace(request, headers={**request.headers, "authorization": f"Bearer ya29.{self.tokens}"})
        return super().__call__(request)


def _openai_images(*, refusing: bool) -> Callable[[Request], Turn]:
    fake = openai_images.FakeOpenAIImages()
    told = openai_images.error(400, SECRET_WORDS, code="moderation_blocked", type="image_generation_user_error")
    return (lambda request: told if request.method == "POST" else fake(request)) if refusing else fake


def _openai_videos(*, refusing: bool) -> Callable[[Request], Turn]:
    error = {"code": "moderation_blocked", "message": SECRET_WORDS}
    return FakeOpenAIVideos(outcome={"status": "failed", "error": error} if refusing else None)


def _xai(*, refusing: bool) -> Callable[[Request], Turn]:
    fake = xai.FakeXai()
    if refusing:
        fake.picture = {"url": None, "respect_moderation": False, "text": SECRET_WORDS}
        fake.done = {"status": "done", "video": {"url": "https://a.example", "respect_moderation": False}}
    return fake


def _gemini(*, refusing: bool) -> Callable[[Request], Turn]:
    fake = gemini.FakeGemini()
    told = Answer(json={"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": SECRET_WORDS}})
    return (lambda request: told if request.method == "POST" else fake(request)) if refusing else fake


def _interactions(*, refusing: bool) -> Callable[[Request], Turn]:
    step = {"type": "model_output", "error": {"code": 3, "message": f"Blocked by safety: {SECRET_WORDS}."}}
    return FakeInteractions(ends={"status": "failed", "steps": [step]} if refusing else None)


def _vertex(*, refusing: bool) -> Callable[[Request], Turn]:
    filtered = {"response": {"raiMediaFilteredCount": 1, "raiMediaFilteredReasons": [SECRET_WORDS]}}
    return _Vertex(ends=filtered if refusing else None)


def _google_pixels(body: Mapping[str, Any], _offering: Offering) -> tuple[int, int]:
    across, down = map(int, body.get("aspectRatio", "1:1").split(":"))
    side = {"512": 512, "1K": 1024, "2K": 2048, "4K": 4096}[body.get("imageSize", "1K")] / (across * down) ** 0.5
    return round(side * across), round(side * down)


_GOOGLE_BROKE = gemini.error(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.")
_GOOGLE_MODERATED = gemini.error(400, "INVALID_ARGUMENT", f"Blocked by our safety filter: {SECRET_WORDS}.")
_OPENAI_MODERATED = openai_images.error(400, SECRET_WORDS, code="moderation_blocked")
_OPENAI_BROKE = openai_images.error(429, "You exceeded your current quota", code="insufficient_quota")
_OPENAI_UNAUTHORISED = openai_images.error(401, "Incorrect API key provided", code="invalid_api_key")
# Bound only where the operator names them.
_BY_NAME = {"gpt-image-1/generate": "gpt-image-1", "gpt-image-1/edit": "gpt-image-1"}
_OMNI = {"veo-3.1-fast/generate": "gemini-omni-1.1-flash"}

# As large as these fakes make it.
_SMALL = {key: {"imageSize": "1K"} for key in ("nano-banana-pro/generate", "nano-banana-pro/edit")}
# These fetch clips and sounds at public addresses only, and a test has none.
_ONLY_PICTURES = {
    "seedance/i2v": {
        "prompt": "@image1 turns",
        "urls": ["https://example.com/hero.png"],
        "urlMediaTypes": ["image"],
        "audioUrls": None,
    }
}

VENDORS: Mapping[str, Vendor] = {
    "openai-images": Vendor(
        open=_plain(_openai_images),
        base="/v1",
        bought="gpt-image-2/generate",
        other="gpt-image-2/edit",
        moderated=_OPENAI_MODERATED,
        settings=lambda _: {"models": _BY_NAME},
        broke=_OPENAI_BROKE,
        unauthorised=_OPENAI_UNAUTHORISED,
    ),
    "openai-videos": Vendor(
        open=_plain(_openai_videos),
        base="/v1",
        bought="sora-2/generate",
        other="sora-2-pro/generate",
        moderated=_OPENAI_MODERATED,
        broke=_OPENAI_BROKE,
        unauthorised=_OPENAI_UNAUTHORISED,
    ),
    "xai": Vendor(
        open=_plain(_xai),
        base="/v1",
        key=lambda: xai.KEY,
        bought="grok/generate",
        other="grok-video/generate",
        moderated=xai.error(400, f"Generated image rejected by content moderation: {SECRET_WORDS}."),
        broke=xai.error(403, "Your team has used all available credits or reached its monthly spending limit."),
        unauthorised=xai.error(400, "Incorrect API key provided: xa***st."),
    ),
    "gemini": Vendor(
        open=_plain(_gemini),
        base="/v1",
        key=lambda: gemini.KEY,
        bought="nano-banana/generate",
        other="nano-banana/edit",
        moderated=_GOOGLE_MODERATED,
        broke=_GOOGLE_BROKE,
        unauthorised=gemini.BAD_KEY,
        pixels=_google_pixels,
    ),
    "interactions": Vendor(
        open=_plain(_interactions),
        base="/v1",
        key=lambda: gemini.KEY,
        bought="nano-banana-pro/generate",
        other="nano-banana-pro/edit",
        moderated=_GOOGLE_MODERATED,
        broke=_GOOGLE_BROKE,
        unauthorised=gemini.BAD_KEY,
        settings=lambda _: {"models": _OMNI},
        inputs=_SMALL,
    ),
    "vertex-veo": Vendor(
        open=_plain(_vertex),
        base="/v1beta1",
        key=vertex.key_file,
        bought="veo-3.1/generate",
        other="veo-3.1-fast/generate",
        moderated=gemini.error(400, "INVALID_ARGUMENT", f"The prompt violates our usage guidelines: {SECRET_WORDS}."),
        broke=gemini.error(403, "PERMISSION_DENIED", "Off.", gemini.error_info("BILLING_DISABLED")),
        unauthorised=vertex.UNAUTHENTICATED,
        settings=lambda url: {"token_url": url + "/token"},
    ),
    "bfl": Vendor(
        open=_bfl,
        base="/v1",
        key=lambda: bfl.KEY,
        bought="flux-2-pro/generate",
        other="flux-2-pro/edit",
        moderated=Answer(status=400, json={"detail": f"Request Moderated: {SECRET_WORDS}"}),
        broke=Answer(status=402, json={"detail": "Insufficient credits"}),
        unauthorised=Answer(status=403, json={"detail": "Not authenticated"}),
        pixels=lambda _body, _offering: PICTURE_SIZE,
    ),
    "modelark": Vendor(
        open=with_tasks(
            modelark.FakeModelArk,
            {"status": "failed", "error": {"code": "OutputVideoSensitiveContentDetected", "message": SECRET_WORDS}},
        ),
        bought="seedance/t2v",
        other="seedance/i2v",
        moderated=modelark.fault(400, "InputTextSensitiveContentDetected", SECRET_WORDS),
        broke=modelark.fault(403, "AccountOverdueError"),
        unauthorised=modelark.fault(401, "AuthenticationError"),
        inputs=_ONLY_PICTURES,
    ),
    "dashscope": Vendor(
        open=with_tasks(
            dashscope.FakeDashScope,
            {"task_status": "FAILED", "code": "DataInspectionFailed", "message": SECRET_WORDS},
        ),
        bought="wan-2.6/t2v",
        other="wan-2.6/i2v",
        moderated=dashscope.fault(400, "DataInspectionFailed", SECRET_WORDS),
        broke=dashscope.fault(400, "Arrearage"),
        unauthorised=dashscope.fault(401, "InvalidApiKey"),
    ),
    "fal": Vendor(
        open=with_tasks(_Fal, {"status": "COMPLETED", "error": SECRET_WORDS, "error_type": "content_policy_violation"}),
        bought="flux-2-max/generate",
        other="flux-2-max/edit",
        moderated=fal.fault(422, "content_policy_violation"),
        broke=Answer(status=403, json={"detail": "User is locked. Reason: Exhausted balance."}),
        unauthorised=Answer(status=401, json={"detail": "No user found for Key ID and Secret"}),
        inputs=_SMALL,
    ),
    "replicate": Vendor(
        open=with_tasks(
            _Replicate, {"status": "failed", "error": f"The input was flagged as sensitive: {SECRET_WORDS}. (E005)"}
        ),
        bought="gpt-image-1.5/generate",
        other="grok/edit",
        moderated=replicate.fault(422, f"input: the prompt was flagged as sensitive: {SECRET_WORDS} (E005)"),
        broke=replicate.fault(402, "You have insufficient credit to run this model"),
        unauthorised=replicate.fault(401, "You did not pass a valid authentication token"),
        inputs=_SMALL,
    ),
    "openrouter": Vendor(
        open=with_tasks(
            openrouter.FakeOpenRouter,
            {"status": "failed", "error": f"Content filtered by the provider's safety system: {SECRET_WORDS}"},
        ),
        bought="seedance-fast/i2v",
        other="seedance-fast/t2v",
        moderated=openrouter.fault(403, f"Your input was flagged by moderation: {SECRET_WORDS}"),
        broke=openrouter.fault(402, "Insufficient credits"),
        unauthorised=openrouter.fault(401, "No auth credentials found"),
        inputs=_ONLY_PICTURES,
    ),
}
