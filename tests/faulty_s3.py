"""A program: moto's S3 behind a wrapper that checks signatures and fails on request.

moto alone accepts any secret and any body, and never breaks. Here a request that is not signed by
the one known key is refused as S3 refuses it, and rules sent to `/_faults` say which of the others
go wrong, how, and how often: GET shows the rules with their hits, POST adds a JSON list of them,
DELETE forgets all. Objects live in memory and end with the process, which ends with its stdin.
"""

import argparse
import base64
import hashlib
import hmac
import io
import json
import os
import random
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from urllib.parse import quote, unquote
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server
from werkzeug.test import Client
from werkzeug.wrappers import Request, Response

CHANGES = ("slow", "ignore-conditions")
"""Faults that change how a request is served."""
ENDS = ("reset", "lost-answer", "truncate", "proxy-404")
"""Those that decide how it ends, as does any status from 400 on."""
CODES = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<scope>\d{8}/[^/]+/s3/aws4_request), *"
    r"SignedHeaders=(?P<names>[^,]+), *Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass
class Rule:
    """One fault and the requests it meets: a share of those that match, until `count` were hit."""

    fault: str | int
    method: str = "*"
    path: str = ""
    """Searched for in the decoded path, "/bucket/key"."""
    query: str = ""
    """Searched for in the query as sent; "^$" tells a whole PUT from a part."""
    count: int | None = None
    rate: float = 1.0
    seed: int = 0
    seconds: float = 0.0
    """How slow `slow` is."""
    matches: int = 0
    hits: int = 0

    def __post_init__(self) -> None:
        if self.fault not in (*CHANGES, *ENDS, *range(400, 600)):
            raise ValueError(f"no such fault: {self.fault!r}")
        re.compile(self.path)
        re.compile(self.query)

    def strikes(self, method: str, path: str, query: str) -> bool:
        if self.method not in ("*", method) or self.hits == self.count:
            return False
        if not re.search(self.path, path) or not re.search(self.query, query):
            return False
        self.matches += 1
        # By number: which of the matching requests are hit does not depend on other rules.
        struck = random.Random(f"{self.seed}/{self.matches}").random() < self.rate
        self.hits += struck
        return struck


class Refused(Exception):
    """An answer in S3's words for a request that is not even looked at."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.response = error_response(status, code)


class FaultyS3:
    """The WSGI application: control path, then signature, then faults, then moto."""

    def __init__(self, moto: WSGIApplication, access_key: str, secret_key: str) -> None:
        self._moto = moto
        self._access_key = access_key
        self._secret_key = secret_key
        self._rules: list[Rule] = []
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/_faults":
            return self._control(Request(environ))(environ, start)
        try:
            body = read_body(environ)
            check_signature(environ, self._access_key, self._secret_key)
            check_digests(environ, body)
        except Refused as refusal:
            return refusal.response(environ, start)
        return self._answer(environ)(environ, start)

    def _control(self, request: Request) -> Response:
        with self._lock:
            if request.method == "DELETE":
                self._rules.clear()
            elif request.method == "POST":
                try:
                    self._rules += [Rule(**rule) for rule in json.loads(request.get_data())]
                except (ValueError, TypeError, re.error) as error:
                    return Response(str(error), 400)
            return Response(json.dumps([asdict(rule) for rule in self._rules]))

    def _answer(self, environ: WSGIEnvironment) -> Response:
        for rule in self._struck(environ):
            match rule.fault:
                case "slow":
                    time.sleep(rule.seconds)
                case "ignore-conditions":
                    environ.pop("HTTP_IF_MATCH", None)
                    environ.pop("HTTP_IF_NONE_MATCH", None)
                case "reset":
                    raise ConnectionResetError  # see Handler
                case "lost-answer":
                    self._ask_moto(environ)
                    return error_response(500)
                case "proxy-404":
                    return Response("404 page not found", 404, mimetype="text/plain")
                case "truncate":
                    return cut_in_half(self._ask_moto(environ))
                case int(status):
                    return error_response(status)
        return self._ask_moto(environ)

    def _struck(self, environ: WSGIEnvironment) -> list[Rule]:
        """The rules that this request meets, up to the first that decides how it ends."""
        path = unquote(environ["RAW_URI"].partition("?")[0])
        struck = []
        with self._lock:
            for rule in self._rules:
                if rule.strikes(environ["REQUEST_METHOD"], path, environ["QUERY_STRING"]):
                    struck.append(rule)
                    if rule.fault not in CHANGES:
                        break
        return struck

    def _ask_moto(self, environ: WSGIEnvironment) -> Response:
        return Response.from_app(self._moto, environ, buffered=True)


def read_body(environ: WSGIEnvironment) -> bytes:
    """Read a request's body, and put it back for moto."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        raise Refused(411, "MissingContentLength")
    size_bytes = int(environ.get("CONTENT_LENGTH") or 0)
    body: bytes = environ["wsgi.input"].read(size_bytes)
    if len(body) < size_bytes:
        # The client died. moto would store what came of it.
        raise Refused(400, "IncompleteBody")
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def check_signature(environ: WSGIEnvironment, access_key: str, secret_key: str) -> None:
    """Refuse what AWS Signature Version 4 in the Authorization header does not vouch for."""
    signed = AUTHORIZATION.fullmatch(environ.get("HTTP_AUTHORIZATION", ""))
    if signed is None:
        raise Refused(403, "AccessDenied")
    if signed["key"] != access_key:
        raise Refused(403, "InvalidAccessKeyId")
    request = hashlib.sha256(canonical_request(environ, signed["names"]).encode()).hexdigest()
    date = environ.get("HTTP_X_AMZ_DATE", "")
    to_sign = f"AWS4-HMAC-SHA256\n{date}\n{signed['scope']}\n{request}"
    key = f"AWS4{secret_key}".encode()
    for part in signed["scope"].split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    expected = hmac.digest(key, to_sign.encode(), "sha256").hex()
    if not hmac.compare_digest(expected, signed["signature"]):
        raise Refused(403, "SignatureDoesNotMatch")


