"""OpenAI's shape of an order (platform.openai.com/docs/api-reference): which offering a body means, and its native input. Pure.

Beside `model`, `n`, `size`, `seconds`, `response_format` and the files, all fields are those of the native route.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import Field

from stablestudio.catalog import OFFERINGS, Kind, Offering, OfferingInput, VideoInput
from stablestudio.catalog.fields import ImageLink
from stablestudio.catalog.reading import MOST_ISSUES
from stablestudio.catalog.spelling import nearest, shown
from stablestudio.errors import InvalidInput, Issue, StudioError
from stablestudio.server.faces.sizes import fields_of
from stablestudio.server.forms import meant, takes_list
from stablestudio.server.written import Pairs, parse, write

_OWN = ("model", "n", "response_format", "size")
_DROPPED = ("user", "safety_identifier")  # hints for a vendor's own account, which no buyer has here
_PICTURES = ("images", "input_reference", "urls", "image")  # where an input takes pictures, first the field of choice
_GIVEN_PICTURES = ("image", "images", "input_reference")
_FORMATS = ("url", "b64_json")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Face:
    """A route that sells one kind of operation of all models; the model is named in the body."""

    path: str
    kind: Kind
    operations: tuple[str, ...]
    answer: Mapping[str, Any]
    """An example of what a paid request is answered with."""

    @property
    def offerings(self) -> list[Offering]:
        """Return what is sold here, what starts from text alone first."""
        wanted = [each for each in OFFERINGS if each.kind is self.kind and each.operation in self.operations]
        return sorted(wanted, key=lambda each: self.operations.index(each.operation))


_PICTURE = {"created": 1798761600, "data": [{"url": "https://..."}], "jobId": "job_01k9x"}
_CLIP = {"id": "job_01k9x", "object": "video", "status": "queued", "progress": 0, "created_at": 1798761600}
IMAGES = Face(path="/v1/images/generations", kind=Kind.IMAGE, operations=("generate",), answer=_PICTURE)
EDITS = Face(path="/v1/images/edits", kind=Kind.IMAGE, operations=("edit",), answer=_PICTURE)
VIDEOS = Face(path="/v1/videos", kind=Kind.VIDEO, operations=("generate", "t2v", "i2v"), answer=_CLIP)
FACES = {face.path: face for face in (IMAGES, EDITS, VIDEOS)}


@cache
def models(face: Face) -> dict[str, list[Offering]]:
    """Return what a face sells by model."""
    found: dict[str, list[Offering]] = {}
    for offering in face.offerings:
        found.setdefault(offering.model, []).append(offering)
    return found


class FormFields(OfferingInput):
    """What a form's parts are before its model is known: these take files, the others are text."""

    prompt: str = ""
    image: tuple[ImageLink, ...] = Field(default=())
    images: tuple[ImageLink, ...] = Field(default=())
    input_reference: ImageLink = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a body asks for: an offering, its input as JSON, and how the result is to be handed over."""

    offering: Offering
    native: bytes
    inline: bool
    names: Mapping[str, str]
    """How the buyer called what the input calls otherwise."""

    def retell(self, error: StudioError) -> None:
        """Let an error about the native input speak of the fields that were sent."""
        error.issues = tuple(self._renamed(issue) for issue in error.issues)
        error.message = self._reworded(error.message)

    def _renamed(self, issue: Issue) -> Issue:
        path = tuple(self.names.get(step, step) if isinstance(step, str) else step for step in issue.path)
        return Issue(path, issue.code, self._reworded(issue.message), issue.allowed)

    def _reworded(self, text: str) -> str:
        for native, given in self.names.items():
            text = text.replace(repr(native), repr(given))
        return text


def read_wish(face: Face, body: bytes, *, is_form: bool = False) -> Wish:
    """Return what a JSON body asks for; raise `InvalidInput`. In a form's body all values are text."""
    try:
        pairs = parse(body)
    except ValueError:
        raise _refusal([Issue((), "invalid_json", "The body is not valid JSON")]) from None
    if not isinstance(pairs, Pairs):
        raise _refusal([Issue((), "not_an_object", "The body must be a JSON object with model and prompt")])
    offering = _offering(face, pairs)
    given = dict(pairs)
    issues = [Issue((name,), "duplicate_key", f"Field {name!r} is given twice") for name in _repeated(pairs)]
    issues += _own_issues(face, given)
    native, names = _translated(offering.input, pairs, is_form=is_form)
    size = given.get("size")
    if size is not None:
        shape = fields_of(offering.input, size) if isinstance(size, str) else _not_one_of("size", size, ())
        if isinstance(shape, Issue):
            issues.append(shape)
        else:
            issues += [
                Issue((name,), "conflict", f"'size' says what {name!r} says: send one of them")
                for name in shape
                if name != "size" and name in native.names
            ]
            native += shape.items()
            names |= dict.fromkeys(shape, "size")
    if issues:
        raise _refusal(issues)
    inline = given.get("response_format") or ("b64_json" if offering.model.startswith("gpt-image") else "url")
    return Wish(offering=offering, native=write(native).encode(), inline=inline == "b64_json", names=names)


