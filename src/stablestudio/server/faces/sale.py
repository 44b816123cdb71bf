"""One order at a face: the native route's own sale, bound to this path and this body."""

from __future__ import annotations

from typing import Any

from stablestudio.catalog import Offering, OfferingInput
from stablestudio.server.faces.openai import Face, Wish, read_wish
from stablestudio.server.sell import SellRoute


class FacedSale(SellRoute):
    """Made for each request, because each names its own model; `wish` is None where the body is empty."""

    def __init__(self, offering: Offering, *, face: Face, wish: Wish | None, **parts: Any) -> None:
        super().__init__(offering, face=face.path, **parts)
        self.wish = wish
        self.sold_by = face

    def read(self, body: bytes) -> OfferingInput:
        wish = self.wish or read_wish(self.sold_by, body)  # which says what an empty body lacks
        return super().read(wish.native)
