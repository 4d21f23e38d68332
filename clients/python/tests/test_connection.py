"""Who calls, and how the connection is encrypted: keys, private authorities, client certificates, traces."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from conftest import ECHO, Servers, manifest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mentat_client import RetryPolicy, Tls, UnauthenticatedError, UnavailableError, WasmRuntimeClient

KEY = "a-key-that-cannot-be-guessed"
NEVER = RetryPolicy.never()


def key_setting(tenant: str = "acme") -> str:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    return f'auth.api_keys=[{{ name = "ci", tenant = "{tenant}", sha256 = "{digest}" }}]'


class Authority:
    """A certification authority of the test's own, with what it has signed, in files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an authority of a test")])
        self._name = name
        root = self._build(name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        (folder / "ca.pem").write_bytes(root)

    def _build(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType) -> bytes:
        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def sign(self, file: str, *extensions: x509.ExtensionType) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, file)])
        (self._folder / f"{file}.pem").write_bytes(self._build(name, key, *extensions))
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self._folder / f"{file}.key").write_bytes(pem)

    def path(self, file: str) -> Path:
        return self._folder / file


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.sign(
        "server",
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
        x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]),
    )
    authority.sign(
        "client",
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://acme.example/orchestrator")]),
        x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]),
    )
    return authority


def tls_settings(authority: Authority) -> list[str]:
    return [f"tls.certificate={authority.path('server.pem')}", f"tls.key={authority.path('server.key')}"]


async def test_a_key_lets_in_and_no_key_or_another_does_not(servers: Servers) -> None:
    server = servers.start(key_setting())
    async with WasmRuntimeClient(server.grpc, api_key=KEY, retry=NEVER) as client:
        await client.load_agent("keys.echo", ECHO, manifest("keys.echo"))
        assert (await client.execute_agent("keys.echo", b"in")).output == b"in"
        assert [event.type async for event in client.execute_agent_stream("keys.echo")] == ["end"]
    for key in (None, "another", KEY + "x"):
        async with WasmRuntimeClient(server.grpc, api_key=key) as client:
            with pytest.raises(UnauthenticatedError) as error:
                await client.is_loaded("keys.echo")
            assert KEY not in str(error.value)


async def test_a_private_authority_is_believed_where_it_is_named(servers: Servers, authority: Authority) -> None:
    server = servers.start(*tls_settings(authority), key_setting())
    tls = Tls.from_files(ca=authority.path("ca.pem"))
    for address in (server.grpc, f"https://{server.grpc}"):
        async with WasmRuntimeClient(address, api_key=KEY, tls=tls, retry=NEVER) as client:
            await client.load_agent("tls.echo", ECHO, manifest("tls.echo"))
            assert (await client.execute_agent("tls.echo", b"private")).output == b"private"
    # Neither the roots of the system nor an unencrypted connection lead there.
    for address in (f"https://{server.grpc}", f"http://{server.grpc}"):
        async with WasmRuntimeClient(address, api_key=KEY, retry=NEVER) as client:
            with pytest.raises(UnavailableError):
                await client.is_loaded("tls.echo", timeout=10)


async def test_a_client_certificate_says_who_calls(servers: Servers, authority: Authority) -> None:
    known = '{ name = "orchestrator", tenant = "acme", san = "spiffe://acme.example/orchestrator" }'
    server = servers.start(
        *tls_settings(authority), f"tls.client_ca={authority.path('ca.pem')}", f"auth.clients=[{known}]"
    )
    ca = authority.path("ca.pem")
    tls = Tls.from_files(ca, authority.path("client.pem"), authority.path("client.key"))
    async with WasmRuntimeClient(server.grpc, tls=tls, retry=NEVER) as client:
        await client.load_agent("mtls.echo", ECHO, manifest("mtls.echo"))
        assert await client.is_loaded("mtls.echo")
    async with WasmRuntimeClient(server.grpc, tls=Tls.from_files(ca), retry=NEVER) as client:
        with pytest.raises((UnauthenticatedError, UnavailableError)):
            await client.is_loaded("mtls.echo", timeout=10)


def test_secrets_are_in_no_representation() -> None:
    tls = Tls(b"root", b"certificate", b"-----the private key-----")
    client = WasmRuntimeClient("https://a.example:1", api_key=KEY, tls=tls)
    shown = repr((client, tls, vars(client), vars(client._calls), client._calls.target))
    assert KEY not in shown
    assert "private key" not in shown


async def test_secrets_are_in_no_log(servers: Servers, caplog: pytest.LogCaptureFixture) -> None:
    server = servers.start(key_setting())
    with caplog.at_level(logging.DEBUG):
        async with WasmRuntimeClient(server.grpc, api_key=KEY, retry=NEVER) as client:
            await client.is_loaded("a.b")
    assert KEY not in caplog.text
    assert KEY not in "".join(server.log)


def test_a_key_leaves_the_machine_encrypted_only() -> None:
    for server in ("agents.example:50051", "http://192.0.2.1:50051"):
        with pytest.raises(ValueError, match="unencrypted") as error:
            WasmRuntimeClient(server, api_key=KEY)
        assert KEY not in str(error.value)
        WasmRuntimeClient(server, api_key=KEY, allow_unencrypted_key=True)
    for server in ("https://agents.example:50051", "127.0.0.1:1", "http://[::1]:1", "localhost:1"):
        WasmRuntimeClient(server, api_key=KEY)


@pytest.mark.parametrize("key", ["", "two\nlines", "with space", "größe"])
def test_a_key_that_no_header_carries_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="API key") as error:
        WasmRuntimeClient("127.0.0.1:1", api_key=key)
    assert not key or key not in str(error.value)


@pytest.mark.parametrize(
    "server", ["", "a.example", "ftp://a:1", "http://a:port", "http://a:1/path", "http://a:1?x", "unix:/run/x"]
)
def test_an_address_that_is_none_is_refused_with_the_form_of_one(server: str) -> None:
    with pytest.raises(ValueError, match="https://HOST:PORT"):
        WasmRuntimeClient(server)


def test_a_password_in_an_address_is_not_shown() -> None:
    with pytest.raises(ValueError, match="api_key") as error:
        WasmRuntimeClient("https://user:hunter2@a.example:1")
    assert "hunter2" not in str(error.value)


def test_half_of_an_identity_is_refused() -> None:
    with pytest.raises(ValueError, match="together"):
        Tls(certificate=b"x")
    with pytest.raises(ValueError, match="not encrypted"):
        WasmRuntimeClient("http://a:1", tls=Tls())


async def test_a_trace_goes_along(servers: Servers) -> None:
    server = servers.start()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    asked = []

    def current() -> str:
        asked.append(trace)
        return trace

    async with WasmRuntimeClient(server.grpc, traceparent=current) as client:
        await client.is_loaded("a.b")
        assert asked == [trace]
        await client.is_loaded("a.b", traceparent=trace)
        assert asked == [trace]
        assert ("traceparent", trace) in client._calls.metadata(None)
        with pytest.raises(ValueError, match="traceparent"):
            await client.is_loaded("a.b", traceparent="not a trace")
