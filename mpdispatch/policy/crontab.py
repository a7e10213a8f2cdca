"""Reads the text of a crontab as Debian's cron does, and CRON_TZ as cronie does. Pure: nothing is run, no file is read.

    text ──▶ CrontabEntry … (what each line runs, and when) + CrontabProblem … (what cannot be carried over, and why)

Settings (`NAME=value`) hold for the lines below them. `%` ends a command: what follows is its standard input, `%` there
is a line's end, and `\\%` is a percent sign in both. `#` begins a comment only where a line begins.

A line is broken, too, of which cron would ignore a part without a word (`1-2-3`), or which would never run (`31 2`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from mpdispatch.errors import UsageError
from mpdispatch.policy.cron.expression import ALIASES, parse
from mpdispatch.policy.cron.zones import zone_of
from mpdispatch.policy.names import MAX_NAME_CHARS, cut

DEFAULT_SHELL = "/bin/sh"

_BLANKS = " \t"
# Without the value, whose quotes must enclose the whole of it.
_SETTING = re.compile(
    r"""(?: "(?P<quoted>[^"]*)" | '(?P<single>[^']*)' | (?P<plain>[^\s"'=][^\s=]*)? ) \s* = \s*""",
    re.VERBOSE | re.ASCII,
)
_WORDS = (*(word.removeprefix("@") for word in ALIASES), "reboot")
_FIELDS = ("minute", "hour", "day of month", "month", "day of week")
# A step only after a star or a range; no L, # or ?.
_TERM = r"(?:\*(?:/[0-9]+)?|{0}(?:-{0}(?:/[0-9]+)?)?)"
_NUMBER, _NAME = _TERM.format("[0-9]+"), _TERM.format("(?:[0-9]+|[A-Za-z]{3})")
_FIELD, _NAMED_FIELD = (re.compile(f"{term}(?:,{term})*") for term in (_NUMBER, _NAME))
_COMMAND_PART = re.compile(r"\\.|[^\\%]+|\\|%", re.DOTALL)

# Of settings that cron itself reads; the other ones are for the command.
_NOT_FOR_COMMANDS = ("CRON_TZ", "MAILTO", "RANDOM_DELAY", "LOGNAME")
_SETTING_NOTES = {
    "MAILTO": "output is not mailed: it is kept with each job",
    "RANDOM_DELAY": "is not carried over: give the entries a jitter instead",
}

# Programs that run the one that an entry is named after, and commands that only prepare for it.
_WRAPPERS = {"chronic", "env", "exec", "flock", "ionice", "nice", "nohup", "sudo", "time", "timeout"}
_WRAPPERS |= {"if", "then", "elif", "else", "fi", "while", "until", "do", "done"}  # words of the shell
_PREPARATIONS = {"", "cd", "command", "export", "set", "sleep", "source", "test", "umask"}


class CrontabEntry(NamedTuple):
    """What one line runs, and when."""

    line: int
    """The number of its line, from 1."""
    name: str
    """Made of its command; no other entry has it."""
    schedule: str
    """Five fields or a word such as `@daily`: `policy.cron` reads it."""
    tz: str | None
    """What CRON_TZ says, an IANA name; None: it says nothing, so the zone is that of the machine."""
    command: str
    stdin: str | None
    """What the command reads; None: nothing was given."""
    shell: str
    env: Mapping[str, str]
    """The settings above the line, without those that cron itself reads."""
    user: str | None
    """As whom it runs; None: there is no such column."""

    @property
    def argv(self) -> list[str]:
        """The shell, and the command for it; standard input is a here-document.

        >>> [entry.argv for entry in read_crontab("@daily mail joe%Hi!").entries]
        [['/bin/sh', '-c', "{ mail joe\\n} <<'EOF'\\nHi!\\nEOF\\n"]]
        """
        if self.stdin is None:
            return [self.shell, "-c", self.command]
        end = "EOF"
        while end in self.stdin.split("\n"):
            end += "_"
        return [self.shell, "-c", f"{{ {self.command}\n}} <<'{end}'\n{self.stdin}{end}\n"]


class CrontabProblem(NamedTuple):
    """A line that cannot be carried over, or not as it is."""

    line: int
    text: str
    """The line, cut to 200 characters."""
    reason: str
    kind: Literal["broken", "left_out", "changed"]
    """broken: it cannot be read. left_out: it can be read, and makes no entry. changed: entries go without what it says."""


class Crontab(NamedTuple):
    entries: list[CrontabEntry]
    problems: list[CrontabProblem]


def read_crontab(text: str, *, is_system: bool = False, user: str | None = None) -> Crontab:
    """What the text of a crontab says.

    `is_system`: it has a column for the user, as /etc/crontab and the files of /etc/cron.d have. `user`: leave out the
    lines that run as somebody else.

    >>> read_crontab("MAILTO=''\\n5 4 * * sun  /usr/bin/backup --all").entries[0][:5]
    (2, 'backup', '5 4 * * sun', None, '/usr/bin/backup --all')
    """
    reader = _Reader(is_system, user)
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.removesuffix("\r").lstrip(_BLANKS)
        if stripped and not stripped.startswith("#"):
            reader.read(number, stripped)
    return Crontab(reader.entries, reader.problems)


class _Left(Exception):
    """Why a line is no entry."""

    def __init__(self, reason: str, kind: Literal["broken", "left_out"] = "broken") -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(slots=True)
