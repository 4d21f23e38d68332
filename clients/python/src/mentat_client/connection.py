"""The way to a server: its address, how the connection is encrypted, and who calls.

Invariant: a key is part of no message, no representation and no log, and leaves this machine encrypted only.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import grpc

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_KEY = re.compile(r"[\x21-\x7e]+")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

_RECONNECT_MS = (100, 2000)
"""Milliseconds between attempts to connect, the first and the longest: a server that is back is found soon."""

_KEEPALIVE_MS = 30_000
"""Milliseconds of silence after which a connection is asked whether it is there, while a call waits on it."""


@dataclass(frozen=True)
class Tls:
    """How a server is known, and how the caller is, where the server asks for a certificate.

    All are PEM. Without `ca` the server's certificate is checked against the roots that grpcio brings.
    """

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("`certificate` and `key` go together; one of them is missing")

    @classmethod
    def from_files(
        cls,
        ca: str | Path | None = None,
        certificate: str | Path | None = None,
        key: str | Path | None = None,
    ) -> Tls:
        """Reads them from files."""
        read = [None if path is None else Path(path).read_bytes() for path in (ca, certificate, key)]
        return cls(*read)


@dataclass(frozen=True)
class Address:
    """Where a server listens: `host:port`, and whether it speaks TLS there."""

    target: str
    encrypted: bool
    loopback: bool

    @classmethod
    def parse(cls, server: str, tls: Tls | None) -> Address:
        """Reads `HOST:PORT`, `http://HOST:PORT` or `https://HOST:PORT`."""
        advice = "write it as `https://HOST:PORT`, or `http://HOST:PORT` where the server has no certificate"
        text = server if _SCHEME.match(server) else f"{'https' if tls else 'http'}://{server}"
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ValueError(f"`{server}` is no server's address; {advice}") from None
        if parts.username is not None or parts.password is not None:
            # Not shown: it may have a password in it.
            raise ValueError("the server's address has a user in it; give the key as `api_key`")
        if parts.scheme not in ("http", "https") or not parts.hostname or port is None:
            raise ValueError(f"`{server}` is no server's address; {advice}")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"`{server}` has something behind the port; {advice}")
        encrypted = parts.scheme == "https"
        if tls and not encrypted:
            raise ValueError(f"`tls` is given, and `{server}` is not encrypted; {advice}")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(f"{host}:{port}", encrypted, _is_loopback(parts.hostname))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@dataclass(frozen=True)
class ApiKey:
    """A key of this server's callers."""

    secret: str = field(repr=False)

    @classmethod
    def checked(cls, secret: str, address: Address, *, unencrypted: bool) -> ApiKey:
        """Takes a key that a header can carry, for a connection that may carry it."""
        if not _KEY.fullmatch(secret):
            raise ValueError("the API key is empty or has characters that no header can carry, such as a line's end")
        if not (address.encrypted or address.loopback or unencrypted):
            raise ValueError(
                f"an API key would travel to `{address.target}` unencrypted; connect to `https://{address.target}`, or "
                "say `allow_unencrypted_key=True` where something else encrypts the connection"
            )
        return cls(secret)


@dataclass(frozen=True)
class Target:
    """A server, the way to it, and who calls: all that a channel is made of."""

    address: Address
    tls: Tls | None = field(repr=False)
    api_key: ApiKey | None = field(repr=False)
    max_message_bytes: int

    def open(self) -> grpc.aio.Channel:
        """Makes the channel; it connects when it is used first. Call it where an event loop runs."""
        options = [
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MS[0]),
            ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS[1]),
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ]
        if not self.address.encrypted:
            return grpc.aio.insecure_channel(self.address.target, options=options)
        tls = self.tls or Tls()
        credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
        return grpc.aio.secure_channel(self.address.target, credentials, options=options)

    def metadata(self, traceparent: str | None) -> tuple[tuple[str, str], ...]:
        """What each call carries besides its request."""
        metadata: tuple[tuple[str, str], ...] = ()
        if self.api_key is not None:
            metadata += (("authorization", f"Bearer {self.api_key.secret}"),)
        if traceparent is not None:
            if not _TRACEPARENT.fullmatch(traceparent):
                raise ValueError("`traceparent` is not of the form that W3C Trace Context gives it")
            metadata += (("traceparent", traceparent),)
        return metadata