def canonical_request(environ: WSGIEnvironment, names: str) -> str:
    # Decoded and encoded again, as S3 does it: clients differ in what they encode on the wire.
    path = quote(unquote(environ["RAW_URI"].partition("?")[0]), safe="/-_.~")
    pairs = (pair.partition("=") for pair in environ["QUERY_STRING"].split("&") if pair)
    encoded = sorted((encode(name), encode(value)) for name, _, value in pairs)
    query = "&".join(f"{name}={value}" for name, value in encoded)
    headers = "".join(f"{name}:{header(environ, name)}\n" for name in names.split(";"))
    content = header(environ, "x-amz-content-sha256")
    return "\n".join([environ["REQUEST_METHOD"], path, query, headers, names, content])


def encode(text: str) -> str:
    return quote(unquote(text), safe="-_.~")


def header(environ: WSGIEnvironment, name: str) -> str:
    name = name.upper().replace("-", "_")
    prefix = "" if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_"
    return " ".join(environ.get(f"{prefix}{name}", "").split())


def check_digests(environ: WSGIEnvironment, body: bytes) -> None:
    """Refuse a body that is not the one that was signed or announced."""
    announced = header(environ, "x-amz-content-sha256")
    if announced.startswith("STREAMING-"):
        # Framed pieces with a trailer: nothing here would check those.
        raise Refused(501, "NotImplemented")
    if announced not in ("UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()):
        raise Refused(400, "XAmzContentSHA256Mismatch")
    md5 = header(environ, "content-md5")
    if md5 and md5 != base64.b64encode(hashlib.md5(body).digest()).decode():
        raise Refused(400, "BadDigest")


def error_response(status: int, code: str = "") -> Response:
    code = code or CODES.get(status, "InvalidRequest")
    error = f"<Error><Code>{code}</Code><Message>{status} from faulty_s3</Message></Error>"
    xml = f'<?xml version="1.0" encoding="UTF-8"?>\n{error}'
    return Response(xml, status, mimetype="application/xml")


def cut_in_half(response: Response) -> Response:
    """Keep the length that the headers announce; the server closes after what there is."""
    body = response.get_data()
    response.headers["Content-Length"] = str(len(body))
    response.response = [body[: len(body) // 2]]
    return response


class Handler(MotoRequestHandler):
    """Turns a ConnectionResetError of the application into one of the client's."""

    def connection_dropped(
        self, error: BaseException, environ: WSGIEnvironment | None = None
    ) -> None:
        self.close_connection = True
        # Closed without lingering: TCP sends RST. The orderly end would be taken for an answer.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())


def end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=9000, help="on 127.0.0.1")
    parser.add_argument("--listen-fd", type=int, help="a socket that listens already")
    parser.add_argument("--bucket", default="test")
    options = parser.parse_args()
    moto = DomainDispatcherApplication(create_backend_app)
    Client(moto).put(f"/{options.bucket}")
    app = FaultyS3(moto, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    server = make_server(
        "127.0.0.1", options.port, app, True, request_handler=Handler, fd=options.listen_fd
    )
    threading.Thread(target=end_with_stdin, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
