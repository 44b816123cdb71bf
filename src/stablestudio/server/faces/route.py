"""A face's route: finds what a body asks for and has it sold."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from stablestudio.catalog import Offering, PriceTable
from stablestudio.errors import StudioError
from stablestudio.server.faces.openai import Face, FormFields, Wish, read_wish
from stablestudio.server.faces.sale import FacedSale
from stablestudio.server.forms import is_form, read_form
from stablestudio.server.http import Receive, Scope, Send, header, read_body, refuse_method, respond_preflight
from stablestudio.server.sell import METHODS

Sale = Callable[[Offering, Wish | None], FacedSale]


class FaceRoute:
    """`POST` on a face's path. Prices, makers and payments are those of the native routes."""

    def __init__(self, face: Face, *, sale: Sale, prices: PriceTable, body_limit: int) -> None:
        self._face = face
        self._sale = sale
        self._body_limit = body_limit
        self._dearest_first = sorted(face.offerings, key=lambda offering: prices.ceiling(offering).micros, reverse=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            return await respond_preflight(send, METHODS)
        if scope["method"] != "POST":
            raise refuse_method(scope, "POST")
        body = await read_body(receive, limit=self._body_limit)
        if not body.strip():
            return await self._dearest().serve(scope, receive, send, body)
        form = False
        if body.startswith(b"--") and is_form(content_type := header(scope, b"content-type")):
            body, form = await read_form(FormFields, body, content_type), True
        wish = read_wish(self._face, body, is_form=form)
        try:
            await self._sale(wish.offering, wish).serve(scope, receive, send, body)
        except StudioError as error:
            wish.retell(error)
            raise

    def _dearest(self) -> FacedSale:
        """Return the sale that quotes an empty body: of what somebody makes here, the dearest."""
        for offering in self._dearest_first:
            sale = self._sale(offering, None)
            with suppress(StudioError):
                sale.require_maker()
                return sale
        return self._sale(self._dearest_first[0], None)
