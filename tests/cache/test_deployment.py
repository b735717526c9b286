"""What a URL names, and where its names are kept; over real Sentinels and a real cluster in test_valkey_fleets.py."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from redis.crc import key_slot

from cache.connection import Address, Command, ConnectionLost, Login, Refused
from cache.deployment import Alone, Cluster, Sentinels, deployment_at

HERE, THERE, ELSEWHERE = Address("here", 1), Address("there", 2), Address("elsewhere", 3)
SECRET = "p@ss:word/"
QUOTED = "p%40ss%3Aword%2F"


class Answers:
    """Answers inquiries by address, and keeps who was asked."""

    def __init__(self, **replies: Any) -> None:
        self._replies = replies
        self.asked: list[str] = []

    async def inquire(self, address: Address, _login: Login, _commands: Sequence[Command]) -> list[Any]:
        self.asked.append(address.host)
        if address.host not in self._replies:
            raise ConnectionLost
        return [self._replies[address.host]]


# URLs


@pytest.mark.parametrize(
    ("url", "address", "login"),
    [
        ("redis://h", Address("h", 6379), Login()),
        ("valkey://h:7/2", Address("h", 7), Login(database=2)),
        (f"redis://:{QUOTED}@h:7/0", Address("h", 7), Login(password=SECRET)),
        (f"redis://u:{QUOTED}@[::1]:7", Address("::1", 7), Login("u", SECRET)),
        ("redis://h:7?db=3", Address("h", 7), Login(database=3)),
        ("unix:///run/valkey.sock?db=1", Address(path="/run/valkey.sock"), Login(database=1)),
    ],
)
def test_a_url_names_one_valkey(url: str, address: Address, login: Login) -> None:
    found = deployment_at(url)
    assert isinstance(found, Alone)
    assert (found.address(b"any"), found.login, found.parted) == (address, login, False)


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_a_url_asks_for_tls(scheme: str) -> None:
    assert deployment_at(f"{scheme}://h").login.tls is not None
    assert deployment_at(f"{scheme}+cluster://h,i").login.tls is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "redis+other://h",
        "h:6379",
        "",
        "redis://h,i",
        "redis://h:port",
        "redis://h:99999999",
        "redis://h/name",
        "redis+sentinel://h:1,i:2",
        "redis+cluster://" + ",".join(f"h{number}" for number in range(17)),
    ],
)
def test_what_is_no_url_of_a_valkey_is_refused_without_its_password(url: str) -> None:
    scheme, _, rest = url.partition("://")
    with pytest.raises(ValueError, match=r"Valkey|hosts|service|Port") as refused:
        deployment_at(f"{scheme}://:secret@{rest}" if rest else url)
    assert "secret" not in str(refused.value)


# Sentinels


async def test_the_primary_is_who_a_sentinel_says_until_it_is_lost() -> None:
    found = deployment_at(f"redis+sentinel://u:{QUOTED}@here:1,there:2/schools/4?sentinel_password=s")
    assert isinstance(found, Sentinels)
    assert found.login == Login("u", SECRET, database=4, of_primary=True)
    assert found.address(b"any") is None
    await found.find(Answers(there=[b"primary", b"6379"]).inquire)
    assert found.address(b"any") == Address("primary", 6379)
    found.lost(Address("other", 6379))
    assert found.address(b"any") is not None
    found.lost(Address("primary", 6379))
    assert found.address(b"any") is None


async def test_a_silent_sentinel_holds_nobody_up() -> None:
    silent = asyncio.Event()

    async def inquire(address: Address, _login: Login, _commands: Sequence[Command]) -> list[Any]:
        if address == HERE:
            await silent.wait()
        return [[b"primary", b"6379"]]

    found = Sentinels([HERE, THERE], "schools", Login(), Login())
    await asyncio.wait_for(found.find(inquire), 1)
    assert found.address(b"any") == Address("primary", 6379)


@pytest.mark.parametrize("reply", [None, [], Refused("ERR", "ERR x"), [b"half"], [None, None], [b"h", b"x"]])
async def test_sentinels_that_do_not_know_are_no_answer(reply: object) -> None:
    found = deployment_at("redis+sentinel://here:1,there:2/schools")
    with pytest.raises(ConnectionLost):
        await found.find(Answers(here=reply).inquire)


def test_a_primary_that_takes_no_writes_is_looked_for_again() -> None:
    found = Sentinels([HERE], "schools", Login(), Login())
    found._primary = THERE
    assert found.refused(b"any", THERE, Refused("OOM", "OOM x")) is None
    assert found.address(b"any") == THERE
    assert found.refused(b"any", THERE, Refused("READONLY", "READONLY x")) is None
    assert found.address(b"any") is None


# Clusters


def slots(*nodes: Address) -> list[Any]:
    """CLUSTER SLOTS of a cluster whose nodes have equal parts."""
    part = 16_384 // len(nodes)
    return [
        [place * part, (place + 1) * part - 1, [node.host.encode(), node.port, b"id"]]
        for place, node in enumerate(nodes)
    ]


@pytest.fixture
async def cluster() -> Cluster:
    made = Cluster([HERE, THERE], Login())
    await made.find(Answers(here=slots(HERE, ELSEWHERE)).inquire)
    return made


LOW, HIGH = (
    next(name for name in (b"%d" % n for n in range(99)) if key_slot(name) < 8_192),
    next(name for name in (b"%d" % n for n in range(99)) if key_slot(name) >= 8_192),
)


async def test_a_name_is_at_the_node_of_its_slot(cluster: Cluster) -> None:
    assert (cluster.address(LOW), cluster.address(HIGH)) == (HERE, ELSEWHERE)
    assert cluster.address(b"{" + LOW + b"}:body") == HERE


async def test_a_node_without_a_name_of_its_own_is_the_one_that_was_asked() -> None:
    for unnamed in (b"", None):
        made = Cluster([HERE], Login())
        await made.find(Answers(here=[[0, 16_383, [unnamed, 9, b"id"]]]).inquire)
        assert made.address(LOW) == Address("here", 9)


async def test_moved_is_for_good_and_ask_for_once(cluster: Cluster) -> None:
    slot = key_slot(LOW)
    assert cluster.refused(LOW, HERE, Refused("ASK", f"ASK {slot} there:2")) == THERE
    assert cluster.address(LOW) == HERE
    assert cluster.refused(LOW, HERE, Refused("MOVED", f"MOVED {slot} there:2")) == THERE
    assert cluster.address(LOW) == THERE
    assert cluster.refused(LOW, HERE, Refused("MOVED", f"MOVED {slot} :7")) == Address("here", 7)


@pytest.mark.parametrize(
    "text", ["MOVED 1", "MOVED 1 nowhere", "MOVED 1 h:port", "CLUSTERDOWN x y", "ERR", ""]
)
async def test_a_refusal_that_points_nowhere_is_one(cluster: Cluster, text: str) -> None:
    assert cluster.refused(LOW, HERE, Refused("MOVED", text)) is None


async def test_what_a_lost_node_had_is_asked_of_one_that_is_left(cluster: Cluster) -> None:
    cluster.lost(HERE)
    assert (cluster.address(LOW), cluster.address(HIGH)) == (None, ELSEWHERE)
    answers = Answers(elsewhere=slots(THERE, ELSEWHERE))
    await cluster.find(answers.inquire)
    assert cluster.address(LOW) == THERE
    assert set(answers.asked) <= {"elsewhere", "here", "there"}


async def test_when_all_nodes_were_lost_and_the_seeds_are_gone_those_that_are_back_are_asked(
    cluster: Cluster,
) -> None:
    for node in (HERE, ELSEWHERE):
        cluster.lost(node)
    await cluster.find(Answers(elsewhere=slots(HERE, ELSEWHERE)).inquire)
    assert (cluster.address(LOW), cluster.address(HIGH)) == (HERE, ELSEWHERE)


async def test_a_node_that_only_a_refusal_named_is_asked_too(cluster: Cluster) -> None:
    new = Address("new", 4)
    cluster.refused(LOW, HERE, Refused("MOVED", f"MOVED {key_slot(LOW)} new:4"))
    for node in (HERE, ELSEWHERE):
        cluster.lost(node)
    await cluster.find(Answers(new=slots(new, new)).inquire)
    assert cluster.address(HIGH) == new


async def test_known_nodes_are_asked_a_few_at_a_time_until_one_answers() -> None:
    nodes = [Address(f"node{place}", 1) for place in range(5)]
    parts = [[place * 4_000, place * 4_000 + 9, [b"node%d" % place, 1]] for place in range(5)]
    made = Cluster([HERE], Login())
    await made.find(Answers(here=parts).inquire)
    made.lost(nodes[1])
    asked = []
    for _ in range(3):
        nobody = Answers()
        with pytest.raises(ConnectionLost):
            await made.find(nobody.inquire)
        asked.append(set(nobody.asked) - {"here"})
    assert asked == [{"node0", "node2", "node3"}, {"node4", "node1", "node0"}, {"node2", "node3", "node4"}]


@pytest.mark.parametrize(
    "reply", [None, [], Refused("ERR", "ERR no cluster"), [[0]], [["x", 1, [b"h", 1]]], [[0, 9, None]]]
)
async def test_nodes_that_do_not_know_are_no_answer(reply: object) -> None:
    with pytest.raises(ConnectionLost):
        await Cluster([HERE], Login()).find(Answers(here=reply).inquire)
