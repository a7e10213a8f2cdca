"""Wall times of tests about cron, as people write them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

SECOND, MINUTE, HOUR, DAY = 10**6, 60 * 10**6, 3600 * 10**6, 86_400 * 10**6


def us(text: str, tz: str = "UTC") -> int:
    """`2026-03-29 02:30` on the clocks of a zone, or with an offset, in µs."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(tz))
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def shown(slot_us: int | None, tz: str = "UTC") -> str | None:
    """The reverse of `us`, with the offset."""
    if slot_us is None:
        return None
    text = datetime.fromtimestamp(slot_us // SECOND, ZoneInfo(tz)).isoformat(" ")
    return text[:16] + text[19:] if text[16:19] == ":00" else text
