from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from pbscast.errors import UsageError
from pbscast_fanout.expressions import compile_expression

JOB = {
    "state": "R",
    "queue": "gpu",
    "name": "train-7",
    "comment": "",
    "path": 'C:\\a"b',
    "Resource_List.ncpus": "64",
    "Resource_List.mem": "4gb",
    "Resource_List.half": "0.50",
    "resources_used.walltime": "01:30:00",
    "Exit_status": "-11",
    "Rerunable": "True",
    "block": "False",
    "wide": "9" * 5000,
}


@pytest.mark.parametrize(
    "text",
    [
        'Resource_List.ncpus >= 64 and state == "R"',
        "Resource_List.mem > 1tb or Resource_List.mem >= 4GB",
        "Resource_List.mem == 4194304kb and Resource_List.mem == 536870912w",
        "Resource_List.mem == 4194304k and Resource_List.mem == 512mw and Resource_List.mem < 1p",
        "Resource_List.mem == 4294967296 and Resource_List.ncpus == 64b",
        "resources_used.walltime < 01:30:01 and resources_used.walltime > 89:59.999",
        "resources_used.walltime == 5400 and Resource_List.ncpus == 1:4",
        "Resource_List.half == 00:00.5004 and Resource_List.half != 00:00.501",
        "Resource_List.half == 0.5 and Resource_List.half < 1 and Resource_List.ncpus == +64.0",
        "Exit_status==-11 and not(Exit_status == 0)",
        "Rerunable == True and Rerunable != false and block == False and block in (true, False)",
        'queue in ("workq", "gpu") and queue not in ("workq", "q")',
        'Resource_List.ncpus in (8, "64")',
        'name matches "train*" and name matches "*-?" and name matches "train-7"',
        'name not matches "train" and name not matches "?rain" and name not matches "*8"',
        'name matches "*ai*-*" and name matches "*" and comment matches "*"',
        "exists comment and not exists project",
        "comment == ''",
        r"""path == "C:\\a\"b" and path == 'C:\\a\"b' and path matches '*\"?'""",
        'not state == "Q" and queue == "gpu"',
        'state == "Q" and queue == "q" or name != "x"',
        "\n\tstate\r\n==\n'R'\n",
    ],
)
def test_holds(text: str) -> None:
    assert compile_expression(text).matches(JOB.get)


