"""Who makes an input: the first open provider that lacks nothing of it; and what is said before any money is asked."""

from __future__ import annotations

from typing import Any

import pytest

from stablestudio.catalog import Offering, OfferingInput
from stablestudio.errors import InvalidInput, Issue
from stablestudio.providers.bindings import Binding, Bindings, OfferingInterrupted, OfferingUnavailable
from stablestudio.providers.lacks import CODE, Lack, at_most, objections, only, without
from stablestudio.providers.provider import FailureKind
from tests.doubles import FakeVendor, ManualClock
from tests.providers.works import work

KEY = "flux-2-max/edit"
MANY = work(KEY, images=[f"https://example.com/{n}.png" for n in range(9)])
FEW = work(KEY)


class Narrow(FakeVendor):
    """A vendor that lacks something, and counts how often it is asked what."""

    def __init__(self, name: str, *lacks: Lack) -> None:
        super().__init__()
        self.name = name
        self.models: list[str] = []
        self._lacks = lacks

    def objections(self, offering: Offering, given: OfferingInput, *, model: str = "") -> tuple[Issue, ...]:
        self.models.append(model)
        return objections(self._lacks, given)


def narrow(name: str, *lacks: Lack) -> Narrow:
    return Narrow(name, *(lacks or (at_most("images", 8),)))


def wide(name: str = "wide") -> FakeVendor:
    vendor = FakeVendor()
    vendor.name = name
    return vendor


def bound(*vendors: Any) -> Bindings:
    bindings = [Binding(provider=vendor, model=f"{vendor.name}/1") for vendor in vendors]
    return Bindings({KEY: bindings}, clock=ManualClock())


def test_the_first_provider_that_makes_the_input_is_chosen() -> None:
    bindings = bound(narrow("narrow"), wide())

    assert bindings.first(MANY.offering, MANY.input).provider.name == "wide"
    assert bindings.first(FEW.offering, FEW.input).provider.name == "narrow"
    assert bindings.first(MANY.offering).provider.name == "narrow"


def test_only_providers_that_make_the_input_are_asked_for_it() -> None:
    bindings = bound(wide("first"), narrow("narrow"), wide("last"))

    found = bindings.candidates(MANY.offering, MANY.input)
    assert [binding.provider.name for binding in found] == ["first", "last"]


def test_what_nobody_here_makes_is_refused_with_the_field_and_what_can_be_had() -> None:
    with pytest.raises(InvalidInput) as refused:
        bound(narrow("one"), narrow("two")).first(MANY.offering, MANY.input)

    body = refused.value.body()
    assert (body["status"], body["code"], body["charged"]) == (400, "invalid_input", False)
    assert "nothing was charged" in body["hint"]
    (issue,) = body["issues"]
    assert (issue["path"], issue["code"]) == (["images"], CODE)
    assert "at most 8 entries" in issue["message"]


def test_the_advice_is_that_of_the_provider_that_needs_the_fewest_changes() -> None:
    asked = work(KEY, images=[f"https://example.com/{n}.png" for n in range(9)], resolution="4 MP")
    picky = narrow("picky", at_most("images", 1), only("resolution", "1 MP"))

    with pytest.raises(InvalidInput) as refused:
        bound(picky, narrow("narrow")).first(asked.offering, asked.input)

    assert [issue.path for issue in refused.value.issues] == [("images",)]


def test_an_input_that_only_a_closed_provider_makes_is_not_called_wrong() -> None:
    bindings = bound(narrow("narrow"), wide())
    bindings.close(bindings.of(MANY.offering)[1], MANY.offering, kind=FailureKind.UPSTREAM_QUOTA)

    with pytest.raises(OfferingInterrupted):
        bindings.first(MANY.offering, MANY.input)
    assert bindings.first(FEW.offering, FEW.input).provider.name == "narrow"


def test_a_route_without_a_provider_says_so_whatever_the_input() -> None:
    with pytest.raises(OfferingUnavailable):
        Bindings({}, clock=ManualClock()).first(MANY.offering, MANY.input)


def test_a_provider_is_asked_about_the_model_that_it_is_bound_with() -> None:
    vendor = narrow("narrow")
    bound(vendor, wide()).first(MANY.offering, MANY.input)

    assert vendor.models == ["narrow/1"]


@pytest.mark.parametrize(
    ("lack", "asked", "spared"),
    [
        (only("size", "1024x1024"), {"size": "auto"}, {"size": "1024x1024"}),
        (only("background", "auto"), {"background": "opaque"}, {}),
        (without("images", "x"), {"images": ["https://example.com/a.png"]}, None),
        (at_most("images", 1), {"images": ["https://example.com/a.png"] * 2}, {}),
    ],
)
def test_a_lack_is_told_where_the_field_asks_for_it_and_nowhere_else(
    lack: Lack, asked: dict[str, Any], spared: dict[str, Any] | None
) -> None:
    assert [issue.path[0] for issue in objections((lack,), work("gpt-image-2/edit", **asked).input)] == [lack.field]
    free = work("gpt-image-2/generate") if spared is None else work("gpt-image-2/edit", **spared)
    assert objections((lack,), free.input) == ()
