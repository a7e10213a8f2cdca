"""Makes the shared statements, which are in SQLite's dialect, statements of PostgreSQL. Pure.

A shared statement of which a `.sql` file of this room has one of the same name becomes that one. Any other is translated
by a few rules, for words that mean the same. What no rule knows would be an error of the server's: a test prepares all.
"""

from __future__ import annotations

import re
from pathlib import Path

from mpdispatch.store.sql.columns import LISTS, NEW_COLUMNS
from mpdispatch.store.sql.inserts import INSERT_UNLESS_KEY_IN_USE
from mpdispatch.store.sql.named import Queries
from mpdispatch.store.sql.queries import QUERIES

_HERE = Path(__file__).parent
_TYPED = ", ".join(f"?::{'text' if column.kind == 'text' else 'bigint'}" for column in NEW_COLUMNS)
_COMPLETE = Queries(_HERE / "complete.sql")
"""A part of other statements, too."""
OWN = Queries(
    *(_HERE / name for name in ("own.sql", "hot.sql", "complete.sql")),
    lists={**LISTS, **_COMPLETE, "new_typed": _TYPED},
)
"""Statements of this room, some in place of shared ones of the same name; PostgreSQL's but for `?` and `:name`."""
_RETURNS_ID = ("open_batch", "enqueue_again", "register")
_BOUND = 4096
"""Texts remembered: shared ones are composed in some hundred ways."""

_TABLES = (
    *("attempt_rows", "attempts", "batches", "callbacks", "cron_skips", "cron_slots", "crons", "dead_letters"),
    *("dependents", "jobs", "last_id", "meta", "outputs", "parents", "payloads", "queues", "results"),
    *("supervisors", "writers"),
)
_TABLE = re.compile(rf"(?<![.\w])mpdispatch_(?:{'|'.join(_TABLES)})\b(?!\.)")
_KEYS = {
    "mpdispatch_attempt_rows": ("job_id", "starts"),
    "mpdispatch_results": ("job_id",),
    "mpdispatch_dead_letters": ("job_id",),
    "mpdispatch_cron_skips": ("cron_id", "first_us", "at_us"),
}
"""What a row is known by, of the tables whose rows are replaced."""
_INSERT_OR = re.compile(r"INSERT OR (IGNORE|REPLACE) INTO (\w+) \(([^)]*)\)")
_LIST = r"SELECT value FROM json_each\((\S+?)\)"
_ELEMENTS = r"jsonb_array_elements_text(\1::jsonb)"
_RULES = tuple(
    (re.compile(pattern), by)
    for pattern, by in (
        # A list of names or numbers comes as JSON.
        (rf"\bqueue IN \({_LIST}\)", f"queue = ANY(ARRAY(SELECT {_ELEMENTS}))"),
        (rf"\bIN \({_LIST}\)", f"= ANY(ARRAY(SELECT {_ELEMENTS}::bigint))"),
        (r"\bjson_each\((\S+?)\) AS (\w+)", rf"(SELECT {_ELEMENTS}::bigint AS value) AS \2"),
        # A sign that keeps SQLite from using an index.
        (r"(?<=[\s(,])\+(?=[a-z])", ""),
        (r"CAST\((:\w+) AS TEXT\)", r"\1::text"),
        (r"\bAS INTEGER\)", "AS bigint)"),
        (r"\b1 << 62\b", str(1 << 62)),
        (r"x''", "''::bytea"),
        (r"\bCROSS JOIN (\w+ AS \w+) ON\b", r"JOIN \1 ON"),
    )
)
_NAMED = re.compile(r"(?<![:\w]):([a-z_]+)\b")


class Dialect:
    """Translates for the tables of one schema. Thread-safe: at worst a text is translated twice."""

    def __init__(self, quoted_schema: str) -> None:
        self._schema = quoted_schema
        self._known: dict[str, str] = {}
        # What is appended to a shared statement is appended to ours.
        self._starts = {QUERIES[name]: OWN[name] for name in OWN if name in QUERIES}
        for name, text in QUERIES.items():
            self._known[text] = self._own(name)
        for text in OWN.values():
            self._known.setdefault(text, self._finished(text))
        self._known[INSERT_UNLESS_KEY_IN_USE] = self._finished(OWN["insert_unless_key_in_use"])

    def __call__(self, text: str) -> str:
        """The statement for PostgreSQL, with placeholders as psycopg has them."""
        found = self._known.get(text)
        if found is None:
            found = self._composed(text)
            if len(self._known) < _BOUND:
                self._known[text] = found
        return found

    def _own(self, name: str) -> str:
        shared = QUERIES[name]
        if name not in OWN and (found := _INSERT_OR.match(shared)) is not None:
            return self._insert_or(shared, found)
        text = OWN.get(name) or _ruled(shared)
        return self._finished(f"{text}\nRETURNING id" if name in _RETURNS_ID else text)

    def _composed(self, text: str) -> str:
        if (found := _INSERT_OR.match(text)) is not None:
            return self._insert_or(text, found)
        for start, ours in self._starts.items():
            if text.startswith(start):
                return self._finished(ours + _ruled(text[len(start) :]))
        return self._finished(_ruled(text))

    def _insert_or(self, text: str, found: re.Match[str]) -> str:
        what, table, columns = found.groups()
        plain = self(text.replace(f"INSERT OR {what}", "INSERT", 1))
        if what == "IGNORE":
            return f"{plain}\nON CONFLICT DO NOTHING"
        key = _KEYS[table]
        others = [name for name in columns.replace(" ", "").split(",") if name not in ("id", *key)]
        set_ = ", ".join(f"{name} = excluded.{name}" for name in others)
        return f"{plain}\nON CONFLICT ({', '.join(key)}) DO UPDATE SET {set_}"

    def _finished(self, text: str) -> str:
        text = _TABLE.sub(lambda found: f"{self._schema}.{found[0]}", text.replace("%", "%%"))
        return _NAMED.sub(r"%(\1)s", text).replace("?", "%s")


def _ruled(text: str) -> str:
    for pattern, by in _RULES:
        text = pattern.sub(by, text)
    return _bytes_of_text(text)


def _bytes_of_text(text: str) -> str:
    """`CAST(x AS BLOB)`, whose x may have parentheses, as `convert_to(x, 'UTF8')`.

    >>> _bytes_of_text("CAST(coalesce(a, b) AS BLOB), c")
    "convert_to(coalesce(a, b), 'UTF8'), c"
    """
    while (end := text.find(" AS BLOB)")) >= 0:
        depth, at = 0, end
        while depth >= 0:
            at -= 1
            depth += (text[at] == ")") - (text[at] == "(")
        start = at - len("CAST")
        text = f"{text[:start]}convert_to({text[at + 1 : end]}, 'UTF8'){text[end + len(' AS BLOB)') :]}"
    return text
