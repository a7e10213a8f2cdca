"""The command of `map` as a template of words, and the words that an input makes of it. Pure: no I/O, no clock.

No shell reads the command: an input is put into its words whole, whatever characters it has.
"""

from __future__ import annotations

import os.path
import re
import shlex
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mpdispatch.errors import UsageError
from mpdispatch.policy.names import shown

_PLACEHOLDER = re.compile(r"\{(#|([1-9][0-9]*)?(//|/\.|/|\.)?)\}")
_FOREIGN = re.compile(r"\{%\}|\{##\}|\{[0-9]*(?:\.\.+|/\.\.+|\+[./]+)\}|\{=")
"""Placeholders of GNU parallel that are not ours. Any other text in braces belongs to the program (awk, find …)."""

KNOWN = "{} {.} {/} {//} {/.} {#}, and {1} {2.} … with several lists of inputs"


def _without_extension(text: str) -> str:
    return re.sub(r"\.[^/.]*\Z", "", text)


def _base_name(text: str) -> str:
    return text.rpartition("/")[2]


def _folder(text: str) -> str:
    # As Perl's dirname, which GNU parallel uses: slashes at the end do not count, and there is always a folder.
    bare = text.rstrip("/")
    if not bare:
        return "/" if text else "."
    return os.path.dirname(bare) or "."


_FORMS: dict[str, Callable[[str], str]] = {
    "": str,
    ".": _without_extension,
    "/": _base_name,
    "//": _folder,
    "/.": lambda text: _without_extension(_base_name(text)),
}


_QUOTED = re.compile(r"""'[^']*'|\\.|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def _split(line: str) -> list[str]:
    r"""The words of a line as a shell splits it. `shlex` leaves "\$" and "\`" as they are, and keeps escaped newlines.

    >>> _split(r'''sh -c "echo \$0 \\n" '\$0' \$0''')
    ['sh', '-c', 'echo $0 \\n', '\\$0', '$0']
    """

    def escaped(found: re.Match[str]) -> str:
        return {"$": "$", "`": "`", "\n": ""}.get(found[1], found[0])

    def word(found: re.Match[str]) -> str:
        if found[0] == "\\\n":
            return ""
        return _ESCAPED.sub(escaped, found[0]) if found[0].startswith('"') else found[0]

    return shlex.split(_QUOTED.sub(word, line))


class _Part(NamedTuple):
    """A piece of a word: literal text, or a placeholder."""

    text: str
    form: Callable[[str], str] | None = None
    """What is made of an input; None: this is literal text, or the number of the job."""
    source: int | None = None
    """Which list the input is from; None: all lists."""
    is_number: bool = False


class Template:
    """The words of a command, with placeholders.

    >>> Template.parse(["convert {} thumbs/{/.}.png"]).words_of(1, ["my pics/a b.jpg"])
    ['convert', 'my pics/a b.jpg', 'thumbs/a b.png']
    >>> Template.parse(["gzip", "-9"]).words_of(1, ["$(reboot)"])  # no placeholder: the input is the last word
    ['gzip', '-9', '$(reboot)']
    """

    def __init__(self, words: Sequence[str], sources: int) -> None:
        self._words = [_parts(word) for word in words]
        every = [part for word in self._words for part in word]
        for part in every:
            if part.source is not None and part.source >= sources:
                lists = "is one list" if sources == 1 else f"are {sources} lists"
                raise UsageError(
                    f"template: {part.text} names list {part.source + 1}, and there {lists} of inputs"
                )
        if all(part.form is None and not part.is_number for part in every):
            self._words.append([_Part("{}", str)])

    @classmethod
    def parse(cls, words: Sequence[str], sources: int = 1) -> Template:
        """The template of these arguments: a single one is split as a shell splits a line, several are words as they are.

        `sources`: how many lists of inputs there are.

        Raises UsageError: it is empty, has a quote without its end, or an unknown placeholder.
        """
        if len(words) == 1:
            try:
                words = _split(words[0])
            except ValueError as error:
                raise UsageError(f"template: {str(error).lower()}: {shown(words[0])}") from None
        if not words or not words[0]:
            raise UsageError("template: it is empty; give a command, such as: map 'gzip -9 {}' ::: *.log")
        return cls(words, sources)

    def words_of(self, number: int, inputs: Sequence[str]) -> list[str]:
        """The program and its arguments for these inputs, one of each list; `number` counts jobs from 1."""
        made: list[str] = []
        for word in self._words:
            if len(word) == 1 and word[0].form is not None and word[0].source is None:
                made += map(word[0].form, inputs)  # alone in its word: a word per list
            else:
                made.append("".join(_text(part, number, inputs) for part in word))
        return made

    @property
    def program(self) -> str | None:
        """The program, if it is the same for all inputs."""
        first = self._words[0]
        return first[0].text if len(first) == 1 and first[0].form is None and not first[0].is_number else None


def _text(part: _Part, number: int, inputs: Sequence[str]) -> str:
    if part.is_number:
        return str(number)
    if part.form is None:
        return part.text
    return part.form(inputs[part.source]) if part.source is not None else " ".join(map(part.form, inputs))


def _parts(word: str) -> list[_Part]:
    if foreign := _FOREIGN.search(word):
        raise UsageError(f"template: {foreign[0]} in {shown(word)} is unknown here; known are {KNOWN}")
    parts: list[_Part] = []
    at = 0
    for found in _PLACEHOLDER.finditer(word):
        if found.start() > at:
            parts.append(_Part(word[at : found.start()]))
        kind, source, form = found[1], found[2], found[3] or ""
        if kind == "#":
            parts.append(_Part(found[0], is_number=True))
        else:
            parts.append(_Part(found[0], _FORMS[form], int(source) - 1 if source else None))
        at = found.end()
    if at < len(word) or not word:
        parts.append(_Part(word[at:]))
    return parts


def quoted(words: Sequence[str]) -> str:
    """The words as a line that a shell splits into them again.

    >>> quoted(["echo", "a b", "it's"])
    'echo \\'a b\\' \\'it\\'"\\'"\\'s\\''
    """
    return shlex.join(words)
