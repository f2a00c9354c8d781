"""Which internet addresses may be connected to. Pure: looks nothing up, connects to nothing.

IPv6 is decided by what is let in: global unicast without the blocks that carry an IPv4 address, another network or no host
at all. IPv4 has only its list of special blocks (IANA registry of special-purpose addresses).
"""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address


class Standing(Enum):
    """What an address is for."""

    PUBLIC = "public"
    PRIVATE = "private"  # one's own machine or network: only for whoever was told so
    NEVER = "never"  # no peer of anybody: metadata services, groups, link-local, reserved blocks, disguises of others


_PRIVATE_V4 = tuple(
    (IPv4Network(block), what)
    for block, what in (
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "an address of a carrier's own network"),
        ("127.0.0.0/8", "a loopback address"),
        ("172.16.0.0/12", "a private address"),
        ("192.168.0.0/16", "a private address"),
    )
)
_NEVER_V4 = tuple(
    (IPv4Network(block), what)
    for block, what in (
        ("0.0.0.0/8", "an address of no host"),
        ("100.100.100.200/32", "a metadata service"),
        ("168.63.129.16/32", "a metadata service"),
        ("169.254.0.0/16", "a link-local address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "an address for documentation"),
        ("192.31.196.0/24", "a reserved address"),
        ("192.52.193.0/24", "a reserved address"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.175.48.0/24", "a reserved address"),
        ("198.18.0.0/15", "an address for benchmarks"),
        ("198.51.100.0/24", "an address for documentation"),
        ("203.0.113.0/24", "an address for documentation"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)
_METADATA_V6 = (IPv6Address("fd00:ec2::254"), IPv6Address("fd20:ce::254"), IPv6Address("fd00:c1::a9fe:a9fe"))
_LOOPBACK_V6 = IPv6Address("::1")
_UNIQUE_LOCAL = IPv6Network("fc00::/7")
_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL = IPv6Network("2000::/3")
_NEVER_V6 = tuple(
    (IPv6Network(block), what)
    for block, what in (
        ("2001::/23", "a reserved address"),  # Teredo, benchmarks, ORCHID among them
        ("2001:db8::/32", "an address for documentation"),
        ("2002::/16", "a 6to4 address"),
        ("2620:4f:8000::/48", "a reserved address"),
        ("3fff::/20", "an address for documentation"),
    )
)
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)  # the upper half of an interface id that hides an IPv4 address


def judge(address: Address | str) -> tuple[Standing, str]:
    """What an address is for, and what to call it; text that is no address is never anybody's."""
    if isinstance(address, str):
        try:
            address = ip_address(address)
        except ValueError:
            return Standing.NEVER, "no address"
    return _judge_v4(address) if isinstance(address, IPv4Address) else _judge_v6(address)


def _judge_v4(address: IPv4Address) -> tuple[Standing, str]:
    for network, what in _NEVER_V4:
        if address in network:
            return Standing.NEVER, what
    for network, what in _PRIVATE_V4:
        if address in network:
            return Standing.PRIVATE, what
    return Standing.PUBLIC, "a public address"


def _judge_v6(address: IPv6Address) -> tuple[Standing, str]:
    if address.scope_id is not None:
        return Standing.NEVER, "an address with a zone"
    if address == _LOOPBACK_V6:
        return Standing.PRIVATE, "a loopback address"
    if address in _METADATA_V6:
        return Standing.NEVER, "a metadata service"
    if address in _UNIQUE_LOCAL:
        return Standing.PRIVATE, "a private address"
    if address in _NAT64:
        return _translated(IPv4Address(int(address) & 0xFFFF_FFFF))
    if address not in _GLOBAL:
        return Standing.NEVER, "no global address"
    for network, what in _NEVER_V6:
        if address in network:
            return Standing.NEVER, what
    if int(address) >> 32 & 0xFFFF_FFFF in _ISATAP:
        return Standing.NEVER, "an IPv4 address in disguise"
    return Standing.PUBLIC, "a public address"


def _translated(inner: IPv4Address) -> tuple[Standing, str]:
    """What a network without IPv4 makes of a name that has only such an address: good for public ones."""
    standing, what = _judge_v4(inner)
    return (standing, what) if standing is Standing.PUBLIC else (Standing.NEVER, f"{what} ({inner}) in disguise")
