"""How many jobs a worker may hold, and when to start another worker. Pure: no I/O, no clock."""

from __future__ import annotations

_WEIGHT = 0.2
"""Weight of the newest run in a handler's mean: five runs forget a change of pace."""


class Estimates:
    """How long each handler took lately, in µs. A handler that has not run yet has no estimate.

    >>> seen = Estimates()
    >>> seen.add("resize", 1000); seen.add("resize", 2000)
    >>> seen.of("resize"), seen.of("other")
    (1200, None)
    """

    __slots__ = ("_by_name", "_overall")

    def __init__(self) -> None:
        self._by_name: dict[str, float] = {}
        self._overall: float | None = None

    def add(self, name: str, duration_us: int) -> None:
        mean = self._by_name.get(name)
        self._by_name[name] = duration_us if mean is None else mean + _WEIGHT * (duration_us - mean)
        overall = self._overall
        self._overall = duration_us if overall is None else overall + _WEIGHT * (duration_us - overall)

    def of(self, name: str) -> int | None:
        mean = self._by_name.get(name)
        # At least 1: a caller takes 0 for "not known".
        return None if mean is None else max(1, int(mean))

    @property
    def overall(self) -> int | None:
        """The mean over all handlers; the latest runs weigh most."""
        return None if self._overall is None else int(self._overall)


def depth(mean_us: int | None, *, window_us: int, most: int) -> int:
    """How many jobs of this mean run time a worker may hold, the running one included.

    One if the mean is unknown or longer than the window, so that no job waits behind one that may be slow.

    >>> depth(None, window_us=10_000, most=64), depth(1000, window_us=10_000, most=64), depth(5, window_us=10_000, most=64)
    (1, 11, 64)
    """
    if mean_us is None or mean_us >= window_us or window_us <= 0:
        return 1
    return max(1, min(most, 1 + window_us // max(mean_us, 1)))


def boot_backoff_s(failures: int) -> float:
    """How long to wait after this many failed starts in a row: 0.1 s, doubling, at most 30 s.

    >>> [boot_backoff_s(n) for n in (0, 1, 2, 20)]
    [0.0, 0.1, 0.2, 30.0]
    """
    if failures <= 0:
        return 0.0
    return float(min(0.1 * 2 ** min(failures - 1, 20), 30.0))
