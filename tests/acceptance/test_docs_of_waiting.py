"""docs/waiting.md tells the ways, times and rules that the code has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from benchmarks import waits as bench
from stablestudio.cli.faults import UNFINISHED, exit_code
from stablestudio.cli.generate import generate
from stablestudio.cli.jobs import job
from stablestudio.cli.webhooks import webhooks
from stablestudio.client import CancelTooLate, Job, StudioClient
from stablestudio.config import Settings
from stablestudio.jobs import cancel, changes, webhook_turns
from stablestudio.jobs import webhooks as worker
from stablestudio.media.post import Poster
from stablestudio.payments.errors import IdempotencyConflict
from stablestudio.server import events, waits
from stablestudio.server.webhooks import HEADER, KEYS_PATH
from stablestudio.store import webhooks as store
from tests.fakes.receiver import Receiver
from tests.service import Buyer, Service

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "waiting.md").read_text()
WORDS = " ".join(PAGE.split())
_UNITS = {"s": 1, "min": 60, "h": 3600}


def test_the_times_are_those_of_the_code() -> None:
    assert f"asks for up to {waits.MOST_SECONDS} seconds" in WORDS
    assert f"Every {events.HEARTBEAT_SECONDS:.0f} seconds without news" in WORDS
    assert ("lasts an hour at most" in WORDS, events.LONGEST_SECONDS) == (True, 3600)
    assert f"`2xx` within {Poster().total_seconds:.0f} seconds" in WORDS
    assert f"is heard of within {changes._INTERVAL:.0f} seconds" in WORDS
    assert f"opens {bench.CONNECTIONS:,} connections" in WORDS


def test_the_pauses_are_those_of_the_code() -> None:
    line = PAGE.partition("<!-- pauses")[2].splitlines()[1]
    told = [int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+) (s|min|h)", line)]
    assert told == list(worker.PAUSES)
    assert ("there are ten tries in all" in WORDS, len(worker.PAUSES)) == (True, 9)


def test_the_limits_of_webhooks_are_those_of_the_code() -> None:
    assert f"At most {webhook_turns.AT_ONCE_EACH_RECEIVER} messages at a time go to one receiver" in WORDS
    assert f"and {webhook_turns.AT_ONCE_EACH_WALLET} to those of one wallet" in WORDS
    assert f"its newest {store.MOST_TRIES} tries" in WORDS
    assert f"Sooner than {worker.AGAIN_SECONDS} seconds after the last try" in WORDS


def test_the_headers_paths_errors_and_settings_exist() -> None:
    assert f"header `{HEADER}`" in WORDS
    assert f"`{KEYS_PATH}`" in PAGE
    assert f"`409 {cancel.CancelTooLate.code}`" in PAGE
    assert f"`409 {IdempotencyConflict.code}`" in PAGE
    assert f"`409 {worker.NoWebhook.code}`" in PAGE
    assert f"`429 {worker.RedeliveryTooSoon.code}`" in PAGE
    assert "webhooks_inside" in Settings.model_fields
    assert "`webhooks_inside`" in PAGE


def test_the_routes_below_a_job_are_those_of_the_service(studio: Service) -> None:
    told = set(re.findall(r"`?(GET|POST) /api/jobs/\{id\}(/[a-z/]+)", PAGE))
    assert len(told) == 4
    with Buyer(studio.url) as buyer:
        for method, below in told:
            answer = buyer.http.options(f"/api/jobs/job_1{below}")
            assert answer.headers["allow"] == f"{method}, OPTIONS"


def test_the_commands_exist() -> None:
    lines = re.findall(r"^stablestudio webhooks (\w+)(.*)$", PAGE, re.MULTILINE)
    assert {name for name, _ in lines} == set(webhooks.commands)
    for name, rest in lines:
        known = {option for parameter in webhooks.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[\w-]+", rest)) <= known
    states = next(each for each in webhooks.commands["list"].params if each.name == "states").type
    assert isinstance(states, click.Choice)
    assert "given_up" in states.choices


def test_the_buyer_s_commands_and_methods_exist() -> None:
    for command, words in ((generate, r"generate .*"), (job, r"job ID .*")):
        told = set(re.findall(r"--[\w-]+", "\n".join(re.findall(rf"stablestudio {words}", PAGE))))
        assert told
        assert told <= {option for parameter in command.params for option in parameter.opts}
    methods = set(re.findall(r"`studio\.(\w+)", PAGE))
    assert methods == {"run", "submit", "webhooks", "redeliver", "cancel"}
    assert all(callable(getattr(StudioClient, name)) for name in methods)
    assert re.findall(r"exit code (\d)", WORDS) == [str(UNFINISHED)]
    assert exit_code(CancelTooLate(job=Job(id="job_0", status="loading"))) == UNFINISHED


def test_a_stream_has_the_events_and_a_message_the_fields_of_the_page(tmp_path: Path) -> None:
    body = {"prompt": "a cat [sandbox:delay=2]", "imageSize": "512"}
    told = set(re.findall(r"^\| `(\w+)` \| ", PAGE.partition("| event | data |")[2].partition("##")[0], re.MULTILINE))
    example = json.loads(PAGE.partition("```json")[2].partition("```")[0])
    environment = {"STABLESTUDIO_WEBHOOKS_INSIDE": "true"}
    with (
        Receiver() as receiver,
        Service(tmp_path / "data", environment=environment) as service,
        Buyer(service.url) as buyer,
    ):
        path = "/api/generate/nano-banana/generate"
        answer = buyer.pay(path, body, buyer.fund().sign(path, body), **{HEADER: receiver.url})
        token = {"Authorization": f"Bearer {answer.headers['poll-token']}"}
        stream = buyer.http.get(f"/api/jobs/{answer.json()['jobId']}/events", headers=token, timeout=90)
        (delivery,) = receiver.wait(1)
    assert set(re.findall(r"^event: (\w+)$", stream.text, re.MULTILINE)) == told
    assert example.keys() == delivery.message.keys()
    assert example["data"].keys() <= delivery.message["data"].keys()
