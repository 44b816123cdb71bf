from __future__ import annotations

import io
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from stablestudio.catalog import OFFERINGS
from stablestudio.client import FileUnusable, StudioApiError, Upload
from stablestudio.client.fakes import PIXEL, FakeSeller, error_reply
from stablestudio.client.files import open_file
from stablestudio.client.menu import Dish
from stablestudio.client.slots import Slot, placed, slots_of
from stablestudio.server.discovery.schemas import whole

from .builders import buyer

CLIP = b"\0\0\0\x18ftypisom" + bytes(20)
EDIT = ("nano-banana", "edit")


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    path = tmp_path / "cat.png"
    path.write_bytes(PIXEL)
    return path


def test_the_fields_of_every_offering_that_take_files_are_found_in_its_schema() -> None:
    for offering in OFFERINGS:
        dish = Dish(model=offering.model, operation=offering.operation, input=whole(offering.input))
        assert {field.name for field in offering.input.media_fields} <= set(slots_of(dish)), offering.key
    wan = next(each for each in OFFERINGS if each.key == "wan-2.6/i2v")
    dish = Dish(model="wan-2.6", operation="i2v", input=whole(wan.input))
    assert slots_of(dish) == {
        "audioUrl": Slot(kinds=("audio",), many=False),
        "image": Slot(kinds=("image",), many=False),
    }


@pytest.mark.parametrize("operation", ["edit", "generate"])
def test_a_file_in_a_field_that_takes_none_is_refused_for_nothing(tmp_path: Path, cat: Path, operation: str) -> None:
    seller = FakeSeller()
    large = tmp_path / "large.png"
    large.write_bytes(PIXEL + bytes(4_000_000))
    for path in (cat, large):
        with pytest.raises(FileUnusable, match="'prompt' takes no file") as caught:
            buyer(seller, tmp_path).submit("nano-banana", operation, {"prompt": path})
        assert [issue.path for issue in caught.value.issues] == [("prompt",)]
        assert ("'images' takes a picture" in caught.value.advice) == (operation == "edit")
    assert seller.signatures == []


def test_a_file_of_another_kind_than_its_field_takes_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(CLIP)
    seller = FakeSeller()
    with pytest.raises(FileUnusable, match=r"'image' takes a picture; clip\.mp4 is video/mp4"):
        buyer(seller, tmp_path).quote("veo-3.1", "generate", {"prompt": "x", "image": tmp_path / "clip.mp4"})
    assert seller.bodies == []


def test_one_file_for_a_list_becomes_a_list_and_nothing_else_does(tmp_path: Path, cat: Path) -> None:
    seller = FakeSeller()
    buyer(seller, tmp_path).submit(*EDIT, {"prompt": "x", "images": cat})
    assert b'"images":["data:image/png;base64,iVBOR' in seller.bodies[0]
    dish = Dish(model="m", operation="o", input={"properties": {"urls": {"items": {"x-media": ["image"]}}}})
    there = Upload(id="u", blob_url="https://s/u")
    assert placed({"urls": there, "prompt": "p"}, {}, dish=dish) == {"urls": [there], "prompt": "p"}
    assert placed({"urls": "https://s/u"}, {}, dish=dish) == {"urls": "https://s/u"}
    assert placed({"urls": [cat]}, {cat: open_file(cat)}, dish=dish) == {"urls": [cat]}


def test_a_service_that_tells_no_schemas_is_sent_the_input_as_it_is(tmp_path: Path, cat: Path) -> None:
    seller = FakeSeller()
    buyer(seller, tmp_path).submit("other", "edit", {"prompt": "x", "pictures": cat})
    assert b'"pictures":"data:' in seller.bodies[0]


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, io.BytesIO])
def test_bytes_and_open_files_are_taken_and_can_be_quoted_first(tmp_path: Path, make: Any) -> None:
    seller = FakeSeller()
    wish = {"prompt": "x", "images": [make(PIXEL)]}
    buyer(seller, tmp_path).quote(*EDIT, wish)
    buyer(seller, tmp_path).submit(*EDIT, wish)
    assert b'"images":["data:image/png;base64,iVBOR' in seller.bodies[0]


@pytest.mark.parametrize("what", [io.StringIO("x"), date(2026, 1, 1), {1, 2}])
def test_what_is_no_file_and_no_value_is_refused_with_what_would_be_right(tmp_path: Path, what: object) -> None:
    seller = FakeSeller()
    with pytest.raises(FileUnusable) as caught:
        buyer(seller, tmp_path).submit(*EDIT, {"prompt": "x", "images": [what]})
    assert "mode 'rb'" in caught.value.advice
    with pytest.raises(FileUnusable):
        buyer(seller, tmp_path).upload(what)  # type: ignore[arg-type]
    assert seller.signatures == []


@pytest.mark.parametrize("name", ["cat.png", "there-is-none.png", "x" * 5000, "\0"])
def test_the_name_of_a_file_in_place_of_a_link_is_told_how_to_be_handed_over(
    tmp_path: Path, cat: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(cat.parent)
    issue = {"path": ["images", 0], "code": "invalid_link", "message": "give an https:// URL"}
    seller = FakeSeller(
        quote_faults=[error_reply(400, "invalid_input", charged=False, hint="Fix.", issues=[issue])] * 2
    )
    for order in (buyer(seller, tmp_path).quote, buyer(seller, tmp_path).submit):
        with pytest.raises(StudioApiError) as caught:
            order(*EDIT, {"prompt": "x", "images": [name]})
        told = "-p images=@cat.png" in caught.value.advice and "Path('cat.png')" in caught.value.advice
        assert told == (name == "cat.png")


def test_a_type_that_the_first_bytes_belie_is_refused(cat: Path) -> None:
    with pytest.raises(FileUnusable, match="is image/png, not image/jpeg"):
        open_file(cat, content_type="image/jpeg")
    assert open_file(cat, content_type="image/png").content_type == "image/png"
    assert open_file(CLIP, content_type="audio/mp4").content_type == "audio/mp4", "a sound in a container of clips"
    with pytest.raises(FileUnusable, match="known type"):
        open_file(b"GIF89a" + bytes(9))
