"""The address of a cloud: what is accepted, as what, and the correction of the rest."""

import pytest

from edgewise_proto.address import Address, AddressError, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("cloud.example:443", "cloud.example", 443, False),
        ("my_service.:1", "my_service.", 1, False),
        ("localhost:65535", "localhost", 65535, True),
        ("localhost.example:1", "localhost.example", 1, False),
        ("127.0.0.9:1", "127.0.0.9", 1, True),
        ("192.0.2.1:50051", "192.0.2.1", 50051, False),
        ("[::1]:8443", "::1", 8443, True),
        ("[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", 1, True),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1, False),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int, loopback: bool) -> None:
    """It is written as it was read."""
    address = parse_address(text)
    assert address == Address(host, port)
    assert address.is_loopback is loopback
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "corrected"),
    [
        ("cloud", "cloud:50051"),
        ("cloud:0", "cloud:50051"),
        ("cloud:65536", "cloud:50051"),
        ("cloud:\u0661", "cloud:50051"),
        ("", "localhost:50051"),
        (":1", "localhost:1"),
        ("0.0.0.0:1", "127.0.0.1:1"),
        ("[::]:1", "127.0.0.1:1"),
        ("fd00::5:8443", "[fd00::5]:8443"),
        ("::1:8443", "[::1]:8443"),
        ("::1", "[::1]:50051"),
        ("2001:db8::1", "[2001:db8::1]:50051"),
        ("[cloud]:1", "cloud:1"),
        (" cloud : 1\n", "cloud:1"),
        ("http://cloud:1", "cloud:1"),
        ("dns:///cloud:1", "cloud:1"),
        ("ipv4:192.0.2.1:1", "192.0.2.1:1"),
        ("cloud:1/v1?a#b", "cloud:1"),
        ("phone@cloud:1", "cloud:1"),
        ("cloud:1, other:2", "cloud:1"),
        ("cl\u00f6ud.example:1", "xn--clud-6qa.example:1"),
    ],
)
def test_another_notation_is_refused_with_its_correction(text: str, corrected: str) -> None:
    """Which gRPC would read as another address, or fail with at the first request."""
    with pytest.raises(AddressError) as raised:
        parse_address(text)
    assert str(raised.value).startswith("the cloud address is ")
    assert f"it must be HOST:PORT: write '{corrected}'" in str(raised.value)
    assert str(parse_address(corrected)) == corrected


@pytest.mark.parametrize(
    "text",
    [
        "127.1:1",
        "256.0.0.1:1",
        "a..b:1",
        "-a:1",
        "a b:1",
        "a\x1b[2J:1",
        "[fe80::1%\n]:1",
        f"{'a' * 999}:1",
    ],
)
def test_a_host_that_is_none_is_refused(text: str) -> None:
    """In one short line without control characters."""
    with pytest.raises(AddressError, match="neither a name nor an IP address") as raised:
        parse_address(text)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "text",
    ["unix:///tmp/s:1", "unix:/tmp/s", " UNIX:s", "unix-abstract:s", "vsock:3:50051", "file:///s"],
)
def test_an_address_that_is_not_of_tcp_has_no_correction(text: str) -> None:
    """No part of it is a host."""
    with pytest.raises(
        AddressError, match=r"no address of TCP.* HOST:PORT, such as '127"
    ) as raised:
        parse_address(text)
    assert ": write" not in str(raised.value)


def test_a_host_may_be_called_like_a_scheme() -> None:
    """With a port behind it, it is one."""
    assert parse_address("unix:50051") == Address("unix", 50051)


def test_a_password_is_not_shown() -> None:
    """Who writes a URL with TLS and a user is told where they belong."""
    with pytest.raises(AddressError, match=r"tls of .* a token belongs in") as raised:
        parse_address("https://phone:sec@ret/@cloud:1")
    assert "sec" not in str(raised.value).partition("CloudSecurity")[0]
    assert "write 'cloud:1'" in str(raised.value)
