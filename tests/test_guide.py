"""The guide through the rooms is short and true: every path it names is there, and every room is named."""

from __future__ import annotations

import re
from pathlib import Path

import mpdispatch

PACKAGE = Path(mpdispatch.__file__).parent
GUIDE = (PACKAGE / "README.md").read_text()


def test_the_guide_is_read_in_two_minutes() -> None:
    assert GUIDE.count("\n") <= 60


def test_every_path_the_guide_names_is_there() -> None:
    named = set(re.findall(r"`([a-z0-9_]+(?:/[a-z0-9_]+)*(?:\.py|\.sql)?)`", GUIDE))
    paths = {name for name in named if "/" in name or name.endswith(".py")}
    assert len(paths) > 20
    assert {
        each for each in paths if not ((PACKAGE / each).exists() or (PACKAGE.parent / each).exists())
    } == set()


def test_every_room_is_on_the_way_or_a_door_and_says_what_lives_in_it() -> None:
    rooms = {each.parent.name: each for each in PACKAGE.glob("*/__init__.py")}
    assert set(re.findall(r"\*\*`([a-z]+)`", GUIDE) + re.findall(r", `([a-z]+)`\*\*", GUIDE)) == set(rooms)
    for name, path in rooms.items():
        assert path.read_text().startswith('"""'), f"{name} does not say what lives there"
