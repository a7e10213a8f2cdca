"""Registrations of supervisors, as the server keeps them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from mpdispatch.model import NewSupervisor, PeerSupervisor

_decode = msgspec.json.Decoder(NewSupervisor).decode


def stored(who: NewSupervisor) -> str:
    """The server does not look into it."""
    return msgspec.json.encode(who).decode()


def supervisors_of(rows: Iterable[tuple[Any, ...]]) -> list[PeerSupervisor]:
    return [
        PeerSupervisor(
            **msgspec.structs.asdict(_decode(who)),
            id=owner,
            started_us=started_us,
            heartbeat_us=heartbeat_us,
            lease_left_us=left_us,
            renewed=renewed,
        )
        for owner, who, started_us, heartbeat_us, left_us, renewed in rows
    ]
