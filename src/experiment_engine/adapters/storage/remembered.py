"""Answers that cost much are given again for a while, and made anew behind the asker's back."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")

HEAVY = 20_000  # rows read: an answer from fewer is made every time
FRESH_FOR = 30.0  # seconds
_KEPT = 64  # answers


class Remembered:
    """Keeps heavy answers; every light one is made when it is asked for."""

    def __init__(self, tell: Callable[[], float] = time.monotonic) -> None:
        """Start with nothing."""
        self._tell = tell
        self._kept: dict[Hashable, tuple[float, Any]] = {}
        self._under_way: set[Hashable] = set()
        self._lock = threading.Lock()

    def answer(self, key: Hashable, make: Callable[[], T], weight: Callable[[T], int]) -> T:
        """Return an answer: a kept one at once, and then it is made anew if it is old."""
        with self._lock:
            kept = self._kept.get(key)
            is_old = kept is not None and self._tell() - kept[0] > FRESH_FOR
            renews = is_old and key not in self._under_way
            if renews:
                self._under_way.add(key)
        if kept is None:
            return self._made(key, make, weight)
        if renews:
            threading.Thread(target=self._renew, args=(key, make, weight), daemon=True).start()
        found: T = kept[1]
        return found

    def _renew(self, key: Hashable, make: Callable[[], T], weight: Callable[[T], int]) -> None:
        try:
            self._made(key, make, weight)
        finally:
            with self._lock:
                self._under_way.discard(key)

    def _made(self, key: Hashable, make: Callable[[], T], weight: Callable[[T], int]) -> T:
        made = make()
        with self._lock:
            self._kept.pop(key, None)
            if weight(made) >= HEAVY:
                self._kept[key] = (self._tell(), made)
                while len(self._kept) > _KEPT:
                    self._kept.pop(next(iter(self._kept)))
        return made
