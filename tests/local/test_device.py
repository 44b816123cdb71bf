"""The queue of the device: one job at a time, a few behind it, and each can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from stablestudio.local.device import Device, State, Task
from stablestudio.local.faults import RateLimitExceeded, ServerError, Stopped

SECONDS = 10.0


class Steps:
    """Work in two steps, the second of which waits."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go = threading.Event()

    def __call__(self, task: Task) -> bytes:
        task.step(0.5)
        self.began.set()
        assert self.go.wait(SECONDS)
        task.step(1)
        return b"file"


@pytest.fixture
def device() -> Iterator[Device]:
    made = Device(waiting=1)
    yield made
    made.close()


def ended(task: Task) -> Task:
    task.future.exception(SECONDS)
    return task


def test_a_job_goes_from_the_queue_to_its_file(device: Device) -> None:
    first, second = Steps(), Steps()
    running, queued = device.put(first), device.put(second)
    assert first.began.wait(SECONDS)

    assert (running.state, running.progress) == (State.RUNNING, 50)
    assert (queued.state, queued.progress, second.began.is_set()) == (State.QUEUED, 0, False)
    first.go.set()
    second.go.set()
    assert (ended(running).state, running.data, running.fault) == (State.DONE, b"file", None)
    assert ended(queued).data == b"file"


def test_a_full_queue_is_told_before_anything_is_taken(device: Device) -> None:
    steps = Steps()
    tasks = [device.put(steps), device.put(steps)]

    with pytest.raises(RateLimitExceeded) as caught:
        device.put(steps)
    steps.go.set()
    [ended(task) for task in tasks]

    assert 1 <= int(dict(caught.value.headers)["Retry-After"]) <= 120
    assert ended(device.put(steps)).data == b"file"


def test_a_stopped_job_ends_at_its_next_step(device: Device) -> None:
    steps = Steps()
    task = device.put(steps)
    assert steps.began.wait(SECONDS)
    task.cancel()

    assert task.state is State.CANCELLED
    steps.go.set()
    assert isinstance(task.future.exception(SECONDS), Stopped)
    assert (task.state, task.data) == (State.CANCELLED, None)
    assert isinstance(task.fault, Stopped)


def test_a_job_that_is_stopped_in_the_queue_never_begins(device: Device) -> None:
    first, second = Steps(), Steps()
    running, queued = device.put(first), device.put(second)
    assert first.began.wait(SECONDS)
    queued.cancel()
    first.go.set()

    assert ended(running).data == b"file"
    assert queued.state is State.CANCELLED
    assert not second.began.is_set()


def test_a_finished_job_stays_finished(device: Device) -> None:
    steps = Steps()
    steps.go.set()
    task = ended(device.put(steps))
    task.cancel()

    assert (task.state, task.data) == (State.DONE, b"file")


def test_a_fault_of_the_work_is_a_failure_and_the_next_job_goes_on(device: Device) -> None:
    def broken(task: Task) -> bytes:
        raise RuntimeError("out of memory")

    task = device.put(broken)
    with pytest.raises(RuntimeError):
        task.future.result(SECONDS)
    steps = Steps()
    steps.go.set()

    assert task.state is State.FAILED
    assert isinstance(task.fault, ServerError)
    assert ended(device.put(steps)).data == b"file"


def test_closing_stops_what_runs_and_what_waits(device: Device) -> None:
    first, second = Steps(), Steps()
    running, queued = device.put(first), device.put(second)
    assert first.began.wait(SECONDS)
    device.close()
    first.go.set()

    assert isinstance(running.future.exception(SECONDS), Stopped)
    assert (queued.state, second.began.is_set()) == (State.CANCELLED, False)