@pytest.mark.parametrize("sign", ["==", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize("literal", ["5", "5kb", "00:05"])
@pytest.mark.parametrize("name", ["missing", "comment", "name", "wide", "Rerunable"])
def test_no_amount_compares_with_nothing(name: str, sign: str, literal: str) -> None:
    assert not compile_expression(f"{name} {sign} {literal}").matches(JOB.get)


@pytest.mark.parametrize(
    "text",
    [
        'missing != "x"',
        'missing == ""',
        "missing != True",
        "name == True or name != True",
        'missing in ("x", 5, True)',
        'missing not in ("x", 5, True)',
        'missing matches "*"',
        'missing not matches "x"',
        'missing not matches "?x"',
        "Resource_List.mem == 01:00:00 or Resource_List.mem != 01:00:00",
        "resources_used.walltime == 1kb or resources_used.walltime != 1kb",
        'state == "r"',
        'name in ("train") or name == "x"',
        'state not in ("Q", "R")',
        'state matches "R*R" or state matches "R*?"',
        'wide matches "9?*" or wide not matches "9?*" or wide not matches "x?"',
        "Rerunable not in (True, False)",
        'queue not in ("workq", 5)',
    ],
)
def test_does_not_hold(text: str) -> None:
    assert not compile_expression(text).matches(JOB.get)


@pytest.mark.parametrize(
    "value", ["1_000", " 5", "\u0665", "5 ", "0x5", "1e3", "--5", "5.5.5", ":5", "5:"]
)
def test_what_pbs_never_writes_is_no_amount(value: str) -> None:
    assert not compile_expression("a >= 0 or a < 0 or a >= 0b or a >= 0:00").matches(
        {"a": value}.get
    )


VALUE = "a text in quotes, True, False, a number, a size or a duration"
TERM = "a name, 'exists', 'not' or '('"
SIGN = "'==', '!=', '<', '<=', '>', '>=', 'not', 'in' or 'matches'"


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("", 1, f"the end where {TERM} should stand"),
        ('state = "R"', 7, f"'=' where {SIGN} should stand"),
        ("state == R", 10, f"'R' where {VALUE} should stand (texts stand in quotes)"),
        ('state == "R', 10, "a text without its closing quote"),
        ('state == "R" AND x == 1', 14, "'AND' where 'and', 'or' or the end should stand"),
        ("a == 1 && b == 2", 8, "'&&' where 'and', 'or' or the end should stand"),
        ('queue > "m"', 9, "'\"m\"' where a number, a size or a duration should stand"),
        ("x > 4.5gb", 5, "'4.5gb' where a number, a size or a duration should stand"),
        ("x == 4gib", 6, f"'4gib' where {VALUE} should stand"),
        ("x == 01:00:00:00", 6, f"'01:00:00:00' where {VALUE} should stand"),
        ("x in 5", 6, "'5' where '(' should stand"),
        ("x in (1, )", 10, f"')' where {VALUE} should stand"),
        ("x in (1 2)", 9, "'2' where a comma or ')' should stand"),
        ("x matches 5", 11, "'5' where a text in quotes should stand"),
        ("x not == 5", 7, "'==' where 'in' or 'matches' should stand"),
        ("(x == 1", 8, "the end where ')' should stand"),
        ("x == 1)", 7, "')' where the end should stand"),
        ("64 <= x", 1, f"'64' where {TERM} should stand"),
        ("a.b.c == 1", 4, f"'.c' where {SIGN} should stand"),
        ("and == 1", 1, f"'and' where {TERM} should stand"),
        ("x == 1 or\ny == \0", 16, f"'\\x00' where {VALUE} should stand"),
        ("not " * 33 + "x == 1", 133, "'x' stands more than 32 levels deep"),
        ("exists x or " * 256 + "exists y", 3073, "'exists' is one term too many (at most 256)"),
        ("x in (" + "1," * 256 + "22,3)", 519, "'22' is one term too many (at most 256)"),
        (f"x == {'9' * 50}", 6, f"'{'9' * 40}…' where {VALUE} should stand"),
    ],
)
def test_says_what_is_wrong_and_where(text: str, column: int, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile_expression(text)
    assert str(caught.value) == f"expression, column {column}: {reason}"


def test_says_how_long_a_text_may_be() -> None:
    compile_expression("exists x".ljust(4096))
    with pytest.raises(UsageError, match=r"^expression: 4097 characters \(at most 4096; .*\)$"):
        compile_expression("exists x".ljust(4097))


def test_32_levels_and_256_terms_are_allowed() -> None:
    assert compile_expression("not " * 32 + "exists state").matches(JOB.get)
    assert compile_expression("exists x or " * 255 + "exists state").matches(JOB.get)
    assert compile_expression("(" * 2000 + "exists state" + ")" * 2000).matches(JOB.get)


def test_knows_what_it_reads() -> None:
    expression = compile_expression('not exists a or b.c == 1 and (d in ("e", 5) or f matches "*")')
    assert expression.names == {"a", "b.c", "d", "f"}
    assert expression.text == 'not exists a or b.c == 1 and (d in ("e", 5) or f matches "*")'


@pytest.mark.parametrize(
    ("text", "required"),
    [
        ('state == "R" and Resource_List.ncpus > 5', {"state": {"R"}}),
        ('queue in ("a", "b") and queue in ("b", "c")', {"queue": {"b"}}),
        ('state == "R" and state == "Q"', {"state": set()}),
        ('state == "R" or state == "Q"', {"state": {"R", "Q"}}),
        ('state == "R" and queue == "a" or state == "Q"', {"state": {"R", "Q"}}),
        ('state == "R" or exists queue', {}),
        ('not (state != "R" or not queue == "a")', {"queue": {"a"}}),
        ('not (not state == "R" and not state == "Q")', {"state": {"R", "Q"}}),
        ('not state == "R"', {}),
        ('state not in ("R")', {}),
        ('name matches "train"', {"name": {"train"}}),
        ('name matches "train*"', {}),
        ("Rerunable == True", {"Rerunable": {"True", "TRUE", "true", "t", "T", "1", "y", "Y"}}),
        ('state in ("R", 5)', {}),
    ],
)
def test_knows_what_every_match_must_have(text: str, required: Mapping[str, set[str]]) -> None:
    assert compile_expression(text).required() == required


@pytest.mark.parametrize(
    "text",
    [
        "(" * 4096,
        "not " * 1024,
        "((exists a) or " * 270,
        "'" + "\\" * 4000,
        '"' + "\\a" * 2000,
        "a == " + "1" * 4000,
        "a" * 4096,
        "a." * 2048,
        "a == 1:" * 580,
        " " * 4096,
        "\U0010ffff" * 4096,
        "\ud800" * 4096,
        "x in (" + "1," * 2000,
    ],
)
def test_a_hostile_text_is_refused_at_once(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(UsageError) as caught:
        compile_expression(text)
    assert time.monotonic() - began < 2
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("*a" * 2000 + "*b", "a" * 400_000, False),
        ("*" * 4000 + "a", "b" * 400_000, False),
        ("*" + "a" * 3000 + "b*", "a" * 400_000, False),
        ("*" + "ab" * 40 + "*", "ab" * 39 + "a" * 400_000, False),
        ("*" + "?a" * 1500 + "b*", "a" * 4096, False),
        ("*a?" * 1300 + "*b", "a" * 4096, False),
        ("*?" * 2000, "a" * 4096, True),
        ("?*", "a" * 4097, False),
    ],
)
def test_a_hostile_pattern_costs_little(pattern: str, value: str, matches: bool) -> None:  # noqa: FBT001
    expression = compile_expression(f'a matches "{pattern}"')
    began = time.monotonic()
    assert expression.matches({"a": value}.get) is matches
    assert time.monotonic() - began < 2
