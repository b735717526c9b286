"""Each member's own word, also when it is alone or away."""

from __future__ import annotations

from datacenters import etcd_members
from sandbox.etcd import STORE_BYTES_MAX, EtcdServer


async def test_a_member_tells_its_version_size_quota_and_leader(own_etcd: EtcdServer) -> None:
    (member,) = await etcd_members.look([own_etcd.url])
    assert member.failure is None
    assert member.version.startswith("3.")
    assert member.leader == member.name_of_itself != 0
    assert member.size >= member.size_in_use > 0
    assert (member.quota, member.alarms, member.members) == (
        STORE_BYTES_MAX,
        (),
        ("datacenters",),
    )
    assert await etcd_members.count(own_etcd.url) == 1


async def test_a_member_without_a_majority_knows_no_leader(etcd_trio: tuple[EtcdServer, ...]) -> None:
    urls = [server.url for server in etcd_trio]
    whole = await etcd_members.look(urls)
    assert {member.members for member in whole} == {("one", "three", "two")}
    assert len({member.leader for member in whole}) == 1
    for server in etcd_trio[:2]:
        server.process.kill()
    members = await etcd_members.look(urls, timeout_s=1.0)
    assert [member.failure is None for member in members] == [False, False, True]


async def test_nobody_there_is_a_finding_and_no_error() -> None:
    (member,) = await etcd_members.look(["http://127.0.0.1:1"])
    assert member.failure == "ConnectError"
    assert await etcd_members.count("http://127.0.0.1:1") == 0
