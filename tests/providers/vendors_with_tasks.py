"""The vendors with tasks, each with its fake, and what the tests of all of them need to know about each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from stablestudio.clock import Clock
from stablestudio.providers.dashscope import DashScope
from stablestudio.providers.fal import Fal
from stablestudio.providers.http import VendorHttp
from stablestudio.providers.modelark import ModelArk
from stablestudio.providers.openrouter import OpenRouter
from stablestudio.providers.provider import Accepted, Failed, Output, Provider, Running, Work
from stablestudio.providers.replicate import Replicate
from tests.providers.fakes import dashscope, fal, modelark, openrouter, replicate
from tests.providers.fakes.tasks import KEY, TaskVendor
from tests.providers.given import Samples
from tests.providers.loopback import Answer
from tests.providers.troubles import public_loopback
from tests.providers.works import end_user

BEARER = {"Authorization": f"Bearer {KEY}"}


class Adapter(Provider, Protocol):
    async def check(self) -> None: ...

    async def close(self) -> None: ...


def http(url: str, *, auth: Mapping[str, str] = BEARER, **options: Any) -> VendorHttp:
    """Return a client that is quick to lose patience."""
    quick: dict[str, Any] = {
        "timeout_seconds": 5.0,
        "connect_seconds": 1.0,
        "first_pause": 0.005,
        "longest_pause": 0.02,
        "fetcher": public_loopback(),
    }
    return VendorHttp(name="vendor", base_url=url, auth=auth, **(quick | options))


def modelark_at(
    url: str, *, source: Any = None, auth: Mapping[str, str] = BEARER, clock: Clock | None = None
) -> ModelArk:
    return ModelArk(http(url, auth=auth), source=source or Samples(), user=end_user, clock=clock, settle=(0.0, 0.01))


def dashscope_at(
    url: str, *, source: Any = None, auth: Mapping[str, str] = BEARER, clock: Clock | None = None
) -> DashScope:
    return DashScope(http(url, auth=auth), source=source or Samples(), clock=clock)


def fal_at(url: str, *, source: Any = None, auth: Mapping[str, str] | None = None, clock: Clock | None = None) -> Fal:
    key = {"Authorization": f"Key {KEY}"} if auth is None else auth
    return Fal(http(url, auth=key), source=source or Samples(), user=end_user, clock=clock)


def replicate_at(
    url: str, *, source: Any = None, auth: Mapping[str, str] = BEARER, clock: Clock | None = None
) -> Replicate:
    return Replicate(http(url, auth=auth), source=source or Samples(), user=end_user, clock=clock, settle=(0.0, 0.01))


def openrouter_at(
    url: str, *, source: Any = None, auth: Mapping[str, str] = BEARER, clock: Clock | None = None
) -> OpenRouter:
    return OpenRouter(http(url, auth=auth), source=source or Samples(), user=end_user, clock=clock)


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """A vendor: its fake, its adapter, work for it, and how it says things."""

    fake: Callable[..., TaskVendor]
    at: Callable[..., Adapter]
    key: str  # an offering of clips
    running: Mapping[str, Any]
    done: Mapping[str, Any]
    refused: Mapping[str, Any]  # by its content rules, after it was accepted
    moderated: Answer  # before
    broke: Answer
    retired: Answer
    busy: Callable[..., Answer]
    without_id: Answer


VENDORS: Mapping[str, Vendor] = {
    "modelark": Vendor(
        fake=modelark.FakeModelArk,
        at=modelark_at,
        key="seedance/t2v",
        running={"status": "running"},
        done={"status": "succeeded"},
        refused={"status": "failed", "error": {"code": "OutputVideoSensitiveContentDetected", "message": "no"}},
        moderated=modelark.fault(400, "InputTextSensitiveContentDetected"),
        broke=modelark.fault(403, "AccountOverdueError"),
        retired=modelark.fault(404, "InvalidEndpointOrModel.NotFound"),
        busy=lambda **headers: modelark.fault(429, "RateLimitExceeded.EndpointRPMExceeded", **headers),
        without_id=Answer(json={"task": "?"}),
    ),
    "dashscope": Vendor(
        fake=dashscope.FakeDashScope,
        at=dashscope_at,
        key="wan-2.6/t2v",
        running={"task_status": "RUNNING"},
        done={"task_status": "SUCCEEDED"},
        refused={"task_status": "FAILED", "code": "DataInspectionFailed", "message": "no"},
        moderated=dashscope.fault(400, "DataInspectionFailed"),
        broke=dashscope.fault(400, "Arrearage"),
        retired=dashscope.fault(404, "ModelNotFound"),
        busy=lambda **headers: dashscope.fault(429, "Throttling.RateQuota", **headers),
        without_id=Answer(json={"output": {}}),
    ),
    "fal": Vendor(
        fake=fal.FakeFal,
        at=fal_at,
        key="seedance-fast/t2v",
        running={"status": "IN_PROGRESS", "logs": None},
        done={"status": "COMPLETED", "logs": None},
        refused={"status": "COMPLETED", "error": "no", "error_type": "content_policy_violation"},
        moderated=fal.fault(422, "content_policy_violation"),
        broke=Answer(status=403, json={"detail": "User is locked. Reason: Exhausted balance."}),
        retired=Answer(status=404, json={"detail": "Application 'seedance' not found"}),
        busy=lambda **headers: Answer(status=429, json={"detail": "Too many requests"}, headers=headers),
        without_id=Answer(json={"status": "IN_QUEUE"}),
    ),
    "replicate": Vendor(
        fake=replicate.FakeReplicate,
        at=replicate_at,
        key="wan-2.6/t2v",
        running={"status": "processing"},
        done={"status": "succeeded"},
        refused={"status": "failed", "error": "The input or output was flagged as sensitive. (E005)"},
        moderated=replicate.fault(422, "input: the prompt was flagged as sensitive (E005)"),
        broke=replicate.fault(402, "You have insufficient credit to run this model"),
        retired=replicate.fault(404),
        busy=lambda **headers: replicate.fault(429, "Request was throttled.", **headers),
        without_id=Answer(status=201, json={"status": "starting"}),
    ),
    "openrouter": Vendor(
        fake=openrouter.FakeOpenRouter,
        at=openrouter_at,
        key="veo-3.1/generate",
        running={"status": "in_progress"},
        done={"status": "completed"},
        refused={"status": "failed", "error": "Content filtered by the provider's safety system"},
        moderated=openrouter.fault(403, "Your input was flagged by moderation"),
        broke=openrouter.fault(402, "Insufficient credits"),
        retired=openrouter.fault(404, "Model google/veo-3.1 does not exist"),
        busy=lambda **headers: openrouter.fault(429, "Rate limit exceeded", **headers),
        without_id=Answer(status=202, json={"status": "pending"}),
    ),
}


async def made(adapter: Provider, work: Work) -> Output | Failed:
    """Bring work from its submission to its output, as the maker does."""
    accepted = await adapter.submit(work)
    assert isinstance(accepted, Accepted)
    state = await adapter.poll(work, accepted.task)
    while isinstance(state, Running):
        state = await adapter.poll(work, accepted.task)
    return state if isinstance(state, Failed) else await adapter.fetch(work, accepted.task)
