"""Which errors are alike: their messages differ in numbers, ids and paths only. Pure: no I/O, no clock."""

from __future__ import annotations

import re

MOST_CHARS = 300
"""Of a pattern. What differs later does not count."""

_QUOTED = re.compile(r"""(['"])[^'"\n]*\1""")
# In this order: a URL has a path in it, a UUID has numbers in it. What stands for one is not found by a later one.
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b([a-z][a-z0-9+.-]*://[^\s/'\"<>]+)/[^\s'\"<>]+", re.IGNORECASE), r"\1/<path>"),
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "<email>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b0x[0-9a-f]+\b", re.IGNORECASE), "<id>"),
    # Hashes and tokens: letters and digits mixed.
    (re.compile(r"\b(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{8,}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"), "<time>"),
    (re.compile(r"""(['"])(?:[A-Za-z]:\\|~?/|\.{1,2}/)(?![>/])[^'"\n]*\1"""), r"\1<path>\1"),
    (re.compile(r"(?<![\w<>/.])(?:[A-Za-z]:\\|~?/|\.{1,2}/)(?![>/])[^\s'\"<>:;,()\[\]]+"), "<path>"),
)
# Codes say what went wrong: `[Errno 2]`, `HTTP 503`, `exit status 3`, `error code: 17`, `status=404`.
_CODE = r"\b(?:errno|http(?:/[\d.]+)?|status(?:[ _]code)?|code|exit|signal|error)(?:\s*[:=]\s*|\s+)-?\d{1,5}\b(?![.\d])"
_NUMBER = re.compile(rf"(?P<code>{_CODE})|\d+(?:[.,:]\d+)*", re.IGNORECASE)


def pattern_of(message: str) -> str:
    """The first line of an error's message, with what differs from one failure to the next replaced.

    >>> pattern_of("no such page: 17 of /srv/in/a b.pdf")
    'no such page: <n> of <path> b.pdf'
    >>> pattern_of("[Errno 2] No such file or directory: 'in/41.png'")
    "[Errno 2] No such file or directory: '<path>'"
    >>> pattern_of("HTTP 503 from https://api.example.org/v1/users/77 after 2.5 s")
    'HTTP 503 from https://api.example.org/<path> after <n> s'
    """
    text = message.strip().partition("\n")[0].rstrip()[: 4 * MOST_CHARS]
    if text.startswith("[Errno "):
        text = _QUOTED.sub(r"\1<path>\1", text)
    for rule, instead in _RULES:
        text = rule.sub(instead, text)
    text = _NUMBER.sub(lambda found: found["code"] or "<n>", text)
    return text if len(text) <= MOST_CHARS else text[: MOST_CHARS - 1] + "…"
