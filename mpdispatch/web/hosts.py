"""Reads Host and Origin headers: a name and a port, or nothing that can be trusted. Pure.

They are read strictly, because what one parser skips another may follow.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(.+)")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MOST_PORT = 65_535


class Host(NamedTuple):
    name: str
    """In lower case; an IPv6 address in its short form, without brackets."""
    port: int | None


def read_host(text: str) -> Host | None:
    """The name and the port; None if the text is anything else.

    >>> read_host("LocalHost:8000"), read_host("[0:0::1]")
    (Host(name='localhost', port=8000), Host(name='::1', port=None))
    >>> [read_host(text) for text in ("ann@localhost", "localhost:", "localhost:80:80", "[::1]x", "[::1")]
    [None, None, None, None, None]
    """
    found = _HOST.fullmatch(text)
    if found is None:
        return None
    name, port = found[1].lower(), None if found[2] is None else int(found[2])
    if port is not None and not 0 < port <= _MOST_PORT:
        return None
    if name.startswith("["):
        try:
            name = str(ipaddress.IPv6Address(name[1:-1]))
        except ValueError:
            return None
    return Host(name, port)


def is_loopback_name(text: str) -> bool:
    """Whether a Host header names this machine.

    >>> [is_loopback_name(host) for host in ("localhost:8000", "app.localhost.", "127.9.9.9", "[::1]:8000")]
    [True, True, True, True]
    >>> [is_loopback_name(host) for host in ("127.0.0.1.evil.example", ".localhost", "localhost..", "127.1", "::1")]
    [False, False, False, False, False]
    """
    host = read_host(text)
    if host is None:
        return False
    labels = host.name.removesuffix(".").split(".")
    return is_loopback_address(host.name) or (all(labels) and labels[-1] == "localhost")


def is_loopback_address(text: str) -> bool:
    """Whether this is an address of this machine: 127.0.0.0/8, ::1, or one of the former mapped to IPv6."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def is_origin_of(origin: str, host: str) -> bool:
    """Whether this Origin is this Host. The scheme is not compared, because a proxy before us may end TLS.

    >>> is_origin_of("https://jobs.example", "jobs.example:443"), is_origin_of("http://a.example", "b.example")
    (True, False)
    """
    found = _ORIGIN.fullmatch(origin.lower())
    if found is None:
        return False
    page, asked = read_host(found[2]), read_host(host)
    if page is None or asked is None:
        return False
    default = _DEFAULT_PORTS.get(found[1])
    return page.name == asked.name and (page.port or default) == (asked.port or default)
