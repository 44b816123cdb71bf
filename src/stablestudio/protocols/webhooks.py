"""Standard Webhooks 1.0.0: what is signed, by which keys, and in which headers it is told. Pure.

Each message is signed twice: by HMAC with a secret of its own job (`v1`, which every library checks), and with the
service's Ed25519 key (`v1a`), so that a receiver needs nothing but a public key.
"""

from __future__ import annotations

import base64
import hmac

from nacl.signing import SigningKey

ID = "webhook-id"
TIMESTAMP = "webhook-timestamp"
SIGNATURE = "webhook-signature"


class WebhookKeys:
    """Derives all keys from one secret, which may have other purposes."""

    def __init__(self, secret: bytes) -> None:
        self._root = hmac.digest(secret, b"stablestudio webhook secrets", "sha256")
        self._key = SigningKey(hmac.digest(secret, b"stablestudio webhook key", "sha256"))

    @property
    def public(self) -> str:
        """Return the service's public key, as `whpk_` and base64."""
        return "whpk_" + _base64(self._key.verify_key.encode())

    def secret_of(self, job_id: str) -> str:
        """Return the secret of a job's messages, as `whsec_` and base64."""
        return "whsec_" + _base64(self._secret_of(job_id))

    def headers(self, message_id: str, *, job_id: str, now_s: int, body: bytes) -> dict[str, str]:
        """Return the headers of a try that is made now (seconds); `message_id` stays the same at every try."""
        content = signed_content(message_id, timestamp=now_s, body=body)
        signatures = sign(content, secret=self._secret_of(job_id)), sign_openly(content, key=self._key)
        return {ID: message_id, TIMESTAMP: str(now_s), SIGNATURE: " ".join(signatures)}

    def _secret_of(self, job_id: str) -> bytes:
        return hmac.digest(self._root, job_id.encode(), "sha256")


def signed_content(message_id: str, *, timestamp: int, body: bytes) -> bytes:
    """Return what signatures cover; neither the id nor the time has a full stop in it."""
    return b"%b.%d.%b" % (message_id.encode(), timestamp, body)


def sign(content: bytes, *, secret: bytes) -> str:
    """Return the symmetric signature."""
    return "v1," + _base64(hmac.digest(secret, content, "sha256"))


def sign_openly(content: bytes, *, key: SigningKey) -> str:
    """Return the signature that a public key checks."""
    return "v1a," + _base64(key.sign(content).signature)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
