"""Forms: what a server reads in them is what was put in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stablestudio.providers.forms import form
from tests.providers.given import tiny
from tests.providers.works import work


@pytest.mark.parametrize(
    ("content_type", "name"), [("image/png", "0.png"), ("image/jpeg", "0.jpg"), ("video/mp4", "0.mp4")]
)
def test_a_file_is_one_part_with_its_type_and_a_name_that_says_it(content_type: str, name: str) -> None:
    file = replace(tiny(work("flux-2-pro/edit"))[0], content_type=content_type)
    body, kind = form({}, files=[file], files_as="content")
    boundary = kind.removeprefix("multipart/form-data; boundary=")

    assert body.decode() == (
        f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{name}"\r\n'
        f"Content-Type: {content_type}\r\n\r\npicture\r\n--{boundary}--\r\n"
    )
