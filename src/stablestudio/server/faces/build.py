"""All faces, built of the parts that the native routes are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stablestudio.catalog import Offering
from stablestudio.media.storage import Storage
from stablestudio.server.faces.images import PictureSale
from stablestudio.server.faces.openai import FACES, VIDEOS, Face, Wish
from stablestudio.server.faces.route import FaceRoute
from stablestudio.server.faces.sale import FacedSale
from stablestudio.server.faces.videos import ClipRoutes, ClipSale
from stablestudio.server.http import Handler
from stablestudio.server.job_bodies import JobBodies
from stablestudio.server.sign_in import Gate
from stablestudio.store.database import Database


def build_faces(
    parts: Mapping[str, Any],
    *,
    hold_s: Callable[[Offering], int],
    database: Database,
    storage: Storage,
    bodies: JobBodies,
    gate: Gate,
) -> tuple[dict[str, Handler], Handler]:
    """Return the routes that sell, by path, and the one below `/v1/videos/`; `parts` are those of a `SellRoute`."""

    def seller(face: Face) -> Callable[[Offering, Wish | None], FacedSale]:
        def sale(offering: Offering, wish: Wish | None) -> FacedSale:
            given = {**parts, "face": face, "wish": wish, "hold_s": hold_s(offering), "database": database}
            if face is VIDEOS:
                return ClipSale(offering, **given)
            return PictureSale(offering, storage=storage, bodies=bodies, **given)

        return sale

    sells: dict[str, Handler] = {
        path: FaceRoute(face, sale=seller(face), prices=parts["prices"], body_limit=parts["body_limit"])
        for path, face in FACES.items()
    }
    shared = {name: parts[name] for name in ("pages", "tokens", "clock")}
    return sells, ClipRoutes(database, gate=gate, bodies=bodies, **shared)
