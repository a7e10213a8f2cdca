"""Crontabs are read as Debian's cron reads them; what half of it would be ignored there is a problem here."""

import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.policy.cron.expression import parse
from mpdispatch.policy.crontab import read_crontab
from mpdispatch.policy.names import check_name

EXAMPLE = r"""# use /bin/sh to run commands, no matter what /etc/passwd says
SHELL=/bin/bash
# mail any output to `paul', no matter whose crontab this is
MAILTO=paul

	# run five minutes after midnight, every day
5 0 * * *       $HOME/bin/daily.job >> $HOME/tmp/out 2>&1
15 14 1 * *     $HOME/bin/monthly
0 22 * * 1-5	mail -s "It's 10pm" joe%Joe,%%Where are your kids?%
  23 0-23/2 * * * echo "run 23 minutes after midn, 2am, 4am ..., everyday"
5 4 * * sun     echo "run at 5 after 4 every sunday" # no comment
33 22 * * *     expr $(date +\%s) / 60 / 60 / 24 \% 9 > /dev/null || echo Wax the floor.
"""

SYSTEM = """SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin

17 *	* * *	root	cd / && run-parts --report /etc/cron.hourly
25 6	* * *	root	test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }
@reboot	ann	/srv/ann/start
"""


def one(text, **options):
    found = read_crontab(text, **options)
    assert found.problems == []
    (entry,) = found.entries
    return entry


def problem(text, **options):
    found = read_crontab(text, **options)
    assert found.entries == []
    (fault,) = found.problems
    return fault


def test_example_of_the_manual():
    found = read_crontab(EXAMPLE)
    assert [(each.line, each.name, each.schedule) for each in found.entries] == [
        (7, "daily.job", "5 0 * * *"),
        (8, "monthly", "15 14 1 * *"),
        (9, "mail", "0 22 * * 1-5"),
        (10, "echo", "23 0-23/2 * * *"),
        (11, "echo-2", "5 4 * * sun"),
        (12, "expr", "33 22 * * *"),
    ]
    mail = found.entries[2]
    assert (mail.command, mail.stdin) == ("""mail -s "It's 10pm" joe""", "Joe,\n\nWhere are your kids?\n")
    assert found.entries[4].command == 'echo "run at 5 after 4 every sunday" # no comment'
    assert found.entries[5].command == "expr $(date +%s) / 60 / 60 / 24 % 9 > /dev/null || echo Wax the floor."
    assert {(each.shell, each.tz, each.user, tuple(each.env)) for each in found.entries} == {
        ("/bin/bash", None, None, ("SHELL",))
    }
    assert found.problems == [(4, "MAILTO=paul", "output is not mailed: it is kept with each job", "changed")]


def test_crontab_of_a_system_has_a_column_for_the_user():
    found = read_crontab(SYSTEM, is_system=True)
    assert [(each.name, each.user, each.command.split()[0]) for each in found.entries] == [
        ("run-parts", "root", "cd"),
        ("run-parts-2", "root", "test"),
        ("start", "ann", "/srv/ann/start"),
    ]
    assert found.problems == []


def test_lines_of_other_users_are_left_out():
    found = read_crontab(SYSTEM, is_system=True, user="ann")
    assert [each.user for each in found.entries] == ["ann"]
    assert [(each.line, each.kind) for each in found.problems] == [(4, "left_out"), (5, "left_out")]
    assert found.problems[0].reason == "it runs as root, and jobs here run as ann"
    assert read_crontab("@daily x", user="ann").problems == []


