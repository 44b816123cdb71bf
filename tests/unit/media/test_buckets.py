"""Links into a bucket: what botocore would sign, for one file, for twenty minutes, known again as ours."""

from __future__ import annotations

import time
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest

from stablestudio.media.buckets import Bucket, BucketLinks, Keys
from stablestudio.media.links import LinkExpired, LinkInvalid, LinkSigner
from stablestudio.media.storage import Storage
from tests.fakes.s3 import BUCKET, KEY_ID, REGION, S3, SECRET, signature

ORIGIN = "https://studio.example"
NOW_MS = 1_795_205_641_836
KEY = "jobs/job_abc/0.png"
KEYS = Keys(key_id=KEY_ID, secret=SECRET)
PLACE = Bucket(name="studio", prefix="/files", region=REGION, keys=KEYS)


def links(place: Bucket = PLACE, keys: Keys = KEYS) -> BucketLinks:
    return BucketLinks(place, keys, own=LinkSigner(b"k" * 32, ORIGIN))


def terms(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


@pytest.mark.parametrize(
    "place",
    [
        PLACE,
        replace(PLACE, prefix=""),
        replace(PLACE, name="dotted.studio"),
        replace(PLACE, endpoint="http://127.0.0.1:9000"),
        replace(PLACE, endpoint="https://r2.example", region="auto"),
    ],
    ids=lambda place: place.base,
)
@pytest.mark.parametrize("token", [None, "session/token+with=signs"])
@pytest.mark.parametrize("content_type", ["image/png", "text/html", None])
def test_a_link_is_signed_as_botocore_would_sign_it(place: Bucket, token: str | None, content_type: str | None) -> None:
    url = links(place, replace(KEYS, token=token)).url(KEY, now_ms=NOW_MS, content_type=content_type)
    told = terms(url)
    given = told.pop("X-Amz-Signature")
    assert given == signature(url.partition("?")[0], told, region=place.region)
    assert told.get("X-Amz-Security-Token") == token


def test_a_link_says_how_the_file_may_be_shown() -> None:
    shown, saved = (terms(links().url(KEY, now_ms=NOW_MS, content_type=kind)) for kind in ("image/png", "text/html"))
    assert (shown["response-content-type"], shown["response-content-disposition"]) == (
        "image/png",
        'inline; filename="job_abc-0.png"',
    )
    assert (saved["response-content-type"], saved["response-content-disposition"]) == (
        "application/octet-stream",
        'attachment; filename="job_abc-0.png"',
    )
    assert shown["response-cache-control"] == "private"


def test_reads_within_a_minute_give_equal_links_that_hold_for_twenty_minutes() -> None:
    minute = NOW_MS // 60_000 * 60_000
    made = {links().url(KEY, now_ms=minute + ms) for ms in (0, 30_000, 59_999)}
    assert len(made) == 1
    url = made.pop()
    assert terms(url)["X-Amz-Expires"] == "1260"
    assert links().key_in(url, now_ms=minute + 1_259_999) == KEY
    with pytest.raises(LinkExpired):
        links().key_in(url, now_ms=minute + 1_260_000)


def test_a_link_never_outlives_the_file() -> None:
    until = (NOW_MS // 60_000 + 2) * 60_000
    url = links().url(KEY, now_ms=NOW_MS, until_ms=until)
    assert terms(url)["X-Amz-Expires"] == "120"


@pytest.mark.parametrize(
    "change",
    [
        ("job_abc", "job_abd"),
        ("X-Amz-Expires=1260", "X-Amz-Expires=9999"),
        ("X-Amz-Date=2026", "X-Amz-Date=2027"),
        ("X-Amz-Date=2026", "X-Amz-Date=never"),
        ("image%2Fpng", "text%2Fhtml"),
        ("&X-Amz-Signature=", "&X-Amz-Signature=0"),
        ("&X-Amz-Signature=", "&X="),
        ("0.png", "../0.png"),
    ],
)
def test_an_altered_link_is_not_ours(change: tuple[str, str]) -> None:
    url = links().url(KEY, now_ms=NOW_MS, content_type="image/png")
    assert change[0] in url
    with pytest.raises(LinkInvalid):
        links().key_in(url.replace(*change), now_ms=NOW_MS)


def test_links_of_this_service_from_before_the_bucket_stay_known() -> None:
    older = LinkSigner(b"k" * 32, ORIGIN).url(KEY, now_ms=NOW_MS)
    assert links().key_in(older, now_ms=NOW_MS) == KEY
    assert links().key_in("https://elsewhere.example/x.png", now_ms=NOW_MS) is None


@pytest.mark.parametrize(
    "location",
    ["s3://", "s3://UPPER", "s3://a", "s3://studio//x", "s3://studio/../x", "s3://studio/a b", "gs://studio"],
)
def test_what_is_no_bucket_is_refused(location: str) -> None:
    with pytest.raises(ValueError, match="a bucket is written as"):
        Bucket.at(location, region=REGION)


def test_a_secret_is_not_told_in_texts() -> None:
    assert SECRET not in repr(replace(PLACE, keys=replace(KEYS, token=SECRET)))


@pytest.mark.anyio
async def test_a_bucket_gives_a_file_to_its_link_alone(s3: S3) -> None:
    place = Bucket.at(f"s3://{BUCKET}/links", region=REGION, endpoint=s3.endpoint, keys=KEYS)
    storage, signer, now_ms = Storage(place.open()), links(place), int(time.time() * 1000)
    await storage.put_once(KEY, b"mine", content_type="image/png")
    await storage.put_once("jobs/job_abd/0.png", b"another's", content_type="image/png")
    url = signer.url(KEY, now_ms=now_ms, content_type="image/png")
    async with httpx2.AsyncClient(trust_env=False) as http:
        whole, part = await http.get(url), await http.get(url, headers={"Range": "bytes=1-2"})
        assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, b"mine", "image/png")
        assert (part.status_code, part.content) == (206, b"in")
        other = signer.url(KEY, now_ms=now_ms - 3_600_000)
        for bad in (url.replace("job_abc", "job_abd"), url.partition("?")[0], other):
            assert (await http.get(bad)).status_code == 403
        await storage.delete(KEY)
        assert (await http.get(url)).status_code in (403, 404)
