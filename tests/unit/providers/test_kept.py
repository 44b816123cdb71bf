"""Results of vendors without tasks: what is kept is accepted, what is not is unknown."""

from __future__ import annotations

import pytest

from stablestudio.media.storage import Storage
from stablestudio.providers.kept import KeptResults
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, Output
from tests.doubles import png
from tests.providers.works import work

pytestmark = pytest.mark.anyio
PICTURE = Output(data=png(), content_type="image/png")


@pytest.fixture
def kept() -> KeptResults:
    return KeptResults(Storage.at("memory:///"))


async def test_what_was_kept_is_found_made_and_fetched_again_and_again(kept: KeptResults) -> None:
    order = work("grok/generate", model="grok-imagine-image")

    accepted = await kept.accept(order, PICTURE)

    assert accepted == Accepted(task="kept", upstream_model="grok-imagine-image")
    for _ in range(2):
        assert await kept.find(order) == accepted
        assert await kept.poll(order) == Made()
        assert await kept.fetch(order) == PICTURE


async def test_what_was_not_kept_is_unknown(kept: KeptResults) -> None:
    assert await kept.find(work("grok/generate")) is None
    assert await kept.get("job_2") is None


async def test_a_lost_result_is_a_failure_and_no_endless_wait(kept: KeptResults) -> None:
    order = work("grok/generate")
    await kept.accept(order, PICTURE)
    await kept.drop(order.job_id)

    for answer in (await kept.poll(order), await kept.fetch(order)):
        assert isinstance(answer, Failed)
        assert answer.kind is FailureKind.UPSTREAM_UNKNOWN


async def test_the_first_result_of_a_job_stays(kept: KeptResults) -> None:
    await kept.put("job_1", PICTURE.data, "image/png")
    await kept.put("job_1", png(colour="blue"), "image/png")

    assert await kept.get("job_1") == PICTURE


async def test_a_kept_result_is_named_by_its_bytes_after_a_restart(tmp_path: object) -> None:
    await KeptResults(Storage.at(f"{tmp_path}")).put("job_1", PICTURE.data, "image/png")

    assert await KeptResults(Storage.at(f"{tmp_path}")).get("job_1") == PICTURE
