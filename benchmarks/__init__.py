"""Measures quotes, polls and paid accepts beside a bare ASGI app and a peer, all on loopback."""
