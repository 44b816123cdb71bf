"""Errors are part of the contract: every class has a code, a sentence, a hint and a status that fit together."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import stablestudio
from stablestudio.catalog.issues import _LIMITS
from stablestudio.errors import ISSUE_CODES, InternalError, InvalidInput, Issue, StudioError
from stablestudio.payments.errors import SalesUnavailable
from stablestudio.server.public import error_page

# Run when imported: the command line, and Alembic's script.
_NOT_MODULES = ("__main__", "stablestudio.store.migrations")
_BUYER_SIDE = ("stablestudio.client", "stablestudio.cli", "stablestudio.mcp")
SOURCE = Path(stablestudio.__path__[0])
_HTTP = {400, 401, 402, 403, 404, 405, 408, 409, 410, 412, 413, 416, 422, 429, 431, 500, 502, 503}


def _all_errors() -> list[type[StudioError]]:
    for module in pkgutil.walk_packages(stablestudio.__path__, "stablestudio."):
        if not any(part in module.name for part in _NOT_MODULES):
            importlib.import_module(module.name)
    found = dict.fromkeys(_below(StudioError))
    return sorted((each for each in found if each.__module__.startswith("stablestudio.")), key=_name)


def _below(base: type[StudioError]) -> Iterator[type[StudioError]]:
    for error in base.__subclasses__():
        yield error
        yield from _below(error)


def _name(error: type[StudioError]) -> str:
    return f"{error.__module__}.{error.__qualname__}"


def _is_buyers(error: type[StudioError]) -> bool:
    return error.__module__.startswith(_BUYER_SIDE)


ERRORS = _all_errors()
SERVED = [error for error in ERRORS if not _is_buyers(error)]
each_error = pytest.mark.parametrize("error", ERRORS, ids=_name)
each_served = pytest.mark.parametrize("error", SERVED, ids=_name)


def test_the_walk_finds_the_errors_of_every_floor() -> None:
    modules = {error.__module__.split(".")[1] for error in ERRORS}

    assert modules >= {"errors", "protocols", "media", "payments", "providers", "server", "client"}
    assert len(ERRORS) > 50


@pytest.mark.parametrize("side", [SERVED, [error for error in ERRORS if _is_buyers(error)]], ids=["service", "buyer"])
def test_a_code_means_one_thing(side: list[type[StudioError]]) -> None:
    codes = Counter(error.code for error in side)

    assert [code for code, count in codes.items() if count > 1] == []


@each_error
def test_a_code_is_the_class_name_in_snake_case(error: type[StudioError]) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", error.code)
    assert error.code.replace("_", "") == error.__name__.lower()


@each_error
def test_an_error_says_in_a_sentence_of_its_own_what_happened(error: type[StudioError]) -> None:
    docstring = error.__dict__.get("__doc__")

    assert docstring, "the class docstring is the default message"
    assert docstring.strip().splitlines()[0].endswith(".")


@each_served
def test_that_sentence_is_what_is_told_unless_more_is_known(error: type[StudioError]) -> None:
    assert error().body()["error"] == (error.__doc__ or "").strip().splitlines()[0]


@each_error
def test_an_error_says_what_to_do_next(error: type[StudioError]) -> None:
    assert error.hint.endswith(".")
    # The base's hint is to ask the operator, for whom internal errors alone are.
    assert error is InternalError or error.hint != StudioError.hint


@each_served
def test_a_status_is_one_of_http(error: type[StudioError]) -> None:
    assert error.status in _HTTP


@each_served
def test_a_retry_is_promised_only_where_the_same_request_may_do_better(error: type[StudioError]) -> None:
    assert not error.retryable or error.status in (408, 409, 429, 500, 503)
    # And where the hint tells to send the same again later, the flag says so too.
    assert error.retryable or not re.search(r"(same|unchanged).* again (in|later)|[Tt]ry again later", error.hint)


@each_served
def test_a_refused_payment_says_that_nothing_was_charged(error: type[StudioError]) -> None:
    """`charged` is told in every answer; a hint may repeat it, and never contradicts it."""
    unknown = error is SalesUnavailable  # of an earlier try with the same payment nobody can tell: neither yes nor no
    assert error().body()["charged"] is (None if unknown else False)
    assert not re.search(r"(?<!nothing )(was|were) charged", error.hint)


@each_served
def test_the_page_of_errors_explains_each(error: type[StudioError]) -> None:
    explained = dict(re.findall(r"^## (\S+)\n(.+)$", error_page(), re.MULTILINE))

    assert explained[error.code].startswith(f"HTTP {error.status}. {error().message} {error.hint} ")


def test_the_page_of_errors_leaves_out_what_no_answer_can_say() -> None:
    assert "HTTP 0." not in error_page()


def test_a_body_has_the_shape_of_the_contract() -> None:
    assert InternalError().body() == {
        "success": False,
        "error": "Something went wrong on our side.",
        "code": "internal_error",
        "status": 500,
        "hint": InternalError.hint,
        "retryable": True,
        "charged": False,
    }


def test_fields_at_fault_are_listed_with_what_would_be_right() -> None:
    issues = [Issue(("size",), "not_allowed", "wrong", ("1K", 2)), Issue(("images", 0), "blank", "empty")]

    body = InvalidInput(issues=issues).body()

    assert body["issues"] == [
        {"path": ["size"], "code": "not_allowed", "message": "wrong", "allowed": ["1K", 2]},
        {"path": ["images", 0], "code": "blank", "message": "empty"},
    ]
    assert json.loads(json.dumps(body)) == body


def test_what_is_said_of_one_error_is_not_said_of_the_next() -> None:
    told = InvalidInput("This one.", hint="Do this.", charged=True, extra={"x": 1}, headers={"Allow": "POST"})

    assert (told.message, told.advice, told.charged) == ("This one.", "Do this.", True)
    assert str(told) == "This one."
    assert InvalidInput().body() | {"issues": []} == {**InvalidInput().body(), "issues": []}
    assert "x" not in InvalidInput().body()
    assert InvalidInput().headers == []


def test_a_new_error_needs_a_class_and_a_sentence_only() -> None:
    class TooManyCats(StudioError):
        """There are too many cats."""

        status = 409

    assert TooManyCats.code == "too_many_cats"
    assert TooManyCats().body()["error"] == "There are too many cats."
    assert TooManyCats().body()["status"] == 409


def _issue_codes() -> Iterator[tuple[str, str]]:
    """Yield (file, code) of each issue that the source makes."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            place = {"Issue": 1, "_refusal": 1, "_bad": 1, "_bad_key": 0}.get(node.func.id)
            given = node.args[place] if place is not None and len(node.args) > place else None
            if isinstance(given, ast.Constant) and path.parent.name != "client":
                yield path.name, str(given.value)


def test_each_code_of_an_issue_is_explained() -> None:
    codes = {*ISSUE_CODES, *(error.code for error in ERRORS)}
    made = list(_issue_codes())
    assert len(made) > 20
    assert [found for found in made if found[1] not in codes] == []
    assert {public for public, _ in _LIMITS.values()} <= codes
    assert all(f"- `{code}`: " in error_page() for code in ISSUE_CODES)