SCHEDULES = [
    "0 3 * * *",
    "00 03 * * *",
    "*/5 0-6/2,22 1,15 jan-MAR Mon-fri",
    "*/70 * * * 0,7",
    "0-10/20 * * * mon,tue",
    "1,* * * * *",
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_that_cron_takes(schedule):
    assert one(f"{schedule}\tx").schedule == schedule
    assert one("  " + schedule.replace(" ", "\t \t") + " x").schedule == schedule


@pytest.mark.parametrize(
    "word", ["yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly", "reboot"]
)
def test_words_that_cron_takes(word):
    entry = one(f"@{word} \t x y")
    assert (entry.schedule, entry.command) == (f"@{word}", "x y")
    assert parse(entry.schedule, "UTC")


BROKEN = [
    (
        "5/15 * * * * x",
        "the minute must be numbers, ranges, *, steps of a range or of *, or a list, not '5/15'",
    ),
    ("60 * * * * x", "the minute must be 0-59"),
    ("* 24 * * * x", "the hour must be 0-23"),
    ("* * 0 * * x", "the day of month must be 1-31"),
    ("* * L * * x", "the day of month must be numbers"),
    ("* * * 0 * x", "the month must be 1-12"),
    ("* * * january * x", "the month must be numbers or names of three letters"),
    ("* * * * 8 x", "the day of week must be 0-7"),
    ("* * * * 5L x", "the day of week must be numbers or names"),
    ("* * * * mon#2 x", "the day of week must be numbers or names"),
    ("* * * * fry x", "the day of week must be 0-7"),
    ("1-5/0 * * * * x", "the minute must be 0-59"),
    ("-5 * * * * x", "the minute must be numbers"),
    ("1-2-3 * * * * x", "the minute must be numbers"),
    ("mon * * * * x", "the minute must be numbers"),
    ("0 0 31 2 * x", "'0 0 31 2 *' names a day that never comes"),
    ("* * * *", "the day of week must be numbers or names of three letters, ranges, *,"),
    ("run me", "the minute must be numbers"),
    ("* * * * *", "there is no command"),
    ("* * * * *   %text", "there is no command"),
    ("@daily", "there is no command"),
    ("* * * * * a\0b", "it holds a NUL"),
    ("X=a\0b", "it holds a NUL"),
    ("@Daily x", "must be one of @yearly"),
    (
        "@every 5m x",
        "must be one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, @reboot, not",
    ),
    ("X='a' b", "the quotes of a setting must enclose the whole value"),
    ("=x", "a setting must have a name"),
    ("CRON_TZ=Europe/Berln", "CRON_TZ must be the name of a zone"),
]


@pytest.mark.parametrize(("line", "reason"), BROKEN)
def test_broken_line_is_named_with_its_reason(line, reason):
    fault = problem(f"# a crontab\n{line}\n")
    assert (fault.line, fault.text, fault.kind) == (2, line, "broken")
    assert reason in fault.reason


@pytest.mark.parametrize(
    ("line", "reason"), [("@daily", "the user is missing"), ("@daily root", "there is no command")]
)
def test_broken_line_of_a_system(line, reason):
    assert reason in problem(line, is_system=True).reason


SETTINGS = [
    ("X=a b  ", "a b"),
    ("X =  a", "a"),
    ("\tX=' a '  ", " a "),
    ('"X" = "a\'b"', "a'b"),
    ("X=$HOME/bin", "$HOME/bin"),
    ("X=a=b # c", "a=b # c"),
    ('X=a"b"', 'a"b"'),
    ("X=", ""),
    ("X=''", ""),
    ("X=a\r", "a"),
]


@pytest.mark.parametrize(("line", "value"), SETTINGS)
def test_settings_are_for_the_commands_below(line, value):
    found = read_crontab(f"@daily before\n{line}\n@daily after\nX=later\n")
    assert [dict(each.env) for each in found.entries] == [{}, {"X": value}]
    assert found.problems == []


def test_a_command_may_begin_with_an_assignment():
    assert one("* * * * * A=1 x").command == "A=1 x"
    assert one("@daily A=1 x").command == "A=1 x"


def test_settings_that_cron_reads_itself():
    text = 'SHELL=/bin/zsh\nHOME=/srv\nMAILTO=""\nLOGNAME=x\nRANDOM_DELAY=5\n@daily x'
    found = read_crontab(text)
    assert (found.entries[0].shell, dict(found.entries[0].env)) == (
        "/bin/zsh",
        {"SHELL": "/bin/zsh", "HOME": "/srv"},
    )
    assert [(each.line, each.kind) for each in found.problems] == [(5, "changed")]
    assert one("SHELL=\n@daily x").shell == "/bin/sh"


def test_zone_of_the_schedule_and_zone_of_the_command():
    text = "TZ=Asia/Tokyo\n@daily a\nCRON_TZ=Europe/Berlin\n@daily b\nCRON_TZ=\n@daily c"
    assert [(each.tz, each.env["TZ"]) for each in read_crontab(text).entries] == [
        (None, "Asia/Tokyo"),
        ("Europe/Berlin", "Asia/Tokyo"),
        (None, "Asia/Tokyo"),
    ]


def test_entries_after_a_wrong_zone_are_not_taken_in_another_one():
    found = read_crontab("CRON_TZ=Mars\n@daily a\nCRON_TZ=UTC\n@daily b")
    assert [each.command for each in found.entries] == ["b"]
    assert [each.reason for each in found.problems][1:] == ["CRON_TZ in line 1 names no zone"]


PERCENTS = [
    (r"cat", "cat", None),
    (r"cat%", "cat", ""),
    (r"cat%a", "cat", "a\n"),
    (r"cat%a%", "cat", "a\n"),
    (r"cat%a%b\%c%%", "cat", "a\nb%c\n\n"),
    (r"date +\%F", "date +%F", None),
    (r"a\\%b", r"a\\", "b\n"),
    (r"a\nb\\c", r"a\nb\\c", None),
    (r"a%b\\%c\n", "a", "b\\%c\\n\n"),
    ("a\\", "a\\", None),
]


@pytest.mark.parametrize(("text", "command", "stdin"), PERCENTS)
def test_percent_signs(text, command, stdin):
    entry = one(f"@daily {text}")
    assert (entry.command, entry.stdin) == (command, stdin)


@pytest.mark.parametrize(
    "text", ["cat", "cat%", "cat%EOF%$HOME `x` 'y'%EOF_", "cat # no comment%a", "read x; cat; exit%b%c"]
)
def test_argv_gives_the_command_its_input(text):
    entry = one(f"@daily {text}")
    done = subprocess.run(
        entry.argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=True
    )
    expected = entry.stdin or ""
    assert done.stdout == (expected.partition("\n")[2] if "read" in text else expected)
    assert done.stderr == ""


NAMES = [
    ("/usr/bin/backup --all", "backup"),
    ("cd /srv && ./run.sh", "run.sh"),
    ("[ -x /usr/sbin/a ] && A=b nice -n 10 /usr/sbin/a b", "a"),
    ("test -e /x || exit 0; (flock -n /tmp/lock /opt/job)", "exit"),
    ('"/opt/my job"', "my"),
    ("$HOME/bin/x..y", "x.y"),
    ("command -v x > /dev/null && x", "x"),
    ("[ -x /usr/a ] && if [ ! -d /run/b ]; then /usr/a; fi", "a"),
    ("/usr/bin/", "line-1"),
    ("été", "été"),
    ("x" * 500, "x" * 100),
]


@pytest.mark.parametrize(("command", "name"), NAMES)
def test_entry_is_named_after_its_command(command, name):
    assert one(f"@daily {command}").name == name


def test_names_are_unique():
    found = read_crontab("@daily a 1\n@daily a 2\n@daily a-2\n@daily b")
    assert [each.name for each in found.entries] == ["a", "a-2", "a-2-2", "b"]


LINES = st.text(max_size=60) | st.builds(
    "{} {}".format,
    st.sampled_from(["* * * * *", "@daily", "X=", "@reboot root", "1-5 * * jan *"]),
    st.text(max_size=40),
)


@given(st.lists(LINES, max_size=5).map("\n".join), st.booleans())
def test_every_line_is_an_entry_a_setting_a_comment_or_a_problem(text, is_system):
    found = read_crontab(text, is_system=is_system)
    names = [each.name for each in found.entries]
    assert len(set(names)) == len(names)
    for entry in found.entries:
        assert check_name("name", entry.name) == entry.name
        assert parse(entry.schedule, entry.tz or "UTC")
        assert entry.command.strip()
        assert (entry.user is not None) is is_system
    lines = [each.line for each in found.entries] + [
        each.line for each in found.problems if each.kind != "changed"
    ]
    assert len(set(lines)) == len(lines) <= len(text.split("\n"))


def test_long_lines_are_read_at_once():
    began = time.process_time()
    read_crontab(f"X=a{' ' * 100_000}b\n@daily {'x ' * 50_000}\n{'*,' * 50_000} * * * * x\n{'a' * 10**6}")
    assert time.process_time() - began < 2
