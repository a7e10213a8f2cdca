"""What a command line asks `map` to do. Pure, and quick to import."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import NamedTuple

from mpdispatch.cli.map.halt import Halt
from mpdispatch.cli.map.template import Template, quoted


class Commands(NamedTuple):
    """What is to be run. A position counts the inputs from 0."""

    template: Template
    words: Sequence[str]
    """The template as it was given."""
    inputs: Sequence[tuple[str, ...]]
    cwd: str

    @property
    def queue(self) -> str:
        """The queue of its jobs."""
        return _queue_of(self.words, self.inputs, self.cwd)

    @property
    def text(self) -> str:
        """The template as a line."""
        return self.words[0] if len(self.words) == 1 else quoted(self.words)

    def words_of(self, position: int) -> list[str]:
        return self.template.words_of(position + 1, self.inputs[position])

    def line_of(self, position: int) -> str:
        return quoted(self.words_of(position))

    def name_of(self, position: int) -> str:
        """The name of a job for people: its inputs."""
        return " ".join(self.inputs[position])


class Wishes(NamedTuple):
    """The options of a map."""

    max_retries: int
    timeout_s: float | None
    joblog: str | None
    halt: Halt | None
    keeps_order: bool
    shows_bar: bool
    resumes: bool
    resumes_failed: bool
    slots: int
    """The most jobs at once."""


def _queue_of(template: Sequence[str], inputs: Sequence[Sequence[str]], cwd: str) -> str:
    """The queue of a map, and the name of its folder: the same for the same template, inputs and working folder."""
    digest = hashlib.blake2b(digest_size=8)
    for words in (template, *inputs, (cwd,)):
        for word in words:
            digest.update(os.fsencode(word) + b"\0")
        digest.update(b"\0")
    return f"map-{digest.hexdigest()}"
