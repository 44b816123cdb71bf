"""S3 on the loopback: moto's server in a process of its own, behind a door that checks links as Amazon does.

moto itself takes any signature and any age. `python -m tests.fakes.s3 BUCKET` prints its port and serves until it is killed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlencode

BUCKET = "studio"
KEY_ID, SECRET, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-central-1"
Answer = Callable[[str, list[tuple[str, str]]], Any]


class S3:
    """A running server with one empty bucket."""

    def __init__(self) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "tests.fakes.s3", BUCKET]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(30)
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def environment(self) -> dict[str, str]:
        """Return the settings of a service that keeps its files here."""
        return {
            "STABLESTUDIO_STORAGE": f"s3://{BUCKET}/files",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }


class _Door:
    """Lets signed requests in, and links whose signature and age are right by botocore's own reckoning."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, environ: dict[str, Any], start: Answer) -> Iterable[bytes]:
        signed = "HTTP_AUTHORIZATION" in environ or self._is_good_link(environ)
        if environ["PATH_INFO"].startswith("/moto-api") or signed:
            answer: Iterable[bytes] = self._inner(environ, start)
            return answer
        start("403 Forbidden", [("Content-Type", "application/xml")])
        return [b"<Error><Code>AccessDenied</Code></Error>"]

    def _is_good_link(self, environ: dict[str, Any]) -> bool:
        terms = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
        given = terms.pop("X-Amz-Signature", None)
        if given is None or environ["REQUEST_METHOD"] != "GET":
            return False
        made = datetime.strptime(terms["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        age = (datetime.now(UTC) - made).total_seconds()
        url = f"http://{environ['HTTP_HOST']}{quote(environ['PATH_INFO'])}"
        return given == signature(url, terms) and -900 < age < int(terms["X-Amz-Expires"])


def signature(url: str, terms: dict[str, str], *, region: str = REGION) -> str:
    """Return the signature that botocore gives a link with these terms."""
    from botocore.auth import S3SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    signer = S3SigV4QueryAuth(Credentials(KEY_ID, SECRET), "s3", region, expires=int(terms["X-Amz-Expires"]))
    request = AWSRequest(method="GET", url=f"{url}?{urlencode(terms, quote_via=quote)}")
    request.context["timestamp"] = terms["X-Amz-Date"]
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return str(signer.signature(text, request))


def main(bucket: str) -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server
    from werkzeug.test import Client

    app = _Door(DomainDispatcherApplication(create_backend_app))
    headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request"}
    Client(app).put(f"/{bucket}", headers=headers, base_url="http://127.0.0.1")
    # One request at a time: moto looks whether a key is free and takes it in two steps, which S3 does in one.
    server = make_server("127.0.0.1", 0, app, threaded=False)
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
