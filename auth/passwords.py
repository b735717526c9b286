"""Argon2id away from the event loop, a bounded number at once.

Invariant: every verification costs the same, whether or not there is an account: one argon2id computation with the
parameters below, and no more than `concurrent_max` of them hold memory at one time. The line before them is bounded
in number and in time, who leaves it is not computed for, and the threads stand back behind the event loop.

Parameters: m = 64 MiB and t = 3 are RFC 9106's second recommended option. Its p = 4 is p = 1 here: measured on the
project's machine one verification burns the same CPU time either way (158 ms with one lane, 163 ms with four), and
with one lane two verifications keep two cores busy without eight threads fighting for them.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from auth.refusals import Overloaded

MEMORY_KIB = 64 * 1024
ITERATIONS = 3
LANES = 1
SALT_BYTES = 16
DIGEST_BYTES = 32
CONCURRENT_MAX = 2
WAITING_MAX = 64
WAIT_MAX_S = 3.0
"""Longest wait in line: with the computation itself an answer still comes before a person gives up."""
RETRY_AFTER_S = 5.0
NICENESS = 10
"""Priority of the threads (0 is the event loop's, 19 the least): reads are served while passwords are computed."""

_T = TypeVar("_T")


def _hasher() -> PasswordHasher:
    return PasswordHasher(
        time_cost=ITERATIONS,
        memory_cost=MEMORY_KIB,
        parallelism=LANES,
        hash_len=DIGEST_BYTES,
        salt_len=SALT_BYTES,
        type=Type.ID,
    )


def hash_password(password: str) -> str:
    """The encoded argon2id hash of `password`; blocks for one computation."""
    return _hasher().hash(_octets(password))


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).rstrip(b"=").decode("ascii")


# What an unknown login is verified against: right parameters, and a digest that no password is known to have.
NOBODYS_HASH = (
    f"$argon2id$v=19$m={MEMORY_KIB},t={ITERATIONS},p={LANES}"
    f"${_b64(b'massar-gateway:.'[:SALT_BYTES])}${_b64(bytes(DIGEST_BYTES))}"
)


class Passwords:
    """Verifies and hashes in its own threads; `close` it when the process ends."""

    def __init__(
        self,
        *,
        concurrent_max: int = CONCURRENT_MAX,
        waiting_max: int = WAITING_MAX,
        wait_max_s: float = WAIT_MAX_S,
    ) -> None:
        self._hasher = _hasher()
        self._waiting_max = waiting_max
        self._wait_max_s = wait_max_s
        self._waiting = 0
        # One turn for each thread, so the line stands here, where who leaves it is gone, and not in the pool.
        self._turns = asyncio.Semaphore(concurrent_max)
        self._threads = ThreadPoolExecutor(
            max_workers=concurrent_max, thread_name_prefix="argon2", initializer=_stand_back
        )

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether `password` is the one of the hash `stored`; without one the answer is no, at the same cost.

        Raises Overloaded when the waiting line is full or does not move.
        """
        return await self._in_thread(lambda: self._matches(stored, password))

    async def hash(self, password: str) -> str:
        """A new encoded hash of `password`. Raises Overloaded when the waiting line is full or does not move."""
        return await self._in_thread(lambda: self._hasher.hash(_octets(password)))

    def close(self) -> None:
        """Refuse what waits when its turn comes; what runs is left to end by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _matches(self, stored: str | None, password: str) -> bool:
        octets = _octets(password)
        if stored is not None:
            try:
                return self._hasher.verify(stored, octets)
            except VerifyMismatchError:
                return False
            except (VerificationError, InvalidHashError):
                pass  # such a row opens nothing, and must not answer sooner than others
        with contextlib.suppress(VerifyMismatchError):
            self._hasher.verify(NOBODYS_HASH, octets)
        return False

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        await self._wait_for_turn()
        loop = asyncio.get_running_loop()

        def turn_is_over(_job: Future[_T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop ended before the thread did
                loop.call_soon_threadsafe(self._turns.release)

        try:
            job = self._threads.submit(work)
        except RuntimeError:  # closed meanwhile, or no thread to be had
            self._turns.release()
            raise Overloaded(retry_after_s=RETRY_AFTER_S) from None
        # Not when the caller goes away: its thread computes to the end, and holds the turn until then.
        job.add_done_callback(turn_is_over)
        return await asyncio.wrap_future(job)

    async def _wait_for_turn(self) -> None:
        if self._turns.locked() and self._waiting >= self._waiting_max:
            raise Overloaded(retry_after_s=RETRY_AFTER_S)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_max_s):
                await self._turns.acquire()
        except TimeoutError:
            raise Overloaded(retry_after_s=RETRY_AFTER_S) from None
        finally:
            self._waiting -= 1


def _stand_back() -> None:
    """Lower the priority of this thread alone; a system that refuses leaves it as it is."""
    if sys.platform == "linux":  # elsewhere the id of a thread may be that of another process
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _octets(password: str) -> bytes:
    """Any string has octets, even one with half a surrogate pair: it just opens nothing."""
    return password.encode("utf-8", "surrogatepass")
