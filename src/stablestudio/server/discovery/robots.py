"""`/robots.txt`: everybody may read everything, and is told where to begin."""

from __future__ import annotations

from stablestudio.server.discovery.shop import Shop


def robots(shop: Shop) -> str:
    """Return the document."""
    documents = ", ".join(f"{shop.origin}/{name}" for name in ("llms.txt", "agents.txt", "openapi.json"))
    return f"User-agent: *\nAllow: /\n\n# For agents: {documents}\n"
