from __future__ import annotations

from pathlib import Path

import pytest

from stablestudio.client import JobFailed, JobStillRunning, StudioApiError
from stablestudio.client.errors import ServiceUnreachable, SignInRejected, UnreadableAnswer
from stablestudio.client.fakes import FakeSeller, error_reply
from stablestudio.client.jobs import job_of, poll_delay
from stablestudio.client.steps import Call, Reply
from stablestudio.protocols import siwx

from .builders import WISH, buyer, journal_files


def test_many_looks_take_one_signature(tmp_path: Path) -> None:
    seller = FakeSeller(states=("pending",) * 6 + ("loading",) * 6 + ("complete",))
    seen: list[tuple[str, float | None]] = []
    job = buyer(seller, tmp_path).run(
        "nano-banana", "generate", WISH, on_progress=lambda job: seen.append((job.status, job.progress))
    )
    assert job.status == "complete"
    assert len(seller.proofs) == 13
    assert len(set(seller.proofs)) == 1
    assert [status for status, _ in seen] == list(seller.states)


def test_whoever_does_not_watch_progress_asks_for_held_answers(tmp_path: Path) -> None:
    for on_progress, wanted in ((None, {"wait=25"}), (lambda _: None, {None})):
        seller = FakeSeller(states=("pending",) * 3 + ("complete",))
        buyer(seller, tmp_path).run("nano-banana", "generate", WISH, on_progress=on_progress)
        looks = [call for call in seller.calls if "/api/jobs/" in call.url]
        assert {call.headers.get("Prefer") for call in looks} == wanted
        assert len(seller.clock.slept) >= 3  # a service that answers at once is not asked without a pause


def test_a_proof_is_renewed_before_it_expires_and_not_at_every_look(tmp_path: Path) -> None:
    seller = FakeSeller(states=("pending",) * 100 + ("complete",))
    buyer(seller, tmp_path).run("nano-banana", "generate", WISH, timeout=1000)
    looks = [call for call in seller.calls if "/api/jobs/" in call.url]
    assert sum(seller.clock.slept) > 400
    assert len(set(seller.proofs)) == 2
    assert len(looks) == 101 + 2


def test_a_proof_of_a_path_holds_for_each_of_its_queries(tmp_path: Path) -> None:
    seller = FakeSeller()
    client = buyer(seller, tmp_path)
    client.submit("nano-banana", "generate", WISH)
    assert [job.id for job in client.jobs(limit=5)] == ["job_0"]
    client.jobs(status="complete")
    client.job("job_0")
    assert len(seller.proofs) == 3
    assert len(set(seller.proofs)) == 2


def test_a_proof_that_changes_something_is_used_once(tmp_path: Path) -> None:
    seller = FakeSeller(states=("failed",))
    client = buyer(seller, tmp_path)
    for _ in range(2):
        client.submit("nano-banana", "generate", WISH)
    client.job("job_0")
    client.delete("job_0")
    with pytest.raises(StudioApiError) as caught:
        client.delete("job_0")
    assert caught.value.code == "job_not_found"
    assert len(seller.proofs) == len(set(seller.proofs)) == 3


def test_a_challenge_that_names_another_service_is_not_signed(tmp_path: Path) -> None:
    seller = FakeSeller(resource_origin="http://other.test")
    with pytest.raises(siwx.SiwxChallengeRefused):
        buyer(seller, tmp_path).job("job_0")
    assert not any(siwx.HEADER in call.headers for call in seller.calls)


def test_a_fresh_challenge_is_signed_once_and_not_for_ever(tmp_path: Path) -> None:
    seller = FakeSeller()
    challenge = buyer(seller, tmp_path)._http.get("http://seller.test/api/jobs/job_0")
    again = Reply(status=402, headers=dict(challenge.headers), body=challenge.content)
    seller.read_faults = [again] * 5
    with pytest.raises(SignInRejected) as caught:
        buyer(seller, tmp_path).job("job_0")
    assert caught.value.code == "siwx_missing"
    assert len(seller.read_faults) == 3


def test_a_proof_that_is_refused_early_is_signed_anew(tmp_path: Path) -> None:
    seller = FakeSeller(states=("pending",))
    client = buyer(seller, tmp_path)
    client.submit("nano-banana", "generate", WISH)
    client.job("job_0")
    seller._nonces = siwx.NonceIssuer(bytes(31) + b"1")
    assert client.job("job_0").status == "pending"
    assert len(set(seller.proofs)) == 2


