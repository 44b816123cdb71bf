"""docs/providers.md tells every setting, and who makes what as which model, as the code has it.

`python -m tests.acceptance.test_docs_of_providers` prints the tables that it must have.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args

import pytest

from stablestudio.cli.providers import _workshop, providers, remark
from stablestudio.config import Settings, load_settings
from stablestudio.jobs import decisions
from stablestudio.provider_settings import Kind, ProviderSettings
from stablestudio.providers import bindings, openai_images_requests
from stablestudio.providers.lacks import Lacks
from stablestudio.server.providers import BASE_URLS, MADE, Providers, plan, served
from tests.providers.fakes.vertex import key_file
from tests.providers.schema import schemas

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "providers.md").read_text()
WORDS = " ".join(PAGE.split())
VENDORS = [kind for kind in get_args(Kind) if kind != "sandbox"]
OFFERINGS = {offering.key: offering for offering in MADE}

_UNIT = "tests/unit/providers"
_GOOGLE = "what `google-genai` sends"
_OPENAI = "OpenAI's OpenAPI document, types of `openai`"
# By kind: what its requests are held against, and a file that does so with a word that stands in it.
ORACLES: Mapping[str, tuple[str, str, str]] = {
    "openai-images": (_OPENAI, f"{_UNIT}/test_openai_images_requests.py", "openai.types.image_generate_params"),
    "openai-videos": (_OPENAI, f"{_UNIT}/test_openai_videos_requests.py", "openai.types.video_create_params"),
    "xai": ("limits of `xai-sdk`, a community's OpenAPI document", f"{_UNIT}/test_xai_requests.py", 'schemas("xai")'),
    "gemini": (_GOOGLE, f"{_UNIT}/test_gemini_requests.py", "sent_by_sdk"),
    "interactions": (_GOOGLE, f"{_UNIT}/test_interactions_requests.py", "sent_by_sdk"),
    "vertex-veo": (_GOOGLE, f"{_UNIT}/test_vertex_veo_requests.py", "sent_by_sdk"),
    "bfl": ("fields of BFL's OpenAPI document", f"{_UNIT}/test_bfl_requests.py", "class Flux2Inputs"),
    "modelark": ("types of `volcengine-python-sdk`", f"{_UNIT}/test_modelark_requests.py", 'schemas("modelark")'),
    "dashscope": ("what `dashscope` sends", "tests/providers/test_dashscope.py", "dashscope.v2"),
    "fal": ("types of `@fal-ai/client`", f"{_UNIT}/test_fal_requests.py", 'schemas("fal")'),
    "replicate": ("schemas on replicate.com", f"{_UNIT}/test_replicate_requests.py", 'schemas("replicate")'),
    "openrouter": ("types of `openrouter`", f"{_UNIT}/test_openrouter_requests.py", 'schemas("openrouter")'),
}
# Where the vendor's machine-readable document does not have the model, its pages are what was read.
_BY_PAGES = frozenset(
    {
        ("fal", "wan-2.6/t2v"),
        ("replicate", "wan-2.6/t2v"),
        ("replicate", "wan-2.6/i2v"),
        ("replicate", "grok-video/generate"),
    }
)


@cache
def everybody() -> Providers:
    """Build a provider of each kind."""
    given = {
        kind: {"kind": kind, "key": key_file() if kind == "vertex-veo" else "k"}
        | ({"base_url": "http://127.0.0.1:9/v1"} if kind == "openai-videos" else {})
        for kind in VENDORS
    }
    return plan(load_settings({"providers": given}), _workshop())


def settings_table() -> list[str]:
    rows = []
    for name, field in ProviderSettings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "*needed*" if field.is_required() else "" if default is None else f"`{default}`"
        rows.append(f"| `{name}` | {shown} | {field.description} |")
    return ["| setting | default | meaning |", "|---|---|---|", *rows]


def offerings_table() -> list[str]:
    """Return a row for each model of each kind of provider, with the offerings that it makes."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for key, offering in OFFERINGS.items():
        for kind in VENDORS:
            if (model := everybody().vendors[kind].models.get(key)) is not None:
                oracle = "the model's page" if (kind, key) in _BY_PAGES else ORACLES[kind][0]
                rows.setdefault((offering.model, kind, model, oracle), []).append(key)
    heads = ["| offering | kind | usual model | lifecycle | tested against |", "|---|---|---|---|---|"]
    return [*heads, *(_row(kind, model, oracle, keys) for (_, kind, model, oracle), keys in rows.items())]


def _row(kind: str, model: str, oracle: str, keys: Sequence[str]) -> str:
    usual = served(ProviderSettings.model_construct(kind=cast(Any, kind)), everybody().vendors[kind])
    by_name = "" if keys[0] in usual else ", by name only"
    names = " ".join(f"`{key}`" for key in keys)
    return f"| {names} | `{kind}` | `{model}`{by_name} | {remark(OFFERINGS[keys[0]])} | {oracle} |"


