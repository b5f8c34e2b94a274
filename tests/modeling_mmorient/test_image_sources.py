"""Images by file, bytes, base64 and https address: what is read, and what is not asked for."""

import base64
import io
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from modeling_mmorient import image_sources
from modeling_mmorient.image_sources import SourceLimits, is_public, read_image

LIMITS = SourceLimits(max_bytes=5_000, max_pixels=10_000, seconds=2.0)
KEY = Path(__file__).with_name("memes_test.pem")


def png(width: int = 20, height: int = 30) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 60)).save(file, "PNG")
    return file.getvalue()


def encoded() -> str:
    return base64.b64encode(png()).decode()


class _Site(BaseHTTPRequestHandler):
    """Pages by path; what a site sends to hurt who reads it."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body, headers = png(), {}
        status = 200
        if self.path.startswith("/to/"):
            status, headers = 302, {"Location": self.path.removeprefix("/to/")}
        elif self.path == "/absent":
            status = 404
        elif self.path == "/large":
            body = b"x" * 50_000
        elif self.path == "/page":
            body = b"<html>no image</html>"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.path != "/large":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/slow":  # never silent for as long as a limit of a socket's read
            for place in range(len(body)):
                time.sleep(0.2)
                self.wfile.write(body[place : place + 1])
                self.wfile.flush()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a site with a certificate; its name is public, and stands for this machine."""
    _Site.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(KEY)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *args: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    port = server.server_port
    resolve, connect = socket.getaddrinfo, socket.create_connection

    def look_up(host: str, *args: object, **options: object) -> object:
        known = {"memes.test": "93.184.216.34", "other.test": "10.0.0.7"}
        return resolve(known.get(host, host), *args, **options)  # type: ignore[arg-type]

    def connect_to(address: tuple[str, int], timeout: float) -> socket.socket:
        assert address == ("93.184.216.34", port)
        return connect(("127.0.0.1", port), timeout)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(image_sources.socket, "create_connection", connect_to)
    monkeypatch.setattr(image_sources, "tls_context", lambda: ssl.create_default_context(cafile=str(KEY)))
    yield f"https://memes.test:{port}"
    server.shutdown()
    server.server_close()


def test_every_form_is_the_same_image(tmp_path: Path, site: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    text = encoded()
    lines = "\n".join(text[start : start + 40] for start in range(0, len(text), 40))
    forms = (
        *(path, str(path), png(), bytearray(png()), text, lines, Image.open(path)),
        *(
            f"data:image/png;base64,{text}",
            f"DATA:;base64,{text}",
            f"{site}/a.png",
            f"{site}/a%20b.png?c=d e",
        ),
        *(f"{site}/to/{site}/b", f"{site}/to//c"),
    )
    for form in forms:
        image = read_image(form, LIMITS)
        assert image.mode == "RGB" and image.size == (20, 30) and image.getpixel((3, 3)) == (200, 30, 60)
    assert {"/a.png", "/b", "/a%20b.png?c=d%20e"} <= set(_Site.asked)


@pytest.mark.parametrize(
    "source, message",
    [
        ("file:///etc/passwd", "only https:// and data: ones"),
        ("http://memes.test/a.png", "only https:// and data: ones"),
        ("ftp://memes.test/a.png", "only https:// and data: ones"),
        ("https:///a.png", "of a host"),
        ("https://me:secret@memes.test/a.png", "user name or password"),
        ("https://memes.test:99999/a.png", "cannot be read"),
        ("https://[::1/a.png", "cannot be read"),
        ("https://localhost/a.png", "not a public one"),
        ("https://127.0.0.1/a.png", "not a public one"),
        ("https://2130706433/a.png", "not a public one"),
        ("https://0/a.png", "not a public one"),
        ("https://[::1]/a.png", "not a public one"),
        ("https://[::ffff:127.0.0.1]/a.png", "not a public one"),
        ("https://169.254.169.254/latest/meta-data", "not a public one"),
        ("https://other.test/a.png", "not a public one"),
        ("https://no-such-host.invalid/a.png", "cannot be found"),
        ("data:image/png,plain", "holds base64"),
        ("data:image/png;base64,***", "is an https:// or data: address, or base64"),
        ("no_such_file.png", "there is no file 'no_such_file.png'"),
        ("", "there is no file ''"),
        ("a\0b", "there is no file"),
        (b"", "zero bytes"),
        (b"no image", "cannot read a picture"),
        (base64.b64encode(b"no image").decode(), "cannot read a picture"),
        (png(200, 51), "200 x 51 pixels, more than the limit of 10000"),
        (png() + bytes(6_000), "larger than the limit of 5000 bytes"),
        ("A" * 20_000, "larger than the limit of 5000 bytes"),
    ],
)
def test_what_is_not_read_says_why(site: str, source: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_image(source, LIMITS)
    assert not _Site.asked


@pytest.mark.parametrize(
    "path, message",
    [
        ("/to/https://127.0.0.1/a", "not a public one"),
        ("/to/https://other.test/a", "not a public one"),
        ("/to/http://memes.test/a", "only https://"),
        ("/to/file:///etc/passwd", "only https://"),
        ("/to//to//to//to//to//a", "redirects more than 3 times"),
        ("/absent", "status 404"),
        ("/large", "larger than the limit of 5000 bytes"),
        ("/page", "cannot read a picture"),
        ("/slow", "did not answer within 2 seconds"),
    ],
)
def test_what_a_site_does_says_why(site: str, path: str, message: str) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match=message):
        read_image(f"{site}{path}", LIMITS)
    assert time.monotonic() - start < 5


def test_the_certificate_has_to_be_the_hosts(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_sources, "tls_context", ssl.create_default_context)
    with pytest.raises(ValueError, match="CERTIFICATE_VERIFY_FAILED"):
        read_image(f"{site}/a.png", LIMITS)
    assert not _Site.asked


def test_a_host_that_is_looked_up_twice_is_asked_at_the_first_address(
    site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve, looked_up = socket.getaddrinfo, []

    def look_up(host: str, *args: object, **options: object) -> object:
        if host == "127.0.0.1":  # of the connection that the fixture makes
            return resolve(host, *args, **options)  # type: ignore[arg-type]
        looked_up.append(host)
        return resolve("10.0.0.7" if looked_up[1:] else "93.184.216.34", *args, **options)  # type: ignore

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert read_image(f"{site}/a.png", LIMITS).size == (20, 30)
    assert looked_up == ["memes.test"]


def test_one_private_address_among_public_ones_is_enough(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 443)) for ip in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: entries)
    with pytest.raises(ValueError, match="not a public one"):
        read_image(f"{site}/a.png", LIMITS)


def test_a_lookup_that_does_not_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: time.sleep(20) or [])
    start = time.monotonic()
    with pytest.raises(ValueError, match="cannot be found"):
        read_image("https://memes.test/a.png", SourceLimits(seconds=0.2))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "172.16.3.4", "192.168.1.1", "127.0.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1"),
        *("224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1"),
        *("::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::7f00:1"),
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


def test_a_stranger_names_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    for named in (str(path), path):
        with pytest.raises(ValueError, match=r"file of this machine|an image is an https://"):
            read_image(named, LIMITS, paths=False)
