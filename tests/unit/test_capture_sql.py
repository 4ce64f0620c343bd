"""What is installed in a datastore: nothing newer than PostgreSQL 10, readable, no secrets."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from pbscast_ingest.capture import Settings, render_install, render_uninstall
from pbscast_ingest.capture.script import digest
from pbscast_ingest.statements import capture_script, statement

# What PostgreSQL 11 to 18 brought and somebody might reach for.
NEWER = [
    r"\bxid8\b",
    r"\bpg_current_(xact_id|snapshot)",
    r"\bpg_(snapshot|visible_in_snapshot|xact_status)\b",
    r"\bEXECUTE\s+FUNCTION\b",
    r"\bOR\s+REPLACE\s+TRIGGER\b",
    r"\b(CREATE|DROP|ALTER)\s+(OR\s+REPLACE\s+)?PROCEDURE\b",
    r"\bCALL\s",
    r"\bMERGE\b",
    r"multirange",
    r"\bGENERATED\s+ALWAYS\s+AS\s*\(",
    r"\bNULLS\s+NOT\s+DISTINCT\b",
    r"\b(NOT\s+)?MATERIALIZED\s*\(",
    r"\bINCLUDE\s*\(",
    r"\bBEGIN\s+ATOMIC\b",
    r"\bRETURNING\s+(WITH|OLD|NEW)\b",
    r"\bMAINTAIN\b",
    r"\bSECURITY_INVOKER\b",
    r"\bpg_read_all_data\b",
    r"\bgen_random_uuid\b|\buuidv[47]\b",
    r"\bstarts_with\b|\^@",
    r"\bjsonb?_(path|table|exists|value|query|scalar|serialize)\w*\(",
    r"\b(string_to_table|trim_array|date_bin|unistr|any_value|array_(sample|shuffle|sort))\b",
    r"\bregexp_(count|instr|like|substr)\b",
    r"\brandom\s*\(\s*\S+\s*,",
    r"\bDROP\s+EXPRESSION\b",
    r"\bSTORAGE\s+(PLAIN|MAIN|EXTERNAL)\b",
    r"\bCOMPRESSION\b",
    r"\bmin_scale\b|\bgcd\(|\blcm\(",
    r"\btransaction_timeout\b|\bidle_session_timeout\b",
]


FOLDERS = ("install", "triggers", "uninstall", "check")


def _all_sql() -> dict[str, str]:
    top = files("pbscast_ingest.capture") / "sql"
    found = [item for item in top.iterdir() if item.name.endswith(".sql")]
    found += [item for name in FOLDERS for item in (top / name).iterdir()]
    found += [
        item
        for item in (files("pbscast_ingest") / "sql").iterdir()  # what the reader asks there
        if item.name.endswith(".sql")
    ]
    return {f"{item}": item.read_text("utf-8") for item in found}


@pytest.mark.parametrize("pattern", NEWER)
def test_nothing_is_newer_than_postgresql_10(pattern: str) -> None:
    for name, text in _all_sql().items():
        code = re.sub(r"--.*", "", text)
        assert not re.search(pattern, code, re.IGNORECASE), name


def test_what_postgresql_12_brought_is_asked_for_there_only() -> None:
    (text,) = (text for text in capture_script("install") if "vacuum_truncate" in text)
    assert text.index("server_version_num')::integer >= 120000") < text.index("vacuum_truncate=")


def test_the_row_triggers_leave_no_name_to_the_search_path() -> None:
    (text,) = (text for text in capture_script("install") if "$row_triggers$" in text)
    body = text.split("$template$")[1]
    qualified = re.compile(r"(pg_catalog|pbscast|<hstore>)\.\w+\(")
    keywords = {"AND", "OPERATOR", "journal", "AS", "FROM", "VALUES", "SELECT"}
    for call in re.finditer(r"([\w<>.]+)\s*\(", body):
        assert qualified.fullmatch(call[0]) or call[1].split(".")[-1] in keywords, call[0]
    for line in body.splitlines():
        code = re.sub(r"--.*|'[^']*'|OPERATOR\(pg_catalog\.[^)]*\)|<[a-z][\w ]*>|:=", "", line)
        assert not re.search(r"[=<>|%+*/@]", code), line


def test_the_row_triggers_leave_no_type_to_the_search_path() -> None:
    (text,) = (text for text in capture_script("install") if "$row_triggers$" in text)
    own = r"(?:pg_catalog\.\w+|<hstore>\.hstore)\b"
    declared = text.split("$template$")[1].partition("DECLARE")[2].partition("BEGIN")[0]
    lines = [line.strip() for line in declared.splitlines() if line.strip()]
    assert len(lines) > 2
    for line in lines:
        assert re.fullmatch(rf"\w+\s+{own};", line), line
    casts = re.findall(r"::\s*[\w<>.]+", text.replace("::boolean", ""))
    assert len(casts) > 10
    for cast in casts:
        assert re.fullmatch(rf"::{own}", cast), cast
    assert "CAST(" not in text.upper()


def _arguments(text: str) -> list[str]:
    """Those of the call whose opening parenthesis the text follows."""
    found, depth = [""], 1
    for part in re.findall(r"'[^']*'|.", text, re.DOTALL):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(part, 0)
        if depth == 0:
            break
        if part == "," and depth == 1:
            found.append("")
        else:
            found[-1] += part
    return [argument.strip() for argument in found]


def test_every_argument_of_an_hstore_function_has_exactly_its_type() -> None:
    (text,) = (text for text in capture_script("install") if "$row_triggers$" in text)
    calls = list(re.finditer(r"<hstore>\.\w+\(", text))
    assert len(calls) > 20
    for call in calls:
        for argument in _arguments(text[call.end() :]):
            bare = r"'[^']*'|ARRAY\[.*(?<!text\[)\]|fresh|stale|NEW|OLD|NULL|\d+"
            assert not re.fullmatch(bare, argument, re.DOTALL), f"{call[0]} {argument}"


def test_what_is_secret_of_a_job_is_the_same_list_for_trigger_and_resync() -> None:
    secrets = "{cookie,forward_x11_cookie,security,cred,credential_id}"
    (text,) = (text for text in capture_script("install") if "$row_triggers$" in text)
    resync = (files("pbscast_ingest") / "sql" / "job.sql").read_text("utf-8")
    assert f"'{secrets}'::pg_catalog.text[]" in text
    assert f"delete(attributes, '{secrets}'::text[])" in resync


def test_what_no_save_needs_is_the_same_list_everywhere() -> None:
    health = (files("pbscast_ingest") / "sql" / "health.sql").read_text("utf-8")
    found = re.findall(
        r"\(([^()]*'identity', 'heartbeat'[^()]*)\)", "".join(capture_script("install")) + health
    )
    lists = [set(re.findall(r"'(\w+)'", text)) - {"mode"} for text in found]
    assert len(lists) == 5
    assert all(each == lists[0] for each in lists)


@pytest.mark.parametrize("kind", ["job", "node", "queue", "resv", "scheduler", "server"])
def test_a_resync_names_hstores_functions_by_schema(kind: str) -> None:
    text = statement(kind, 'Odd "schema"').decode()
    assert '"Odd ""schema""".hstore_to_array(' in text
    assert not re.search(r"(?<!\.)\b(hstore|hstore_to_array|delete)\(", text)
    assert not re.search(r"hstore\(t\)|[-|] ?ARRAY", text)


def test_the_printed_sql_can_be_read_anywhere_and_is_whole() -> None:
    text = render_install(Settings("sitea"))
    assert text.isascii()
    assert text.rstrip().endswith("COMMIT;")
    assert all(s in text for s in capture_script("install") + capture_script("triggers"))
    assert text.count("\nBEGIN;\n") == 1
    assert render_uninstall().rstrip().endswith("COMMIT;")
    assert all("psql -X -v ON_ERROR_STOP=1 " in each for each in (text, render_uninstall()))


def test_an_installation_that_has_locks_waits_for_its_client_once_only() -> None:
    (text,) = capture_script("triggers")
    outside = re.sub(r"--.*", "", re.sub(r"\$triggers\$.*?\$triggers\$", "", text, flags=re.DOTALL))
    assert [part.split()[0] for part in outside.split(";") if part.strip()] == ["SET", "DO"]
    assert "LOCK TABLE" in text
    assert text.index("idle_in_transaction_session_timeout = '100ms'") < text.index("LOCK TABLE")


def test_names_are_quoted_as_they_are() -> None:
    text = render_install(Settings("o'hara", reader_role="a\\b'c", cap_bytes=7, notify=False))
    assert """SET LOCAL "pbscast"."install_site" = 'o''hara';""" in text
    assert """"install_reader" =  E'a\\\\b''c';""" in text
    assert """"install_cap_bytes" = '7';""" in text
    assert """"install_notify" = 'false';""" in text


def test_a_password_has_no_place_in_the_printed_sql() -> None:
    assert re.search(r"password\s+'", render_install(Settings("sitea")), re.IGNORECASE) is None


def test_the_digest_is_that_of_the_statements() -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", digest())
    assert f"'{digest()}'" in render_install(Settings("sitea"))


def test_the_reader_and_an_installation_see_one_shape() -> None:
    (function,) = (s for s in capture_script("install") if "FUNCTION pbscast.shape()" in s)
    body = function.split("$shape$")[1].removeprefix("\n    SELECT\n")
    assert " ".join(body.split()) in " ".join(statement("health").decode().split())
