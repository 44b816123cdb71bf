"""fal's requests and answers: every input fits the endpoint it goes to, by fal's own types."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablestudio.providers.aggregate import order_of, routed
from stablestudio.providers.answers import Reply, Unreadable
from stablestudio.providers.fal_models import IGNORED, LACKS, OFFERS
from stablestudio.providers.fal_requests import (
    error,
    is_blackened,
    is_verdict,
    place,
    progress,
    refusal,
    result_url,
    task,
)
from stablestudio.providers.inputs import data_url
from stablestudio.providers.lacks import objections
from stablestudio.providers.provider import Failed, FailureKind, Made, NotAccepted, Running, Work
from stablestudio.providers.routes import arguments, endpoint
from tests.providers.given import files_in, tiny
from tests.providers.schema import problems, schemas
from tests.providers.wishes import wishes
from tests.providers.works import end_user, of_body, work
from tests.strategies import inputs


def asked(order: Work) -> tuple[str, dict[str, Any]]:
    """Return where work goes, and with what."""
    route = routed(order, OFFERS, vendor="fal")
    files = tiny(order)
    filled = arguments(route, order_of(order, files, [data_url(file) for file in files], user=end_user))
    return endpoint(route, OFFERS[order.offering.key].model), filled


@pytest.mark.parametrize("key", sorted(OFFERS))
def test_the_example_of_each_offering_fits_its_endpoint(key: str) -> None:
    place, body = asked(work(key))

    assert problems(schemas("fal")[place], body) == []


@pytest.mark.parametrize("key", sorted(OFFERS))
@given(data=st.data())
@settings(max_examples=40)
def test_every_input_fits_its_endpoint_or_is_left_to_another_vendor(key: str, data: st.DataObject) -> None:
    body = data.draw(inputs(work(key).offering))
    order = of_body(key, body)
    try:
        place, sent = asked(order)
    except NotAccepted:
        assert objections(LACKS[key], order.input)
        return
    assert not objections(LACKS.get(key, ()), order.input)

    assert problems(schemas("fal")[place], sent) == []
    assert files_in(sent) == len(order.input.media())
    assert sent.get("generate_audio", True) is getattr(order.input.output(), "audio", True)


def told(order: Work) -> object:
    """Return what is asked for work; None where it is left to another vendor."""
    try:
        return asked(order)
    except NotAccepted:
        return None


# Done here, to the file that comes back, or told in docs/providers.md.
_DONE_HERE = {"output_format", "output_quality"}
_UNHEARD = {"flux-2-pro": _DONE_HERE, "flux-2-max": _DONE_HERE} | {
    model: set(fields) for model, fields in IGNORED.items()
}


@pytest.mark.parametrize("key", sorted(OFFERS))
def test_every_wish_of_the_buyer_reaches_fal(key: str) -> None:
    heard = [(name, told(one) != told(other)) for name, one, other in wishes(key) if told(one) and told(other)]

    assert heard
    assert {name for name, was_heard in heard if not was_heard} <= _UNHEARD.get(key.partition("/")[0], set())


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("veo-3.1-fast/generate", {"referenceImages": ["https://e.com/a.png"]}),
        ("gpt-image-2/generate", {"background": "opaque"}),
        ("gpt-image-2/edit", {"background": "opaque"}),
        ("gpt-image-1.5/generate", {"size": "auto"}),
        ("flux-2-pro/generate", {"safety_tolerance": 0}),
        ("flux-2-max/generate", {"prompt_upsampling": True}),
    ],
)
def test_what_an_endpoint_lacks_is_refused_so_that_another_vendor_may_make_it(
    key: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(NotAccepted) as refused:
        asked(work(key, **changes))

    assert refused.value.kind is FailureKind.INVALID_INPUT
    assert objections(LACKS[key], work(key, **changes).input)[0].path == (next(iter(changes)),)


def test_the_shape_of_an_edit_is_left_to_the_model_where_the_buyer_leaves_it() -> None:
    assert asked(work("gpt-image-1.5/edit", size="auto"))[1]["image_size"] == "auto"
    assert asked(work("gpt-image-1.5/edit", size="1024x1536"))[1]["image_size"] == "1024x1536"


def test_every_file_of_an_input_reaches_fal_once_and_in_order() -> None:
    order = work("seedance/i2v")
    _, body = asked(order)

    assert len(body["image_urls"]) == len(body["video_urls"]) == len(body["audio_urls"]) == 1
    assert body["image_urls"][0].startswith("data:image/png")
    assert body["video_urls"][0].startswith("data:video/mp4")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "bytedance/seedance-2.0/reference-to-video"),
        (
            {
                "mode": "keyframe",
                "urls": ["https://e.com/a.png"],
                "urlMediaTypes": None,
                "audioUrls": None,
                "prompt": "x",
            },
            "bytedance/seedance-2.0/image-to-video",
        ),
    ],
)
def test_frames_and_references_of_seedance_go_to_different_endpoints(changes: dict[str, Any], expected: str) -> None:
    assert asked(work("seedance/i2v", **changes))[0] == expected


OLDER = {"prompt": "x", "image": "https://e.com/a.png", "last_image": "https://e.com/b.png", "resolution": "1080p"}


def test_a_seed_in_the_older_form_of_seedance_goes_to_the_model_that_takes_one() -> None:
    place, body = asked(of_body("seedance/i2v", {**OLDER, "seed": 7, "camera_fixed": True, "generate_audio": False}))

    assert place == "fal-ai/bytedance/seedance/v1.5/pro/image-to-video"
    assert (body["seed"], body["camera_fixed"], body["generate_audio"]) == (7, True, False)
    assert (body["resolution"], body["duration"], body["aspect_ratio"]) == ("1080p", "5", "16:9")
    assert "end_image_url" in body


@pytest.mark.parametrize("more", [{}, {"seed": -1}, {"camera_fixed": False}])
def test_the_older_form_without_wishes_of_its_own_goes_to_todays_model(more: dict[str, Any]) -> None:
    assert asked(of_body("seedance/i2v", OLDER | more))[0] == "bytedance/seedance-2.0/image-to-video"


def test_references_in_a_prompt_are_written_as_fal_documents_them() -> None:
    assert asked(work("seedance/i2v"))[1]["prompt"].startswith("@Image1 keeps the character identity while @Video1")


def test_an_image_without_words_still_gets_the_prompt_that_the_endpoint_demands() -> None:
    body = {"urls": ["https://e.com/a.png"], "aspectRatio": "adaptive"}

    assert asked(of_body("seedance/i2v", body))[1]["prompt"]
    assert asked(of_body("seedance/i2v", body))[1]["aspect_ratio"] == "auto"


def test_seedance_in_4k_is_asked_for_as_such() -> None:
    assert asked(work("seedance/t2v", upscaleResolution="4k"))[1]["resolution"] == "4k"


@pytest.mark.parametrize(
    ("changes", "suffix"),
    [
        ({}, ""),
        ({"image": "https://e.com/a.png"}, "/image-to-video"),
        ({"image": "https://e.com/a.png", "lastFrame": "https://e.com/b.png"}, "/first-last-frame-to-video"),
        ({"referenceImages": ["https://e.com/a.png"]}, "/reference-to-video"),
    ],
)
def test_each_image_mode_of_veo_has_its_endpoint(changes: dict[str, Any], suffix: str) -> None:
    place, body = asked(work("veo-3.1/generate", **changes))

    assert place == "fal-ai/veo3.1" + suffix
    assert body["duration"] == "8s"


def test_what_to_avoid_is_said_in_words_where_the_endpoint_has_no_field_for_it() -> None:
    changes: dict[str, Any] = {
        "prompt": "a pier",
        "negativePrompt": "people",
        "referenceImages": ["https://e.com/a.png"],
    }

    assert asked(work("veo-3.1/generate", **changes))[1]["prompt"] == "a pier Avoid: people"
    assert asked(work("veo-3.1/generate", **changes | {"referenceImages": None}))[1]["negative_prompt"] == "people"


def test_flux_is_asked_for_pixels_in_a_format_without_losses() -> None:
    _, body = asked(work("flux-2-pro/generate", aspect_ratio="16:9", resolution="2 MP", safety_tolerance=1))

    assert body["image_size"] == {"width": 1936, "height": 1088}
    assert (body["output_format"], body["safety_tolerance"]) == ("png", "1")


def test_an_edit_without_a_shape_leaves_it_to_the_model() -> None:
    assert asked(work("gpt-image-2/edit", size="auto"))[1]["image_size"] == "auto"
    assert asked(work("nano-banana/edit"))[1]["aspect_ratio"] == "auto"


def test_the_smallest_tier_of_nano_banana_has_its_own_word() -> None:
    assert asked(work("nano-banana/generate", imageSize="512"))[1]["resolution"] == "0.5K"


def test_an_edit_by_flux_without_a_shape_has_that_of_the_first_picture_in_the_area_that_was_paid_for() -> None:
    _, body = asked(work("flux-2-max/edit", resolution="4 MP"))  # the pictures here are 64 by 48
    _, chosen = asked(work("flux-2-max/edit", resolution="4 MP", aspect_ratio="1:1"))

    assert body["image_size"] == {"width": 2352, "height": 1776}
    assert chosen["image_size"] == {"width": 2048, "height": 2048}


@pytest.mark.parametrize(("size", "expected"), [("1280*720", ("720p", "16:9")), ("1080*1920", ("1080p", "9:16"))])
def test_a_size_of_wan_becomes_a_tier_and_a_shape(size: str, expected: tuple[str, str]) -> None:
    _, body = asked(work("wan-2.6/t2v", size=size))

    assert (body["resolution"], body["aspect_ratio"]) == expected


# Answers


def reply(status: int, document: Any = None, **headers: str) -> Reply:
    body = b"" if document is None else json.dumps(document).encode()
    return Reply(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, body=body)


def violation(kind: str) -> dict[str, Any]:
    return {"detail": [{"loc": ["body", "prompt"], "msg": "no", "type": kind}]}


@pytest.mark.parametrize("state", ["IN_QUEUE", "IN_PROGRESS", "SOMETHING_NEW", None])
def test_a_request_that_is_not_completed_runs(state: str | None) -> None:
    assert progress({"status": state}, None) == Running()


def test_a_completed_request_is_made_unless_it_carries_an_error() -> None:
    assert progress({"status": "COMPLETED", "logs": None, "metrics": {}}, None) == Made()
    assert progress({"status": "COMPLETED", "error": None, "error_type": None}, None) == Made()


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"error": "no", "error_type": "content_policy_violation"}, FailureKind.MODERATION),
        ({"error": "late", "error_type": "request_timeout"}, FailureKind.UPSTREAM_TIMEOUT),
        ({"error": "gone", "error_type": "runner_disconnected"}, FailureKind.UPSTREAM_ERROR),
        ({"error": "what?"}, FailureKind.UPSTREAM_ERROR),
        ({"error": violation("content_policy_violation")["detail"]}, FailureKind.MODERATION),
    ],
)
def test_a_completed_request_with_an_error_has_failed(told: dict[str, Any], kind: FailureKind) -> None:
    failure = progress({"status": "COMPLETED", **told}, "req_1")

    assert isinstance(failure, Failed)
    assert (failure.kind, failure.request_id) == (kind, "req_1")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply(401, {"detail": "Cannot access application"}), FailureKind.UPSTREAM_AUTH),
        (reply(403, {"detail": "User is locked. Reason: Exhausted balance."}), FailureKind.UPSTREAM_QUOTA),
        (reply(404, {"detail": "Application not found"}), FailureKind.UPSTREAM_RETIRED),
        (reply(422, violation("missing")), FailureKind.INVALID_INPUT),
        (reply(422, violation("content_policy_violation")), FailureKind.MODERATION),
        (reply(429), FailureKind.RATE_LIMITED),
    ],
)
def test_each_refusal_has_its_kind(answer: Reply, kind: FailureKind) -> None:
    assert refusal(answer) is kind


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply(422, violation("content_policy_violation")), FailureKind.MODERATION),
        (reply(422, violation("image_too_small")), FailureKind.INVALID_INPUT),
        (reply(500, violation("internal_server_error")), FailureKind.UPSTREAM_ERROR),
        (reply(504, violation("generation_timeout")), FailureKind.UPSTREAM_TIMEOUT),
        (reply(422, violation("no_media_generated")), FailureKind.UPSTREAM_ERROR),
        (reply(404), FailureKind.UPSTREAM_UNKNOWN),
    ],
)
def test_each_error_in_place_of_a_result_has_its_kind(answer: Reply, kind: FailureKind) -> None:
    assert error(answer).kind is kind


@pytest.mark.parametrize("answer", [reply(401), reply(403), reply(400, {"detail": "Request is still in progress"})])
def test_an_answer_about_the_operator_or_too_early_is_no_failure_of_the_work(answer: Reply) -> None:
    with pytest.raises(Unreadable):
        error(answer)


def test_a_server_error_is_a_verdict_only_where_fal_itself_says_so() -> None:
    assert is_verdict(reply(500, violation("internal_server_error"), x_fal_request_id="r"))
    assert is_verdict(reply(504, None, x_fal_request_id="r", x_fal_error_type="request_timeout"))
    assert not is_verdict(reply(502, None))
    assert not is_verdict(reply(500, None, x_fal_request_id="r"))


def test_a_picture_that_a_filter_blackened_is_recognised() -> None:
    assert is_blackened({"images": [{"url": "https://e.com/a.png"}], "has_nsfw_concepts": [True]})
    assert not is_blackened({"has_nsfw_concepts": [False]})
    assert not is_blackened({"has_nsfw_concepts": None})


def test_only_addresses_of_fal_are_kept_of_an_acceptance() -> None:
    told = {
        "request_id": "r1",
        "response_url": "https://queue.fal.run/bytedance/seedance-2.0/requests/r1",
        "status_url": "https://evil.example/status",
        "queue_position": 3,
    }
    handle = task(
        told,
        base_url="https://queue.fal.run",
        application="bytedance/seedance-2.0/fast/text-to-video",
        is_own=lambda url: url.startswith("https://queue.fal.run/"),
    )
    assert handle is not None

    usual = "https://queue.fal.run/bytedance/seedance-2.0/requests/r1"
    assert place(handle, "response_url") == usual
    assert place(handle, "status_url") == usual + "/status"
    assert place(handle, "cancel_url") == usual + "/cancel"


@pytest.mark.parametrize("document", [{}, {"request_id": 7}, {"request_id": ""}])
def test_an_acceptance_without_an_id_has_no_handle(document: dict[str, Any]) -> None:
    assert task(document, base_url="https://q", application="a/b", is_own=lambda _: True) is None


@pytest.mark.parametrize("handle", ["", "[]", "{}", "nonsense", '{"status_url": 7}'])
def test_a_handle_that_is_none_is_unreadable(handle: str) -> None:
    with pytest.raises(Unreadable):
        place(handle, "status_url")


def test_the_result_stands_where_the_table_says() -> None:
    image = OFFERS["gpt-image-2/generate"].routes[0]
    clip = OFFERS["seedance/t2v"].routes[0]

    assert result_url({"images": [{"url": "https://e.com/a.png"}]}, image) == "https://e.com/a.png"
    assert result_url({"video": {"url": "https://e.com/a.mp4"}}, clip) == "https://e.com/a.mp4"
    assert result_url({"images": []}, image) is None
    assert result_url({"video": None}, clip) is None