def _offering(face: Face, pairs: Pairs) -> Offering:
    sold, name = models(face), dict(pairs).get("model")
    if not isinstance(name, str) or name not in sold:
        raise _refusal([_not_one_of("model", name, tuple(sold))])
    first, *others = sold[name]
    if others:
        only_there = others[0].input.model_fields.keys() - first.input.model_fields.keys() | {"input_reference"}
        if any(key in only_there and value is not None for key, value in pairs):
            return others[0]
    return first


def _repeated(pairs: Pairs) -> list[str]:
    names = pairs.names
    return [name for name in (*_OWN, *_DROPPED) if names.count(name) > 1]


def _own_issues(face: Face, given: Mapping[str, Any]) -> list[Issue]:
    issues = []
    if given.get("n") is not None and str(given["n"]) != "1":
        issues.append(Issue(("n",), "not_allowed", "'n' must be 1: each request makes one", (1,)))
    wanted = given.get("response_format")
    if wanted is not None and (face.kind is not Kind.IMAGE or wanted not in _FORMATS):
        allowed = _FORMATS if face.kind is Kind.IMAGE else ()
        issues.append(_not_one_of("response_format", wanted, allowed))
    return issues


def _translated(model: type[OfferingInput], pairs: Pairs, *, is_form: bool) -> tuple[Pairs, dict[str, str]]:
    """Return the native fields but for the size, and what they are called here where that differs."""
    native, names = Pairs(), {}
    for name, value in pairs:
        if name in _OWN or name in _DROPPED or value is None or (name == "stream" and value in (False, "false")):
            continue  # what OpenAI's clients send for "nothing said" among them
        field = _native_name(model, name)
        if field != name:
            names[field] = name
        native.append((field, _native_value(model, field, value, is_form=is_form)))
    return native, names


def _native_name(model: type[OfferingInput], name: str) -> str:
    if name in model.model_fields:
        return name
    if name == "seconds" and issubclass(model, VideoInput):
        return model.seconds_field
    if name in _GIVEN_PICTURES:
        return next((field for field in _PICTURES if field in model.model_fields), name)
    return name


def _native_value(model: type[OfferingInput], field: str, value: Any, *, is_form: bool) -> Any:
    if field in _PICTURES:
        return _pictures(model, field, value)
    return meant(model, field, value) if is_form and isinstance(value, str) else value


def _pictures(model: type[OfferingInput], field: str, value: Any) -> Any:
    """Return one link or a list of links, whichever the field takes, of links, objects with `image_url`, or lists of these."""
    links = (
        [_link(each) for each in value] if isinstance(value, list) and not isinstance(value, Pairs) else _link(value)
    )
    if takes_list(model, field):
        return [links] if isinstance(links, str) else links
    return links[0] if isinstance(links, list) and len(links) == 1 else links


def _link(value: Any) -> Any:
    """Return the link of `{"image_url": "..."}`, as JSON edits and references have it; any other object is refused later."""
    return value[0][1] if isinstance(value, Pairs) and value.names == ["image_url"] else value


def _not_one_of(field: str, value: Any, allowed: Sequence[str]) -> Issue:
    if value is None:
        return Issue((field,), "missing", f"Field {field!r} is required", tuple(allowed) or None)
    if not allowed:
        return Issue((field,), "not_allowed", f"{field!r} has no such value here")
    near = nearest(value, allowed) if isinstance(value, str) else None
    told = f" {shown(value)}" if isinstance(value, str) else ""
    advice = f"; did you mean {near!r}?" if near else f"; it is one of {', '.join(allowed)}"
    return Issue((field,), "not_allowed", f"{field!r} cannot be{told}{advice}", tuple(allowed))


def _refusal(issues: list[Issue]) -> InvalidInput:
    return InvalidInput(issues[0].message, issues=issues[:MOST_ISSUES])
