"""The HTTP client: every body, whatever its status, is bounded and rid of the key before anyone sees it."""

import json
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import openai

from engine.base import api_keys
from engine.config.endpoint import EndpointConfig, loopback
from engine.teachers.endpoint.failure import Failure

MAX_REPLY_BYTES = 8 * 2**20
"""A longer reply is not an answer; of its bytes as they travel and as they are once decompressed."""

_NO_KEY = "none"
"""Sent where no key is needed: without one the client would take OPENAI_API_KEY, which is not this server's."""

_GONE = ("content-encoding", "content-length", "transfer-encoding")
"""Headers that are no longer true of a body that was read."""


class Client(openai.DefaultAsyncHttpxClient):
    """A client of httpx that reads whole replies, within bounds.

    Args:
        key: what is sent, and may come back in no reply; None where no key is needed.
        settings: of the client.
    """

    def __init__(self, key: str | None, **settings: Any) -> None:
        super().__init__(**settings)
        self._key = key
        # A few thousand tokens need no compression, and a small reply cannot become a large one.
        self.headers["accept-encoding"] = "identity"

    async def send(self, request: Any, **options: Any) -> Any:
        """The reply, read and closed.

        Raises:
            Failure: a reply of status 200 is too long, or compressed in a way that cannot be undone.
        """
        reply = await super().send(request, **{**options, "stream": True})
        failed = reply.status_code >= 400
        try:
            body = await _whole(reply)
        except Failure as problem:
            if not failed:
                raise
            body = json.dumps({"error": {"message": problem.message}}).encode()
        finally:
            await reply.aclose()
        body = api_keys.redacted_body(body, self._key, api_keys.MIN_PART if failed else api_keys.MIN_SECRET)
        kept = [(name, value) for name, value in reply.headers.multi_items() if name.lower() not in _GONE]
        read = type(reply)(
            reply.status_code, headers=kept, content=body, request=request, extensions=reply.extensions
        )
        read.history = reply.history
        return read


def opened(urls: Sequence[str], key: str | None, settings: EndpointConfig) -> Client:
    """A client for these addresses."""
    return Client(
        key,
        # A redirect could carry the key elsewhere.
        follow_redirects=False,
        timeout=openai.Timeout(settings.read_timeout, connect=settings.connect_timeout),
        # No proxy reaches this machine's own servers.
        trust_env=not all(map(loopback, urls)),
    )


def own_arguments(key: str | None) -> dict[str, Any]:
    """Arguments of a client that takes nothing from the environment and sends each request once."""
    return {
        "api_key": key or _NO_KEY,
        "max_retries": 0,
        "default_headers": {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()},
    }


async def _whole(reply: Any) -> bytes:
    body, sent = bytearray(), 0
    decoded = _decoder(reply.headers.get("content-encoding", ""))
    async for chunk in reply.aiter_raw():
        sent += len(chunk)
        for part in decoded(chunk):
            body += part
            if max(len(body), sent) > MAX_REPLY_BYTES:
                raise Failure("fault", f"the reply is longer than {MAX_REPLY_BYTES:,} bytes")
        if sent > MAX_REPLY_BYTES:
            raise Failure("fault", f"the reply is longer than {MAX_REPLY_BYTES:,} bytes")
    return bytes(body)


_PIECE = 64 * 1024
"""Bytes that are decompressed at a time: a kilobyte can hold a megabyte."""


def _decoder(encoding: str) -> Any:
    """What turns chunks of a body into its pieces, decompressed.

    Raises:
        Failure: an encoding that was not asked for and is not known.
    """
    named = [name for word in encoding.lower().split(",") if (name := word.strip()) not in ("", "identity")]
    if not named:
        return lambda chunk: (chunk,)
    if len(named) > 1 or named[0] not in ("gzip", "x-gzip", "deflate"):
        raise Failure("fault", f"the reply is compressed with {named[0][:20]!r}, which was not asked for")
    unzip = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def pieces(chunk: bytes) -> Iterator[bytes]:
        nonlocal unzip
        part = b""
        while chunk or len(part) == _PIECE:
            try:
                part = unzip.decompress(chunk, _PIECE)
            except zlib.error as problem:
                raise Failure("fault", f"the reply's compressed body is broken: {problem}") from None
            yield part
            chunk = unzip.unconsumed_tail
            if unzip.eof and unzip.unused_data:
                chunk, unzip = unzip.unused_data, zlib.decompressobj(zlib.MAX_WBITS | 32)

    return pieces