def lacks_table() -> list[str]:
    """Return a row for each wish that a kind of provider cannot fulfil, with the offerings that sell it."""
    rows: dict[tuple[str, str], list[str]] = {}
    for kind in VENDORS:
        lacks: Lacks = getattr(everybody().vendors[kind], "lacks", {})
        for key in (key for key in OFFERINGS if key in lacks):
            for lack in lacks[key]:
                if lack.field in OFFERINGS[key].input.model_fields:
                    rows.setdefault((kind, f"`{lack.field}`: {lack.says}"), []).append(f"`{key}`")
    heads = ["| kind | offering | what is refused before payment, and what can be had |", "|---|---|---|"]
    return [*heads, *(f"| `{kind}` | {' '.join(keys)} | {says} |" for (kind, says), keys in rows.items())]


def ignored_table() -> list[str]:
    """Return a row for each field that a kind of provider has no place for and that changes no picture."""
    rows = [
        f"| `{kind}` | `{model}` | {' '.join(f'`{field}`' for field in fields)} |"
        for kind in VENDORS
        for model, fields in getattr(everybody().vendors[kind], "ignored", {}).items()
    ]
    return ["| kind | model | fields that the vendor does not know |", "|---|---|---|", *rows]


def rows_of(heading: str) -> list[str]:
    told = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [line for line in told.splitlines() if line.startswith("|")]


def examples() -> Iterator[Settings]:
    for text in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL):
        yield load_settings(tomllib.loads(text))


def test_every_setting_is_told_as_it_is() -> None:
    assert [line for line in settings_table() if line not in PAGE] == []
    told = set(
        re.findall(
            r"^\| `(\w+)` \| .*? \| .*? \|$",
            PAGE.partition("## Settings of a provider")[2].partition("##")[0],
            re.MULTILINE,
        )
    )
    assert told == set(ProviderSettings.model_fields)


def test_who_makes_what_is_told_as_it_is() -> None:
    told = PAGE.partition("## Who makes what")[2]
    assert [line for line in told.splitlines() if line.startswith("|")] == offerings_table()


def test_what_a_vendor_lacks_and_does_not_know_is_told_as_it_is() -> None:
    assert rows_of("What a vendor lacks") == [*lacks_table(), *ignored_table()]
    assert {"moderation"} == openai_images_requests._JSON_ONLY


def test_the_oracles_are_where_the_table_says() -> None:
    assert ORACLES.keys() == set(VENDORS)
    for _, path, word in ORACLES.values():
        assert word in (ROOT / path).read_text(), path
        if vendor := re.fullmatch(r'schemas\("(\w+)"\)', word):
            assert schemas(vendor[1])


def test_every_kind_is_told_with_its_address() -> None:
    rows = dict(
        re.findall(r"^\| `([a-z-]+)` \| .*? \| (.*?) \|", PAGE.partition("## Settings of a provider")[0], re.MULTILINE)
    )
    assert rows.keys() == set(VENDORS)
    assert {kind: url for kind, told in rows.items() if (url := told.strip("`")) and told.startswith("`")} == BASE_URLS


def test_the_examples_can_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(examples())
    assert {one.kind for settings in found for one in settings.providers.values()} >= set(VENDORS)
    keys = {one.key.get_secret_value() for settings in found for one in settings.providers.values() if one.key}
    for key in keys:
        if key.startswith("env:"):
            monkeypatch.setenv(key.removeprefix("env:"), "k")
    for settings in found:
        usable = {
            name: one.model_copy(update={"key": ProviderSettings(kind="xai", key=key_file()).key})
            if one.kind == "vertex-veo"
            else one
            for name, one in settings.providers.items()
        }
        assert plan(settings.model_copy(update={"providers": usable}), _workshop()).off == []


def test_what_one_aggregator_sells_is_told() -> None:
    for kind, told in (("fal", "`fal` serves {}"), ("replicate", "`replicate` {}")):
        assert f"{told.format(len(everybody().vendors[kind].models))} of the {len(MADE)} offerings" in WORDS


def test_the_numbers_of_the_rules_are_told() -> None:
    assert bindings._CLOSED_MS == 5 * 60 * 1000
    assert "passed over for five minutes" in WORDS
    assert (decisions.MAX_ATTEMPTS, decisions.MAX_WAITS, decisions.HARD_DEADLINE_SECONDS) == (3, 10, 24 * 3600)
    assert f"drain_seconds` ({Settings.model_fields['drain_seconds'].default:g}" in WORDS


def test_the_commands_exist() -> None:
    lines = re.findall(r"^stablestudio providers ?(\w*)(.*?)#", PAGE, re.MULTILINE)
    assert {name for name, _ in lines} == {"", *providers.commands}
    known = {option for parameter in providers.commands["check"].params for option in parameter.opts}
    assert {option for _, rest in lines for option in re.findall(r"--\w+", rest)} <= known


if __name__ == "__main__":
    print("\n".join([*settings_table(), "", *lacks_table(), "", *ignored_table(), "", *offerings_table()]))  # noqa: T201 - a tool for whoever edits the page
