"""Every answer says how things stand, and is told of once, however it ends; whole requests are in test_edge.py."""

from __future__ import annotations

from gateway.answering import LEFT, Answering, Headers, Message

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"etag", b"1")]}
END: Message = {"type": "http.response.body", "body": b"page", "more_body": False}
PIECE: Message = {"type": "http.response.body", "body": b"pa", "more_body": True}
STANDING: Headers = [(b"massar-epoch", b"3"), (b"massar-mode", b"normal")]


class Answered:
    """What was sent and told."""

    def __init__(self, *, without_body: bool = False) -> None:
        self.sent: list[Message] = []
        self.told: list[int] = []
        self.answering = Answering(
            self._send,
            request_id=b"id-1",
            without_body=without_body,
            standing=lambda: list(STANDING),
            finished=self.told.append,
        )

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


async def test_how_things_stand_is_said_behind_the_handlers_own_words_which_count_more() -> None:
    one = Answered()
    await one.answering.send(START)
    assert one.sent[0]["headers"] == [(b"etag", b"1"), (b"massar-request-id", b"id-1"), *STANDING]
    own = {**START, "headers": [(b"massar-mode", b"survival")]}
    await one.answering.send(own)
    assert [line for line in one.sent[1]["headers"] if line[0] == b"massar-mode"] == [
        (b"massar-mode", b"survival")
    ]


async def test_to_a_head_the_body_is_not_sent() -> None:
    one = Answered(without_body=True)
    await one.answering.send(END)
    assert one.sent[0]["body"] == b""


async def test_it_is_told_of_once_at_the_last_piece() -> None:
    one = Answered()
    for message in (START, PIECE):
        await one.answering.send(message)
    assert one.told == []
    await one.answering.send(END)
    one.answering.end()
    assert one.told == [200]


async def test_one_that_was_broken_off_is_told_of_by_its_status_and_one_that_was_left_as_left() -> None:
    broken, left = Answered(), Answered()
    await broken.answering.send(START)
    for one in (broken, left):
        one.answering.end()
    assert (broken.told, left.told) == ([200], [LEFT])
