"""Who may ask a server on this machine for what: no page from elsewhere, and nothing that writes unless it is allowed.

A browser sends requests of any page to any address. What tells them apart are two headers that a page cannot choose:
`Host`, the name by which the browser found the server, and `Origin`, whose page asks. A page whose name is made to lead
to this machine (DNS rebinding) has a Host of its own.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application."""

READING = ("GET", "HEAD")
FILES = "/artifacts/"
"""Where the files of studies lie."""


class Gate:
    """An application behind the gate. `name`: the host that the server was told to listen on."""

    def __init__(self, application: Application, name: str, *, writable: bool) -> None:
        self._application = application
        self._names = {"localhost", name.lower(), socket.gethostname().lower()}
        self._writable = writable

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, or refuse it."""
        refusal = self._refusal(environ["REQUEST_METHOD"], environ.get("HTTP_HOST", ""), environ.get("HTTP_ORIGIN"))
        if refusal is None:
            return self._application(environ, _guarded(start_response, environ.get("PATH_INFO", "")))
        body = f"{refusal}\n".encode()
        start_response(
            "403 Forbidden", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        )
        return [body]

    def _refusal(self, method: str, host: str, origin: str | None) -> str | None:
        """Why a request is refused; None if it is not."""
        if not self._is_ours(host):
            return (
                f"this server is called {' or '.join(sorted(self._names))}, or by a numeric address, not {host!r:.80}"
            )
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return f"a page of {origin!r:.80} may not ask this server"
        if method not in READING and not self._writable:
            return "nothing is changed here: the dashboard was started without --writable"
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether `Host` is a name of this machine's, which is no other page's."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _guarded(start_response: Callable[..., Any], path: str) -> Callable[..., Any]:
    """Have the answer shown in no frame of another page, whose user would click on what is not seen.

    A file that is shown is a page of its own: its scripts have no part in the dashboard, and it is for no other page.
    """

    def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
        added = [("X-Frame-Options", "SAMEORIGIN")]
        if path.startswith(FILES):
            headers = [(name, value) for name, value in headers if name.lower() != "access-control-allow-origin"]
            added.append(("Content-Security-Policy", "sandbox allow-scripts"))
        return start_response(status, [*headers, *added], *error)

    return start
