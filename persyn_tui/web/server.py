"""The server of `persyn serve`: textual-serve's, closed to every page but its own.

A browser lets any page open a WebSocket to this machine, and lets a foreign name point here (DNS rebinding). So a
request must come by a name that is the server's (`Host`) and, where the browser says from which page, from the
server's own (`Origin`). Needs the extra `serve`: only `persyn serve` imports this.
"""

import copy
import ipaddress
import json
import re
import socket
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.typedefs import Handler
from textual_serve.app_service import AppService
from textual_serve.server import Server

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?", re.IGNORECASE)
_ORIGIN = re.compile(rf"(https?)://{_HOST.pattern}", re.IGNORECASE)
_PORTS = {"http": "80", "https": "443"}
_MOST_CELLS = 4000
"""Of a window's side; a larger one is no window."""
_PAGE = Path(__file__).with_name("page")
"""The folder of the page: textual-serve's own names a font of a third party, and hears no key before a click."""
_WILDCARDS = ("0.0.0.0", "::")


class Guarded(Server):
    """Serves the app to its own page, at every name and port by which a browser may reach it.

    Args:
        command: starts an app for a visitor.
        host: address to listen on.
        port: likewise.
    """

    def __init__(self, command: str, host: str, port: int) -> None:
        super().__init__(command, host=host, port=port, title="PerSyn", templates_path=_PAGE)

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._guard)
        app.on_response_prepare.append(_forbid)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        named = ", ".join(request.headers.getall("Host", []))
        if not self._is_own(named):
            return web.Response(
                status=403,
                text=f"403: this is not a name of the server. Open http://localhost:{self.port}, over SSH through "
                "`ssh -L`; or start it with `persyn serve --host NAME --public` to reach it by that name\n",
            )
        origins = request.headers.getall("Origin", [])
        if not all(_same(origin, named) for origin in origins):
            return web.Response(status=403, text="403: another page may not drive the app\n")
        return await handler(request)

    def _is_own(self, named: str) -> bool:
        """Whether the Host header names this server.

        The port is not looked at: that of a tunnel is another one, and a foreign page cannot choose the name.
        """
        found = _HOST.fullmatch(named)
        if found is None:
            return False
        name = found[1].lower()
        public = not _is_loopback(self.host)
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            own = {"localhost"}
            if public:
                own |= {socket.gethostname().lower() if self.host in _WILDCARDS else self.host.lower()}
            return name in own
        # No foreign name can be an address, and behind a router the machine does not know its own.
        return public or address.is_loopback

    async def handle_index(self, request: web.Request) -> Any:
        """The page, which asks for everything else at the address by which the browser has come."""
        here = copy.copy(self)
        here.public_url = f"{request.scheme}://{request.host}"
        return await Server.handle_index(here, request)

    async def _process_messages(self, websocket: web.WebSocketResponse, app_service: AppService) -> None:
        """Hands the page's messages on; passes over what a later page may mean, and ends with what is none."""
        async for message in websocket:
            if message.type is not WSMsgType.TEXT:
                continue
            match _read(message.data):
                case ["stdin", str(text), *_]:
                    await app_service.send_bytes(text.encode("utf-8", "replace"))
                case ["resize", {"width": int(width), "height": int(height)}, *_]:
                    if 0 < width <= _MOST_CELLS and 0 < height <= _MOST_CELLS:
                        await app_service.set_terminal_size(width, height)
                case ["ping", sent, *_]:
                    await websocket.send_json(["pong", sent])
                case ["blur", *_]:
                    await app_service.blur()
                case ["focus", *_]:
                    await app_service.focus()
                case [str(), *_]:
                    pass
                case _:
                    await websocket.close(
                        code=WSCloseCode.UNSUPPORTED_DATA, message=b"not a message of the page"
                    )
                    return


async def _forbid(request: web.Request, response: web.StreamResponse) -> None:
    """No third party is asked (the library's page names a font of one), and no page frames the app."""
    host = request.host if _HOST.fullmatch(request.host) else ""
    response.headers["Content-Security-Policy"] = "; ".join(
        [
            "default-src 'none'",
            "script-src 'self' 'unsafe-inline'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "font-src 'self' data:",
            # Some browsers do not count a WebSocket as 'self'.
            f"connect-src 'self' ws://{host} wss://{host}" if host else "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"


def _same(origin: str, named: str) -> bool:
    """Whether a page of this origin was loaded from the server that the request names, port included."""
    page, server = _ORIGIN.fullmatch(origin), _HOST.fullmatch(named)
    if page is None or server is None:
        return False
    usual = _PORTS[page[1].lower()]
    return (page[2].lower(), page[3] or usual) == (server[1].lower(), server[2] or usual)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(text: str) -> Any:
    """The JSON of a message; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
