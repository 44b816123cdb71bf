"""Standard Webhooks: the signatures of the specification's own libraries."""

from __future__ import annotations

import base64
import time

import pytest
import standardwebhooks
from nacl.signing import SigningKey, VerifyKey

from stablestudio.protocols.webhooks import WebhookKeys, sign, sign_openly, signed_content

# Of the specification's Go library: https://github.com/standard-webhooks/standard-webhooks
_CONTENT = signed_content("msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, body=b'{"test": 2432232314}')
_SECRET = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
_SEED = base64.b64decode("VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=")


def test_the_symmetric_signature_is_that_of_the_specification() -> None:
    assert sign(_CONTENT, secret=_SECRET) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_asymmetric_signature_is_that_of_the_specification() -> None:
    assert sign_openly(_CONTENT, key=SigningKey(_SEED)) == (
        "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag=="
    )


def test_a_message_bears_both_signatures_and_each_is_checked_with_what_is_published() -> None:
    keys = WebhookKeys(b"s" * 32)
    headers = keys.headers("msg_1", job_id="job_1", now_s=1_700_000_000, body=b"{}")
    content = b"msg_1.1700000000.{}"
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("msg_1", "1700000000")
    symmetric, asymmetric = headers["webhook-signature"].split(" ")
    secret = base64.b64decode(keys.secret_of("job_1").removeprefix("whsec_"))
    assert 24 <= len(secret) <= 64
    assert symmetric == sign(content, secret=secret)
    public = VerifyKey(base64.b64decode(keys.public.removeprefix("whpk_")))
    public.verify(content, base64.b64decode(asymmetric.removeprefix("v1a,")))


def test_the_specification_s_python_library_takes_what_we_send_and_nothing_else() -> None:
    keys = WebhookKeys(b"s" * 32)
    headers = keys.headers("msg_1", job_id="job_1", now_s=int(time.time()), body=b'{"type": "job.complete"}')
    receiver = standardwebhooks.Webhook(keys.secret_of("job_1"))
    assert receiver.verify(b'{"type": "job.complete"}', headers) == {"type": "job.complete"}
    for secret, body in ((keys.secret_of("job_1"), b"{}"), (keys.secret_of("job_2"), b'{"type": "job.complete"}')):
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(secret).verify(body, headers)


def test_jobs_have_secrets_of_their_own_and_services_have_keys_of_their_own() -> None:
    keys, other = WebhookKeys(b"s" * 32), WebhookKeys(b"t" * 32)
    assert len({keys.secret_of("job_1"), keys.secret_of("job_2"), other.secret_of("job_1")}) == 3
    assert keys.public != other.public
    assert keys.public == WebhookKeys(b"s" * 32).public