class _Reader:
    is_system: bool
    user: str | None
    settings: dict[str, str] = field(default_factory=dict)
    bad_zone: int | None = None
    """The line of a CRON_TZ that names no zone."""
    taken: set[str] = field(default_factory=set)
    """The names of the entries."""
    entries: list[CrontabEntry] = field(default_factory=list)
    problems: list[CrontabProblem] = field(default_factory=list)

    def read(self, number: int, line: str) -> None:
        try:
            if "\0" in line:
                raise _Left("it holds a NUL, which no program can be given")
            if (setting := _SETTING.match(line)) is not None:
                self._set(number, line, setting)
            else:
                self.entries.append(self._entry(number, line))
        except _Left as why:
            self.problems.append(CrontabProblem(number, cut(line, 200), str(why), why.kind))

    def _set(self, number: int, line: str, found: re.Match[str]) -> None:
        name = found["quoted"] or found["single"] or found["plain"]
        if not name:
            raise _Left("a setting must have a name: NAME=value")
        value = _unquoted(line[found.end() :].rstrip())
        if name == "CRON_TZ":
            self._set_zone(number, value)
        self.settings[name] = value
        if value and (note := _SETTING_NOTES.get(name)) is not None:
            self.problems.append(CrontabProblem(number, cut(line, 200), note, "changed"))

    def _set_zone(self, number: int, name: str) -> None:
        self.bad_zone = number
        if name:
            try:
                zone_of(name)
            except UsageError as error:
                raise _Left(str(error).replace("tz:", "CRON_TZ", 1)) from None
        self.bad_zone = None

    def _entry(self, number: int, line: str) -> CrontabEntry:
        schedule, rest = _schedule(line)
        user = None
        if self.is_system:
            user, rest = _cut_word(rest)
            if not user:
                raise _Left("the user is missing: this is the crontab of a system")
        command, stdin = _at_percent(rest)
        if not command.strip():
            raise _Left("there is no command")
        if self.bad_zone is not None:
            raise _Left(f"CRON_TZ in line {self.bad_zone} names no zone")
        if self.user is not None and user not in (None, self.user):
            raise _Left(f"it runs as {user}, and jobs here run as {self.user}", "left_out")
        return CrontabEntry(
            line=number,
            name=self._name(command, number),
            schedule=schedule,
            tz=self.settings.get("CRON_TZ") or None,
            command=command,
            stdin=stdin,
            shell=self.settings.get("SHELL") or DEFAULT_SHELL,
            env={name: value for name, value in self.settings.items() if name not in _NOT_FOR_COMMANDS},
            user=user,
        )

    def _name(self, command: str, number: int) -> str:
        base = _name_of(command) or f"line-{number}"
        name, count = base, 1
        while name in self.taken:
            count += 1
            name = f"{base}-{count}"
        self.taken.add(name)
        return name


def _unquoted(value: str) -> str:
    quote = value[:1]
    if quote not in ("'", '"'):
        return value
    if value.find(quote, 1) != len(value) - 1:
        raise _Left("the quotes of a setting must enclose the whole value")
    return value[1:-1]


def _schedule(line: str) -> tuple[str, str]:
    """The schedule that a line begins with, and the rest of the line."""
    if line.startswith("@"):
        word, rest = _cut_word(line[1:])
        if word not in _WORDS:
            raise _Left(f"must be one of {', '.join(f'@{each}' for each in _WORDS)}, not '@{cut(word)}'")
        return f"@{word}", rest
    fields, rest = [], line
    for name in _FIELDS:
        part, rest = _cut_word(rest)
        is_named = name in ("month", "day of week")
        if not (_NAMED_FIELD if is_named else _FIELD).fullmatch(part):
            allowed = "numbers or names of three letters" if is_named else "numbers"
            what = f"not {cut(part)!r}" if part else "and it is missing"
            raise _Left(f"the {name} must be {allowed}, ranges, *, steps of a range or of *, or a list, {what}")
        fields.append(part)
    schedule = " ".join(fields)
    try:
        parse(schedule, "UTC")
    except UsageError as error:
        raise _Left(str(error).removeprefix("schedule: ")) from None
    return schedule, rest


def _cut_word(text: str) -> tuple[str, str]:
    """The first word of a text, and what follows the blanks after it."""
    word = re.match(r"[^ \t]*", text)
    assert word is not None
    return word[0], text[word.end() :].lstrip(_BLANKS)


def _at_percent(text: str) -> tuple[str, str | None]:
    """The command and its standard input.

    >>> _at_percent(r"date +\\%s%first\\%%second")
    ('date +%s', 'first%\\nsecond\\n')
    """
    command = ""
    for part in _COMMAND_PART.finditer(text):
        if part[0] == "%":
            stdin = re.sub(r"\\%|%", lambda found: "%" if found[0] == "\\%" else "\n", text[part.end() :])
            return command, stdin + "\n" if stdin and not stdin.endswith("\n") else stdin
        command += "%" if part[0] == "\\%" else part[0]
    return command, None


def _name_of(command: str) -> str:
    """What a command is called: the first program in it that does more than prepare for the next one.

    >>> _name_of("cd /srv && [ -x run.sh ] && LANG=C nice -n 5 ./run.sh")
    'run.sh'
    """
    for piece in re.split(r"[;&|(){}]+", command):
        name = next(filter(None, map(_program, piece.split())), "")
        if name not in _PREPARATIONS:
            return re.sub(r"\.\.+", ".", name)[: MAX_NAME_CHARS // 2]
    return ""


def _program(word: str) -> str:
    """The name of the program that a word is, or "test" for a bracket; "": it is an assignment, option or wrapper."""
    if word in ("[", "[["):
        return "test"
    name = re.sub(r"[^\w.-]", "", word.rpartition("/")[2]).strip("-.")
    is_other = "=" in word or word.startswith("-") or name.isdecimal() or name in _WRAPPERS
    return "" if is_other else name
