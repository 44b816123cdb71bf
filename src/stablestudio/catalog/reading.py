"""Read a request's body into an input, or refuse it with every issue at once.

A good body takes one pass of the validator's own JSON parser. That parser keeps the last of two equal keys and lets NUL characters by,
so what counting cannot rule out is read a second time; a bad body is always read a second time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json

from stablestudio.catalog.inputs import OfferingInput
from stablestudio.catalog.issues import field_issue
from stablestudio.catalog.spelling import clipped, shown
from stablestudio.errors import InvalidInput, Issue

Input = TypeVar("Input", bound=OfferingInput)

MOST_ISSUES = 50
_LONGEST_NUMBER = 32
# The longest texts may be all commas; a list of a million mistakes would hold up everybody else for seconds.
_MOST_COMMAS = 80_000
# The longest prompt may look like so many keys; an object has at most this many, and each that is wrong costs microseconds.
_MOST_KEYS = 20_000
_MOST_FIELDS = 1_000


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written, with repeated keys."""


def _whole(digits: str) -> int:
    # No field takes such a number, and Python refuses to read thousands of digits.
    return int(digits) if len(digits) <= _LONGEST_NUMBER else 10**_LONGEST_NUMBER


_KEY_END = re.compile(rb'"[ \t\r\n]*:')
_DECODER = json.JSONDecoder(object_pairs_hook=_Pairs, parse_int=_whole)


def read(model: type[Input], body: bytes) -> Input:
    """Return the input that a JSON body states; raise `InvalidInput` with all its issues."""
    if holds_too_much(body):
        raise _refusal([Issue((), "too_many_values", "The body holds more values than any route takes")])
    try:
        value = model.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(_issues(model, body, error)) from None
    if _suspicious(body, keys=len(value.model_fields_set)):
        issues = list(_written_wrong(_pairs(body)))
        issues += _across(model, value, broken={issue.path[0] for issue in issues})
    elif model.rules:
        issues = [issue for rule in model.rules for issue in rule.check(value)]
    else:
        return value
    if issues:
        raise _refusal(issues)
    return value


def holds_too_much(body: bytes) -> bool:
    """Tell whether a JSON body holds more values or fields than any route takes, and would only take long to refuse."""
    commas = body.count(b",")
    if commas <= _MOST_FIELDS:
        return False
    if commas > _MOST_COMMAS or len(_KEY_END.findall(body)) > _MOST_KEYS:
        return True
    try:
        value = from_json(body)
    except ValueError:
        return False  # told in the parser's words
    return isinstance(value, dict) and len(value) > _MOST_FIELDS


def require_rules(value: OfferingInput) -> None:
    """Raise `InvalidInput` with all issues of an input that was made from another one, field by field sound."""
    if issues := _across(type(value), value, broken=set()):
        raise _refusal(issues)


def _suspicious(body: bytes, *, keys: int) -> bool:
    """Say whether a valid body may hold a key twice or a NUL.

    Each key brings a quote and a colon, so as many of these as there are fields leave no room for a key written twice.
    """
    return (body.count(b":") != keys and len(_KEY_END.findall(body)) != keys) or b"\\u0000" in body


def _refusal(issues: list[Issue]) -> InvalidInput:
    count = len(issues)
    first = issues[0].message
    return InvalidInput(first if count == 1 else f"{count} problems; the first: {first}", issues=issues[:MOST_ISSUES])


def _issues(model: type[OfferingInput], body: bytes, error: ValidationError) -> list[Issue]:
    errors = error.errors(include_url=False, include_input=False)
    if errors[0]["type"] == "json_invalid":
        return [Issue((), "invalid_json", f"The body is not valid JSON: {errors[0]['ctx']['error']}")]
    if errors[0]["type"] == "model_type":
        return [Issue((), "not_an_object", "The body must be a JSON object, e.g. " + json.dumps(model.example))]
    pairs = _pairs(body)
    # A list whose only entry is wrong counts as empty for the validator; the entry's own error says enough.
    inside = {each["loc"][0] for each in errors if len(each["loc"]) > 1}
    told = [each for each in errors if each["type"] != "too_short" or each["loc"][0] not in inside]
    issues = [field_issue(model, each) for each in told[:MOST_ISSUES]]
    issues += _written_wrong(pairs)
    # Of all errors, not of those that are told: a wrong value among the patches would be a fault of ours.
    broken = {issue.path[0] for issue in issues} | {each["loc"][0] for each in errors}
    return issues + _across(model, _patched(model, pairs, broken=broken), broken=broken)


def _across(model: type[OfferingInput], value: OfferingInput, *, broken: set[str | int]) -> list[Issue]:
    """Ask the rules whose fields are all sound."""
    return [issue for rule in model.rules if rule.fields.isdisjoint(broken) for issue in rule.check(value)]


def _patched(model: type[Input], pairs: _Pairs, *, broken: set[str | int]) -> Input:
    """Make an input of the sound fields; the example stands in for required fields that are not among them."""
    sound = {name: value for name, value in pairs if name in model.model_fields and name not in broken}
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    return model.model_validate_json(json.dumps({name: model.example[name] for name in required} | sound))


def _pairs(body: bytes) -> _Pairs:
    pairs = _DECODER.decode(body.decode())
    assert isinstance(pairs, _Pairs)
    return pairs


def _written_wrong(pairs: _Pairs) -> Iterator[Issue]:
    """Find what the validator's parser lets by: repeated keys and NUL characters."""
    seen: set[str] = set()
    twice: set[str] = set()
    for name, value in pairs:
        if name in seen and name not in twice:
            twice.add(name)
            yield Issue((clipped(name),), "duplicate_key", f"Field {shown(name)} is given twice")
        seen.add(name)
        for path, text in _texts(name, value):
            if "\0" in text:
                yield Issue(path, "nul_character", f"{shown(name)} contains a NUL character")


def _texts(name: str, value: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        yield (name,), value
    elif isinstance(value, list) and not isinstance(value, _Pairs):
        yield from (((name, index), text) for index, text in enumerate(value) if isinstance(text, str))
