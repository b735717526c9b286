"""What is gathered is stored whole and once, or not at all, and counted as long as it is held."""

from __future__ import annotations

import pytest

from cache.http.filling import Budget
from cache.http.keeping import Keeping
from cache.http.messages import Span, Stored
from cache.http.shelf import MemoryShelf
from tests.cache.http.test_shelf import TARGET, put, stored


class Ground:
    """One body on its way."""

    def __init__(
        self, *, length: int | None = None, span: Span | None = None, bytes_max: int = 1_000
    ) -> None:
        self.shelf = MemoryShelf(bytes_max=1_000_000)
        self.budget = Budget(bytes_max)
        self.length = length
        self.span = span

    async def keeping(self, *, replacing: tuple[str, ...] = ()) -> Keeping:
        one = Stored(
            id="new", status=200, fields=stored().fields, requested_at=0, received_at=0, span=self.span
        )
        held = await self.shelf.held(TARGET)
        return Keeping(
            self.shelf, TARGET, one, since=held, replacing=replacing, length=self.length, budget=self.budget
        )


async def test_what_was_gathered_is_stored_with_its_length_in_the_place_of_others() -> None:
    ground = Ground()
    await put(ground.shelf, stored("old"))
    keeping = await ground.keeping(replacing=("old",))
    assert all(keeping.takes(chunk) for chunk in (b"one", b"two"))
    await keeping.store()
    (held,) = (await ground.shelf.held(TARGET)).stored
    assert (held.id, held.length, await ground.shelf.body(TARGET, "new")) == ("new", 6, b"onetwo")
    assert ground.budget.used == 0


async def test_it_is_complete_at_its_length_and_stored_once() -> None:
    ground = Ground(length=3)
    keeping = await ground.keeping()
    assert not keeping.complete
    keeping.takes(b"one")
    assert keeping.complete
    await keeping.store()
    keeping.takes(b"more")
    await keeping.store()
    assert await ground.shelf.body(TARGET, "new") == b"one"


@pytest.mark.parametrize(("length", "span"), [(9, None), (None, Span(0, 8, 20))])
async def test_what_is_not_as_long_as_its_head_says_is_not_stored(
    length: int | None, span: Span | None
) -> None:
    ground = Ground(length=length, span=span)
    keeping = await ground.keeping()
    keeping.takes(b"short")
    await keeping.store()
    assert (await ground.shelf.held(TARGET)).stored == ()


async def test_too_large_a_body_or_too_much_of_all_bodies_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MemoryShelf, "body_bytes_max", 10)
    ground = Ground(bytes_max=15)
    one, other = await ground.keeping(), await ground.keeping()
    assert one.takes(b"x" * 10)
    assert not one.takes(b"x")
    one.give_up()
    assert other.takes(b"x" * 8)
    third = await ground.keeping()
    assert not third.takes(b"x" * 8)
    for keeping in (other, third):
        keeping.give_up()
    assert ground.budget.used == 0
