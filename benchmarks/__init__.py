"""Measures quotes, polls, paid accepts and files beside a bare ASGI app, a peer and nginx, all on loopback."""
