"""Images by file, bytes, base64 text or https address, read within limits."""

from __future__ import annotations

import base64
import binascii
import http.client
import io
import ipaddress
import os
import re
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from .image_input import FORMATS, MAX_PIXELS, load_image

try:
    from PIL import Image
except ImportError:  # as in image_input
    Image = None  # type: ignore[assignment]

#: How often an address may redirect to another one.
MAX_REDIRECTS = 3
REDIRECTS = (301, 302, 303, 307, 308)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://|(data):", re.IGNORECASE)
_CHUNK = 65_536
# IPv6 addresses that stand for an IPv4 address (RFC 6052): the last 32 bits are it.
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class SourceLimits:
    """Limits for an image that somebody else sent, or that is fetched.

    Args:
        max_bytes: Of the image's file. Default: 20 million.
        max_pixels: Width times height, checked before any pixel is decoded. Default: the processor's limit.
        seconds: For fetching an address, redirects included. Default: 10.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = MAX_PIXELS
    seconds: float = 10.0


def read_image(source: Any, limits: SourceLimits, paths: bool = True) -> Any:
    """One image as an RGB PIL image.

    Args:
        source: A `str`: an `https://` address, a `data:` address with base64 in it, base64 alone, or the path
            of a file; the `bytes` of an image file; or what `image_input.load_image` takes (a PIL image, an
            array, a `Path`).
        limits: For bytes, base64 and addresses.
        paths: Whether a file of this machine may be named. False where a stranger names the image.

    Returns:
        A PIL image of mode RGB.

    Raises:
        ValueError: If it is no image, is above a limit, or its address has another scheme, belongs to no
            public host, or does not answer.
    """
    if isinstance(source, bytes | bytearray):
        return _decode(bytes(source), limits)
    if isinstance(source, os.PathLike) and not paths:
        raise ValueError(f"a file of this machine cannot be named, got {str(source)!r:.80}; send the image")
    if not isinstance(source, str):
        return load_image(source)
    scheme = _SCHEME.match(source)
    if scheme is None:
        if paths and os.path.isfile(source):
            return load_image(source)
        return _decode(_from_base64(source, limits, paths), limits)
    name = (scheme[1] or scheme[2]).lower()
    if name == "data":
        return _decode(_from_data_url(source, limits), limits)
    if name != "https":
        raise ValueError(f"of addresses only https:// and data: ones are read, got {source!r:.80}")
    return _decode(fetch(source, limits), limits)


def _decode(data: bytes, limits: SourceLimits) -> Any:
    if len(data) > limits.max_bytes:
        raise ValueError(f"{_too_large(limits)}: it has {len(data)}; scale the image down")
    size = (0, 0)
    if Image is not None:
        Image.init()
        with suppress(Exception):  # `load_image` raises the error for what is no image
            known = [kind for kind in FORMATS if kind in Image.OPEN]
            with Image.open(io.BytesIO(data), formats=known) as opened:
                size = opened.size
    if size[0] * size[1] > limits.max_pixels:
        raise ValueError(
            f"the image has {size[0]} x {size[1]} pixels, more than the limit of {limits.max_pixels}; scale "
            "it down"
        )
    return load_image(data)


def _too_large(limits: SourceLimits) -> str:
    return f"the image is larger than the limit of {limits.max_bytes} bytes"


def _from_base64(text: str, limits: SourceLimits, paths: bool) -> bytes:
    if len(text) > limits.max_bytes * 4 // 3 + 4:
        raise ValueError(f"{_too_large(limits)}; scale the image down")
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        known = "an https:// or data: address, or base64"
        if paths:
            raise ValueError(f"there is no file {text!r:.120}, and it is not {known} either")
        raise ValueError(f"an image is {known}, got {text!r:.80}")
    return data


def _from_data_url(source: str, limits: SourceLimits) -> bytes:
    head, comma, body = source.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ValueError(f"a data: address holds base64 (data:image/png;base64,...), got {source!r:.80}")
    return _from_base64(body, limits, paths=False)


def fetch(url: str, limits: SourceLimits) -> bytes:
    """The content behind an https address, of a public host alone.

    Every host, also the target of a redirect, is looked up once; if any of its addresses is not public
    (private, loopback, link-local, reserved), no request is sent. The connection goes to the address that was
    checked. Proxies of the environment are not used.

    Raises:
        ValueError: If the address is not https, has a user name, belongs to no public host, redirects more
            than `MAX_REDIRECTS` times, does not answer with status 200 in time, or has too many bytes.
    """
    deadline = time.monotonic() + limits.seconds
    for _ in range(MAX_REDIRECTS + 1):
        host, port, target = _parse(url)
        addresses = _public_addresses(host, port, deadline, limits)
        location, body = _get(host, port, target, addresses, deadline, limits)
        if location is None:
            return body
        url = urljoin(url, location)
    raise ValueError(f"the address redirects more than {MAX_REDIRECTS} times; give the last one")


def _parse(url: str) -> tuple[str, int, str]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 443
    except ValueError as error:
        raise ValueError(f"the address {url!r:.80} cannot be read: {error}") from None
    if parts.scheme != "https" or not host:
        raise ValueError(f"of addresses only https:// ones of a host are fetched, got {url!r:.80}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address with a user name or password is not fetched; leave them out")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    return host, port, f"{path}?{query}" if query else path


def _public_addresses(host: str, port: int, deadline: float, limits: SourceLimits) -> list[str]:
    """IP addresses of a host, all public."""
    found: list[str] = []

    def look_up() -> None:
        with suppress(OSError, UnicodeError):
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend(dict.fromkeys(str(entry[4][0]) for entry in entries))

    # The system's lookup has no timeout.
    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(_remaining(deadline, limits))
    addresses = list(found)
    if not addresses:
        raise ValueError(f"the host {host!r:.80} cannot be found; check the address")
    if not all(map(is_public, addresses)):
        raise ValueError(f"the host {host!r:.80} is not a public one, and is not asked; send the image")
    return addresses


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public network."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.sixtofour is not None or ip.teredo is not None:
            return False
        if ip in _TRANSLATED:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


class _PinnedConnection(http.client.HTTPSConnection):
    """A connection to a host at addresses that were looked up before."""

    def __init__(self, host: str, port: int, addresses: list[str], seconds: float) -> None:
        self.tls = tls_context()
        super().__init__(host, port, timeout=seconds, context=self.tls)
        self.addresses = addresses
        self.wire: socket.socket | None = None

    def connect(self) -> None:
        raw = None
        for number, address in enumerate(self.addresses, 1):
            try:
                raw = socket.create_connection((address, self.port), self.timeout)
                break
            except OSError:
                if number == len(self.addresses):
                    raise
        assert raw is not None
        # The handshake comes after the assignment: `abort` needs the socket by then.
        wire = self.tls.wrap_socket(raw, server_hostname=self.host, do_handshake_on_connect=False)
        self.sock = self.wire = wire
        wire.do_handshake()

    def abort(self) -> None:
        """End what another thread is waiting for."""
        # Not `sock`, which is None once the headers of a last answer are read. Not its own `shutdown`, which
        # first takes the encryption off.
        if self.wire is not None:
            with suppress(OSError):
                socket.socket.shutdown(self.wire, socket.SHUT_RDWR)


def tls_context() -> ssl.SSLContext:
    """How certificates are checked."""
    return ssl.create_default_context()


def _remaining(deadline: float, limits: SourceLimits) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise ValueError(f"the address did not answer within {limits.seconds:g} seconds; send the image")
    return seconds


def _get(
    host: str, port: int, target: str, addresses: list[str], deadline: float, limits: SourceLimits
) -> tuple[str | None, bytes]:
    """The target of an address's redirect, if there is one, and its content."""
    seconds = _remaining(deadline, limits)
    connection = _PinnedConnection(host, port, addresses, seconds)
    # A socket's timeout applies to each read: a host that sends a byte now and then would never exceed it.
    watchdog = threading.Timer(seconds, connection.abort)
    watchdog.daemon = True
    watchdog.start()
    try:
        headers = {"User-Agent": "mmorient", "Accept": "image/*", "Accept-Encoding": "identity"}
        connection.request("GET", target, headers=headers)
        response = connection.getresponse()
        location = response.getheader("Location")
        if response.status in REDIRECTS and location:
            return location, b""
        if response.status != 200:
            raise ValueError(f"the address answers with status {response.status}, not with an image")
        return None, _read_body(response, limits)
    except (OSError, http.client.HTTPException) as error:
        _remaining(deadline, limits)
        raise ValueError(f"the address cannot be fetched ({type(error).__name__}: {error})") from None
    finally:
        watchdog.cancel()
        connection.close()
        _remaining(deadline, limits)  # raises if the time is up: what arrived until then is incomplete


def _read_body(response: http.client.HTTPResponse, limits: SourceLimits) -> bytes:
    if response.length is not None and response.length > limits.max_bytes:
        raise ValueError(f"{_too_large(limits)}: it has {response.length}")
    body = bytearray()
    while chunk := response.read(_CHUNK):
        body += chunk
        if len(body) > limits.max_bytes:
            raise ValueError(_too_large(limits))
    return bytes(body)
