"""Which addresses are whose: both ends of every special block, and the addresses beside them."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from apxm.capability.http.addresses import Standing, judge

NEVER = [
    "0.0.0.0/8",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "::/128",
    "::ffff:0:0/96",
    "::ffff:0:0:0/96",
    "::7f00:0/104",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/32",
    "2001:2::/48",
    "2001:10::/28",
    "2001:20::/28",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "4000::/3",
    "8000::/1",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
    "fd00:c1::a9fe:a9fe/128",
    "64:ff9b::7f00:0/104",
    "64:ff9b::a00:0/104",
    "64:ff9b::a9fe:0/112",
    "64:ff9b::c0a8:0/112",
    "64:ff9b::6440:0/106",
    "64:ff9b::e000:0/100",
]
PRIVATE = ["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/8", "fd00::/9"]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.0.3.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81c::200e",
    "2003::1",
    "2000::1",
    "3ffe::1",
    "64:ff9b::808:808",
]
UNCLEAR = ["", "example.org", "127.1", "0x7f.0.0.1", "0177.0.0.1", "2130706433", "127.0.0.1 ", "127.0.0.1/8", "[::1]", "::1%lo"]


@pytest.mark.parametrize("block", NEVER)
def test_both_ends_of_a_special_block_are_nobodys(block: str) -> None:
    network = ip_network(block)
    for end in (network.network_address, network.broadcast_address):
        assert judge(end)[0] is Standing.NEVER, end
        assert judge(str(end))[0] is Standing.NEVER, end


@pytest.mark.parametrize("block", PRIVATE)
def test_both_ends_of_a_private_block_are_private(block: str) -> None:
    network = ip_network(block)
    for end in (network.network_address, network.broadcast_address):
        assert judge(end)[0] is Standing.PRIVATE, end


@pytest.mark.parametrize("address", PUBLIC)
def test_what_lies_beside_the_blocks_is_public(address: str) -> None:
    assert judge(ip_address(address))[0] is Standing.PUBLIC


@pytest.mark.parametrize("text", UNCLEAR)
def test_text_that_is_not_plainly_an_address_is_nobodys(text: str) -> None:
    assert judge(text)[0] is Standing.NEVER


def test_an_address_hidden_in_an_interface_id_is_found() -> None:
    assert judge("2a00:1450::5efe:7f00:1")[0] is Standing.NEVER
    assert judge("2a00:1450::200:5efe:8.8.8.8")[0] is Standing.NEVER
