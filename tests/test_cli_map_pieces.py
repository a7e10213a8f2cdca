"""The pure parts of `map`: templates, inputs, joblogs, when to halt."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.cli.map.halt import Halt
from mpdispatch.cli.map.inputs import combined, read_lists, sorted_words, split_lines
from mpdispatch.cli.map.joblog import HEADER, JobLogLine, parse_joblog, parse_line
from mpdispatch.cli.map.template import Template, quoted
from mpdispatch.errors import UsageError

ODD = [
    "a.jpg",
    "my pics/a b.tar.gz",
    ".bashrc",
    "/",
    "a/",
    "/x.y/z",
    "x.",
    "",
    "..",
    "a//b.c",
    "$(reboot)",
    "é'\"\\ *.{}",
    "-n",
]
INPUTS = st.one_of(
    st.sampled_from(ODD), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
)

# ---------------------------------------------------------------- templates


@given(INPUTS)
def test_an_input_is_put_into_words_whole(text: str) -> None:
    words = Template.parse(["sh -c 'echo \"$1\"' {} x{}y {#}"]).words_of(3, [text])
    assert words == ["sh", "-c", 'echo "$1"', text, f"x{text}y", "3"]


@given(INPUTS)
def test_without_a_placeholder_the_input_is_the_last_word(text: str) -> None:
    assert Template.parse(["gzip -9"]).words_of(1, [text]) == ["gzip", "-9", text]
    assert Template.parse(["awk", "{print $1}"]).words_of(1, [text]) == ["awk", "{print $1}", text]
    assert Template.parse(["echo {#}"]).words_of(7, [text]) == ["echo", "7"]


@pytest.mark.parametrize(
    "word",
    [
        r'"\$0 \`id\` \" \\ \\\\ \n"',
        r'"\\\$"',
        r"'\$'",
        r"\$\'\"",
        r"""'"'"\$"'"'""",
        r'a"\$"b',
        '"a\\\nb"\\\nc',
        '""',
    ],
)
def test_a_single_argument_is_split_as_the_shell_does(word: str) -> None:
    shell = subprocess.run(["sh", "-c", f"printf %s {word}"], capture_output=True, check=True, text=True)
    assert Template.parse([f"echo {word} {{}}"]).words_of(1, ["in"]) == ["echo", shell.stdout, "in"]


@given(st.lists(INPUTS, min_size=2))
def test_several_arguments_are_words_as_they_are(words: list[str]) -> None:
    if not words[0] or any("{" in word for word in words):
        words = ["echo", *(word.replace("{", "(") for word in words)]
    assert Template.parse(words).words_of(1, ["in"]) == [*words, "in"]


@given(st.lists(INPUTS, min_size=1))
def test_a_quoted_command_is_split_into_the_same_words(words: list[str]) -> None:
    assert shlex.split(quoted(words)) == words


def test_several_lists_have_numbers() -> None:
    template = Template.parse(["cp {1/.} {2} x{}y {}"], sources=2)
    assert template.words_of(1, ["d/a.c", "b b"]) == ["cp", "a", "b b", "xd/a.c b by", "d/a.c", "b b"]
    assert Template.parse(["cmp"], sources=2).words_of(1, ["a", "b"]) == ["cmp", "a", "b"]


@pytest.mark.skipif(shutil.which("parallel") is None, reason="GNU parallel is not installed")
@pytest.mark.parametrize("placeholder", ["{}", "{.}", "{/}", "{//}", "{/.}", "{#}"])
def test_placeholders_mean_what_they_mean_to_gnu_parallel(placeholder: str, tmp_path: Path) -> None:
    inputs = [each for each in ODD if each]
    done = subprocess.run(
        ["parallel", "-k", "-j1", "-0", "printf", "%s", placeholder, r"'\n'"],
        input="\0".join(inputs).encode(),
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
    )
    template = Template.parse(["printf", "%s", placeholder])
    ours = [template.words_of(n, [each])[2] for n, each in enumerate(inputs, 1)]
    # The word is empty for some, and the shell of GNU parallel drops it.
    theirs = done.stdout.decode().replace("\\n", "\n").split("\n")
    assert [word for word in theirs if word] == [word for word in ours if word]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "empty"),
        ([""], "empty"),
        (["  "], "empty"),
        (["", "x"], "empty"),
        (["echo 'a"], "quot"),
        (["echo {2}"], "list 2"),
        (["echo {%}"], "{%}"),
        (["echo {= s/a/b/ =}"], "{="),
        (["echo {+/}"], "{+/}"),
        (["echo {..}"], "{..}"),
    ],
)
def test_a_template_that_is_none_is_refused(words: list[str], says: str) -> None:
    with pytest.raises(UsageError, match="template") as refused:
        Template.parse(words)
    assert says in str(refused.value)


def test_the_program_is_known_unless_inputs_change_it() -> None:
    assert Template.parse(["gzip {}"]).program == "gzip"
    assert Template.parse(["{} -v"]).program is None
    assert Template.parse(["./run{#} -v"]).program is None


# ---------------------------------------------------------------- inputs


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line and b"\0" not in line)))
def test_lines_come_as_the_file_system_has_them(lines: list[bytes]) -> None:
    for end, by_nul in ((b"\n", False), (b"\0", True)):
        data = b"".join(line + end for line in lines)
        assert [os.fsencode(line) for line in split_lines(data, by_nul=by_nul)] == lines
    if lines and lines[-1]:
        assert split_lines(b"\n".join(lines), by_nul=False) == list(map(os.fsdecode, lines))


def test_a_nul_in_a_line_is_named() -> None:
    with pytest.raises(UsageError, match=r"line 2 of x\.txt has a NUL"):
        split_lines(b"a\nb\0c\n", by_nul=False, source="x.txt")


def test_lists_of_arguments_and_files_are_combined(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("1\n2\n")
    line = sorted_words(["cmd", ":::", "a", "b", "::::", str(file)])
    lists = read_lists(line, [], by_nul=False)
    assert combined(lists) == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]
    assert combined([[]]) == []


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not-there.*No such file"):
        read_lists(sorted_words(["cmd"]), [str(tmp_path / "not-there")], by_nul=False)
    with pytest.raises(UsageError, match="Is a directory"):
        read_lists(sorted_words(["cmd", "::::", str(tmp_path)]), [], by_nul=False)
    with pytest.raises(UsageError, match=r":::\+"):
        sorted_words(["cmd", ":::", "a", ":::+", "b"])


def test_a_dash_at_the_end_is_stdin_and_no_word_of_the_template() -> None:
    assert sorted_words(["cat {}", "-"]).stdin is False
    assert sorted_words(["cat", "{}", "-0"]).template == ["cat", "{}"]
    assert sorted_words(["cat", "-", ":::", "-"]) == (["cat", "-"], [(":::", ["-"])], None)


# ---------------------------------------------------------------- joblogs

LINES = st.builds(
    JobLogLine,
    number=st.integers(1, 10**6),
    started_s=st.integers(0, 2 * 10**12).map(lambda ms: ms / 1000),
    duration_s=st.integers(0, 10**9).map(lambda ms: ms / 1000),
    received_bytes=st.integers(0, 10**12),
    exit_status=st.integers(0, 255),
    signal=st.integers(0, 64),
    host=st.just(":"),
    command=INPUTS.map(lambda text: quoted(["echo", text]).replace("\n", " ").replace("\r", " ")),
)


@given(LINES)
def test_a_line_of_a_joblog_is_read_as_it_was_written(line: JobLogLine) -> None:
    assert parse_line(str(line)) == line


@given(st.lists(LINES))
def test_of_a_joblog_the_last_line_of_each_job_counts(lines: list[JobLogLine]) -> None:
    texts = [HEADER, *map(str, lines), ""]
    assert parse_joblog(f"{text}\n" for text in texts) == {line.number: line for line in lines}


@pytest.mark.parametrize("text", ["x", "1\t:\t2\t3", "a\t:\t1\t2\t0\t0\t0\t0\techo"])
def test_a_file_that_is_no_joblog_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="joblog"):
        parse_joblog([HEADER, text])


@pytest.mark.skipif(shutil.which("parallel") is None, reason="GNU parallel is not installed")
def test_a_joblog_of_gnu_parallel_is_read(tmp_path: Path) -> None:
    subprocess.run(
        # By exec: a shell that waits for another says 137 for the signal, and which shell it is depends on who runs us.
        ["parallel", "-j1", "--joblog", "log", "exec sh -c {}", ":::", "echo out", "exit 3", "kill -9 $$"],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
    )
    found = parse_joblog((tmp_path / "log").read_text().splitlines())
    assert [(line.number, line.received_bytes, line.exit_status, line.signal) for line in found.values()] == [
        (1, 4, 0, 0),
        (2, 0, 3, 0),
        (3, 0, 0, 9),
    ]
    assert [line.is_success for line in found.values()] == [True, False, False]


# ---------------------------------------------------------------- halt


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 50), st.integers(1, 100))
def test_a_number_and_a_share_are_counted(most: int, failed: int, succeeded: int, total: int) -> None:
    facts = {"failed": failed, "succeeded": succeeded, "total": total}
    assert Halt(True, "fail", most).is_met(**facts) == (failed >= most)
    assert Halt(True, "success", most).is_met(**facts) == (succeeded >= most)
    assert Halt(False, "done", most).is_met(**facts) == (failed + succeeded >= most)
    assert Halt(True, "fail", most, is_percent=True).is_met(**facts) == (failed / total >= most / 100)


@pytest.mark.parametrize(
    "text", ["", "now", "fail=1", "later,fail=1", "now,fail=0", "now,fail=101%", "now,fail=-1", "now,fail=1.5"]
)
def test_a_rule_that_is_none_says_what_is_allowed(text: str) -> None:
    with pytest.raises(UsageError, match="now or soon"):
        Halt.parse(text)