def test_trouble_while_waiting_costs_time_and_nothing_else(tmp_path: Path) -> None:
    seller = FakeSeller()
    client = buyer(seller, tmp_path)
    job = client.submit("nano-banana", "generate", WISH)
    seller.read_faults = [None, Reply(status=502), Reply(status=429, headers={"Retry-After": "20"})]
    assert client.wait(job).status == "complete"
    assert 20.0 in seller.clock.slept
    assert len(seller.signatures) == 1


def test_a_job_that_outlasts_our_patience_is_named_and_not_lost(tmp_path: Path) -> None:
    seller = FakeSeller(states=("loading",))
    client = buyer(seller, tmp_path)
    with pytest.raises(JobStillRunning) as caught:
        client.run("nano-banana", "generate", WISH, timeout=60)
    assert (caught.value.job.id, caught.value.job.status, caught.value.money_moved) == ("job_0", "loading", True)
    assert sum(seller.clock.slept) <= 60
    assert len(journal_files(tmp_path)) == 1


def test_a_failed_job_tells_its_reason_and_its_refund(tmp_path: Path) -> None:
    seller = FakeSeller(states=("loading", "failed", "failed", "refunded"))
    client = buyer(seller, tmp_path)
    with pytest.raises(JobFailed) as caught:
        client.run("nano-banana", "generate", WISH)
    assert "the vendor gave up" in caught.value.message
    assert caught.value.money_moved is True
    job = client.wait_for_refund(caught.value.job)
    assert job.payment is not None
    assert job.payment.refund is not None
    assert job.payment.refund.transaction == "0xba"
    assert JobFailed(job=job).money_moved is False
    assert journal_files(tmp_path) == []


def test_a_read_is_tried_a_few_times_and_then_told(tmp_path: Path) -> None:
    seller = FakeSeller(read_faults=[None] * 9)
    with pytest.raises(ServiceUnreachable):
        buyer(seller, tmp_path).job("job_0")
    assert len(seller.read_faults) == 5


def test_an_error_of_a_read_carries_the_services_own_code(tmp_path: Path) -> None:
    seller = FakeSeller(read_faults=[error_reply(403, "not_your_job", charged=False)])
    with pytest.raises(StudioApiError) as caught:
        buyer(seller, tmp_path).job("job_0")
    assert (caught.value.code, caught.value.status) == ("not_your_job", 403)


@pytest.mark.parametrize("job_id", ["../../etc/passwd", "a/b", "", "a" * 129, "a\n"])
def test_a_job_id_that_could_leave_its_folder_is_refused(job_id: str) -> None:
    with pytest.raises(UnreadableAnswer):
        job_of({"jobId": job_id, "status": "complete"})


def test_what_the_service_tells_beyond_the_known_fields_is_kept() -> None:
    told = {"jobId": "job_0", "status": "complete", "upstreamModel": "x", "result": {"imageUrl": "u", "width": 3}}
    kept = job_of(told).model_dump(by_alias=True, exclude_none=True)
    assert kept.items() >= told.items()


def test_looks_are_quick_at_first_and_then_as_the_service_asks() -> None:
    delays = [poll_delay(count, poll_after=15) for count in range(40)]
    assert delays[0] == 0.3
    assert delays == sorted(delays)
    assert delays[-1] == 15
    assert sum(delay < 2 for delay in delays) == 5
    assert poll_delay(0, poll_after=0.05) == 0.1
    assert poll_delay(10_000, poll_after=1e9) == 60


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"models": 5}', b'{"models": [{"model": 5}]}', b"<html>"])
def test_a_list_of_models_that_cannot_be_read_is_told(tmp_path: Path, body: bytes) -> None:
    class Odd(FakeSeller):
        def answer(self, call: Call) -> Reply:
            return Reply(status=200, body=body)

    with pytest.raises(UnreadableAnswer):
        buyer(Odd(), tmp_path).models()
    with pytest.raises(UnreadableAnswer):
        buyer(Odd(), tmp_path).balance()


def test_where_there_is_no_faucet_that_is_told(tmp_path: Path) -> None:
    class Real(FakeSeller):
        def answer(self, call: Call) -> Reply | None:
            return None if call.url.endswith("/faucet") else error_reply(404, "route_not_found", charged=False)

    with pytest.raises(ServiceUnreachable):
        buyer(Real(), tmp_path).fund()
    with pytest.raises(StudioApiError) as caught:
        buyer(Real(), tmp_path).balance()
    assert caught.value.code == "route_not_found"
