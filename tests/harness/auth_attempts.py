"""What somebody may try who wants to see, or to say, more than he is allowed to.

``{me}`` is the attacker, ``{victim}`` somebody else, both users of all sites (that is what
``8adf3844`` stands for). In ASKING, which is asked of real services, ``{job}``, ``{array}``,
``{subjob}``, ``{name}``, ``{queue}``, ``{position}`` and ``{subscription}`` are the victim's, or of
nobody at all: there must be no telling which; ``{fresh}`` is what is left of a new id of a
subscription.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

PULL: Final = '{"batch":10,"no_wait":true}'
VICTIMS_EVENT: Final = "pbs.v1.sitea.job.{victim}.1/sitea.-.state"
VICTIMS_JOBS: Final = "pbs.v1.*.job.{victim}.>"
OUTLET: Final = "cmd.admin.reboot"
VICTIMS_INBOX: Final = "_INBOX.{victim}.answers"


@dataclass(frozen=True)
class Send:
    """A message; without a reply subject of its own the answer goes to the attacker's inbox."""

    subject: str
    body: str = ""
    reply: str | None = None


@dataclass(frozen=True)
class Attempt:
    """One thing that is tried."""

    what: str
    sends: tuple[Send, ...] = ()
    listens: tuple[str, ...] = ()


def _create(subject: str, **config: Any) -> Send:
    """A request for a consumer of the stream of events."""
    full = {"ack_policy": "none", "deliver_policy": "all", **config}
    body = json.dumps({"stream_name": "PBS", "config": full})
    return Send(f"$JS.API.CONSUMER.{subject}", body)


def _ask(subject: str, **body: Any) -> Send:
    return Send(f"$JS.API.{subject}", json.dumps(body) if body else "")


def _redirected(reply: str) -> tuple[Send, ...]:
    """Everything that answers, with the answer sent elsewhere."""
    return (
        Send("pbscast.v1.list", "{}", reply),
        Send("$JS.API.CONSUMER.MSG.NEXT.PBS.user-{me}-8adf3844-1", PULL, reply),
        Send("$JS.API.CONSUMER.MSG.NEXT.PBS_DELIVERIES.user-{me}-8adf3844-1", PULL, reply),
        Send("$JS.ACK.PBS_DELIVERIES.user-{me}-8adf3844-1.1.1.1.1.0", "+NXT", reply),
        _create("CREATE.PBS.mine", name="mine", deliver_subject=reply),
    )


SEEING: Final = (
    Attempt("another's events, by subject", listens=(VICTIMS_JOBS, VICTIMS_EVENT)),
    Attempt(
        "by wildcards",
        listens=(">", "pbs.>", "pbs.v1.>", "pbs.v1.*.job.>", "pbs.v1.*.*.*.*.*.*", "*.*.*.job.>"),
    ),
    Attempt(
        "by a consumer with a filter",
        (
            _create(f"CREATE.PBS.mine.{VICTIMS_JOBS}", name="mine", filter_subject=VICTIMS_JOBS),
            Send("$JS.API.CONSUMER.MSG.NEXT.PBS.mine", PULL),
        ),
    ),
    Attempt(
        "by a consumer whose request names another filter than its subject",
        (
            _create(
                "CREATE.PBS.user-{me}-8adf3844-2.pbs.v1.*.job.{me}.>",
                name="user-{me}-8adf3844-2",
                filter_subject=VICTIMS_JOBS,
            ),
            _create(
                "CREATE.PBS.user-{me}-8adf3844-2.pbs.v1.*.job.{me}.>",
                name="user-{me}-8adf3844-2",
                filter_subject="pbs.v1.*.job.{me}.>",
            ),
        ),
    ),
    Attempt(
        "by a consumer with several filters",
        (
            _create(
                "CREATE.PBS.mine",
                name="mine",
                filter_subjects=["pbs.v1.*.job.{me}.>", VICTIMS_JOBS],
            ),
            Send("$JS.API.CONSUMER.MSG.NEXT.PBS.mine", PULL),
        ),
    ),
    Attempt(
        "by a consumer without a filter, of any kind",
        (
            _create("CREATE.PBS"),
            _create("CREATE.PBS.mine", name="mine"),
            _create("DURABLE.CREATE.PBS.mine", durable_name="mine"),
            Send("$JS.API.CONSUMER.MSG.NEXT.PBS.mine", PULL),
        ),
    ),
    Attempt(
        "by changing one's own consumer",
        (
            _create(
                f"CREATE.PBS.user-{{me}}-8adf3844-1.{VICTIMS_JOBS}",
                durable_name="user-{me}-8adf3844-1",
                filter_subject=VICTIMS_JOBS,
            ),
            _ask("CONSUMER.DELETE.PBS.user-{me}-8adf3844-1"),
            _ask("CONSUMER.RESET.PBS.user-{me}-8adf3844-1"),
            Send("$JS.API.CONSUMER.MSG.NEXT.PBS.user-{me}-8adf3844-1", PULL),
        ),
    ),
    Attempt(
        "by another's consumer",
        (
            Send("$JS.API.CONSUMER.MSG.NEXT.PBS.user-{victim}-8adf3844-1", PULL),
            Send("$JS.API.CONSUMER.MSG.NEXT.PBS_DELIVERIES.user-{victim}-8adf3844-1", PULL),
            Send("$JS.API.CONSUMER.MSG.NEXT.PBS_DELIVERIES.auditor-{victim}-10faaab7-1", PULL),
        ),
    ),
    Attempt(
        "what consumers there are",
        (
            _ask("CONSUMER.NAMES.PBS"),
            _ask("CONSUMER.LIST.PBS_DELIVERIES"),
            _ask("CONSUMER.INFO.PBS.user-{victim}-8adf3844-1"),
            _ask("CONSUMER.INFO.PBS.user-{me}-8adf3844-1"),
        ),
    ),
    Attempt(
        "by direct get",
        (
            _ask(f"DIRECT.GET.PBS.{VICTIMS_EVENT}"),
            _ask("DIRECT.GET.PBS", seq=1),
            _ask("DIRECT.GET.PBS", multi_last=["pbs.v1.>"]),
            _ask("DIRECT.GET.PBS", last_by_subj=VICTIMS_EVENT),
            _ask("DIRECT.GET.PBS.pbs.v1.sitea.job.{me}.1/sitea.-.state", seq=1),
            _ask("STREAM.MSG.GET.PBS", seq=1),
            _ask("STREAM.MSG.GET.PBS", last_by_subj=VICTIMS_EVENT),
        ),
    ),
    Attempt(
        "which jobs there are, by stream info",
        (
            _ask("STREAM.INFO.PBS", subjects_filter="pbs.v1.>"),
            _ask("STREAM.NAMES"),
            _ask("STREAM.LIST"),
            _ask("INFO"),
        ),
    ),
    Attempt(
        "by all that, by the name of the JetStream domain",
        (
            Send("$JS.hub.API.CONSUMER.MSG.NEXT.PBS.user-{victim}-8adf3844-1", PULL),
            Send("$JS.hub.API.STREAM.INFO.PBS"),
            Send("$JS.hub.API.DIRECT.GET.PBS", '{"seq":1}'),
            Send("$JS.hub.API.CONSUMER.NAMES.PBS"),
        ),
    ),
    Attempt(
        "by a stream of one's own that copies",
        (
            _ask("STREAM.CREATE.MINE", name="MINE", sources=[{"name": "PBS"}]),
            _ask("STREAM.CREATE.MINE", name="MINE", mirror={"name": "PBS"}),
            _ask("STREAM.CREATE.MINE", name="MINE", subjects=["mine.>"]),
            _ask("STREAM.SNAPSHOT.PBS", deliver_subject="_INBOX.snapshot"),
        ),
    ),
    Attempt(
        "subscriptions in their bucket",
        (
            _ask("DIRECT.GET.KV_PBS_SUBSCRIPTIONS.$KV.PBS_SUBSCRIPTIONS.one"),
            _ask("STREAM.MSG.GET.KV_PBS_SUBSCRIPTIONS", last_by_subj="$KV.PBS_SUBSCRIPTIONS.one"),
            _ask("CONSUMER.CREATE.KV_PBS_SUBSCRIPTIONS", stream_name="KV_PBS_SUBSCRIPTIONS"),
        ),
        listens=("$KV.>",),
    ),
    Attempt(
        "what another's subscription is told",
        listens=(
            "pbscast.live.v1.>",
            "pbscast.live.v1.*.user-{victim}-8adf3844.*",
            "pbscast.live.v1.*.*.*",
            "pbscast.deliver.v1.>",
        ),
    ),
    Attempt(
        "what another asks and is answered",
        listens=("_INBOX.>", VICTIMS_INBOX, "_R_.>", "pbscast.v1.>", "$SRV.>"),
    ),
    Attempt("what the servers say of accounts", listens=("$SYS.>", "$JS.EVENT.>", "$JS.API.>")),
)

SAYING: Final = (
    Attempt(
        "forging events",
        (
            Send("pbs.v1.sitea.job.{victim}.1/sitea.-.finalize", "forged"),
            Send("pbs.v1.sitea.job.{me}.1/sitea.-.finalize", "forged"),
            Send("pbs.v1.sitea.queue.workq.modify", "forged"),
        ),
    ),
    Attempt("forging marks", (Send("pbs.v1.sitea.mark", '{"position":9}'),)),
    Attempt(
        "forging what a subscription is told",
        (
            Send("pbscast.deliver.v1.sitea.two", "forged"),
            Send("pbscast.deliver.v1.sitea.mark", "forged"),
            Send("pbscast.live.v1.sitea.two", "forged"),
            Send("pbscast.live.v1.sitea.user-{victim}-8adf3844.two", "forged"),
        ),
    ),
    Attempt("forging an answer", (Send(VICTIMS_INBOX, "forged"), Send("_R_.x.y", "forged"))),
    Attempt(
        "asking as another, or in another role",
        (
            Send("pbscast.v1.as.user.-.{victim}.list", "{}"),
            Send("pbscast.v1.as.auditor.-.{me}.list", "{}"),
            Send("pbscast.v1.as.user.-.{me}.list", "{}"),
            Send("pbscast.v1.list.as.{victim}", "{}"),
        ),
    ),
    Attempt(
        "writing to buckets",
        (
            Send("$KV.PBS_SUBSCRIPTIONS.one", "forged"),
            Send("$JS.API.$KV.PBS_SUBSCRIPTIONS.one", "forged"),
        ),
    ),
    Attempt("commanding other programs", (Send(OUTLET, "now"),)),
    Attempt(
        "acknowledging for another",
        (
            Send("$JS.ACK.PBS_DELIVERIES.user-{victim}-8adf3844-1.1.1.1.1.0", "+ACK"),
            Send("$JS.ACK.PBS_DELIVERIES.user-{victim}-8adf3844-1.1.1.1.1.0", "+TERM"),
            Send("$JS.ACK.PBS.user-{victim}-8adf3844-1.1.1.1.1.0", "+ACK"),
        ),
    ),
    Attempt(
        "changing streams",
        (
            _ask("STREAM.PURGE.PBS"),
            _ask("STREAM.MSG.DELETE.PBS", seq=1),
            _ask("STREAM.DELETE.PBS_DELIVERIES"),
            _ask("STREAM.UPDATE.PBS", name="PBS", subjects=["other"]),
            _ask("CONSUMER.DELETE.PBS_DELIVERIES.user-{victim}-8adf3844-1"),
        ),
    ),
    Attempt(
        "giving oneself another account",
        (
            Send("$SYS.REQ.CLAIMS.UPDATE", "{token}"),
            Send("$SYS.REQ.CLAIMS.DELETE", "{token}"),
            Send("$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP"),
            Send("$SYS.REQ.SERVER.PING.CONNZ"),
            Send("$SYS.REQ.SERVER.PING.ACCOUNTZ"),
        ),
    ),
)

REDIRECTING: Final = tuple(
    Attempt(f"having answers or deliveries sent {where}", _redirected(reply))
    for where, reply in {
        "to a command": OUTLET,
        "to another's events": "pbs.v1.sitea.job.{victim}.1/sitea.-.finalize",
        "to the marks": "pbs.v1.sitea.mark",
        "to another's inbox": VICTIMS_INBOX,
        "to another's subscription": "pbscast.live.v1.sitea.two",
        "to what is kept for a subscription": "pbscast.deliver.v1.sitea.two",
        "to JetStream by its domain": "$JS.hub.API.STREAM.DELETE.PBS",
        "to the services, as another": "pbscast.v1.as.user.-.{victim}.unsubscribe",
        "to JetStream": "$JS.API.STREAM.PURGE.PBS",
        "to another's acknowledgements": (
            "$JS.ACK.PBS_DELIVERIES.user-{victim}-8adf3844-1.1.1.1.1.0"
        ),
        "to another's pulls": "$JS.API.CONSUMER.MSG.NEXT.PBS.user-{victim}-8adf3844-1",
        "to a bucket": "$KV.PBS_SUBSCRIPTIONS.one",
    }.items()
)

ATTEMPTS: Final = (*SEEING, *SAYING, *REDIRECTING)


def _question(service: str, **body: Any) -> Send:
    return Send(f"pbscast.v1.{service}", json.dumps(body))


def _looks(**selection: Any) -> tuple[Send, ...]:
    """Every way to look back."""
    return (
        _question("history", **selection),
        _question("jobs", **selection),
        _question("snapshot", attributes=True, **selection),
        _question("at", moment={"sitea": 6}, attributes=True, **selection),
        _question("difference", begin={"sitea": 2}, end={"sitea": 8}, **selection),
    )


_LIVE: Final = ("pbscast.live.v1.>",)

ASKING: Final = (
    Attempt("another's jobs, by owner", _looks(owners=["{victim}"])),
    Attempt("another's jobs, by id", _looks(ids=["{job}"])),
    Attempt("an array of another's and its subjobs", _looks(ids=["{array}"])),
    Attempt("a subjob of another's", _looks(ids=["{subjob}"])),
    Attempt("everybody's jobs", _looks()),
    Attempt("by what another's jobs are called", _looks(names=["{name}*"])),
    Attempt("by where another's jobs are", _looks(queues=["{queue}"])),
    Attempt("by how another's jobs have ended", _looks(reasons=["deleted"], exit_statuses=[77])),
    Attempt("by asking page by page", _looks(limit=1, states=["R", "F"])),
    Attempt(
        "by a page's token made by hand",
        (
            _question("history", after='{"sitea":1}'),
            _question("jobs", after='{"sitea":1}', newest_first=False),
            _question("snapshot", after='["sitea",1]'),
            _question("at", moment={"sitea": 6}, after='["sitea",1]'),
            _question("difference", begin={"sitea": 2}, end={"sitea": 8}, after='["sitea",1]'),
        ),
    ),
    Attempt(
        "an event, by its position", (_question("event", site="sitea", position="{position}"),)
    ),
    Attempt(
        "another's events, by a reader",
        (
            _question("open", subjects=["pbs.v1.*.job.{victim}.>"], begin="all"),
            _question("open", subjects=["pbs.v1.*.job.*.{id}.*.*"], begin="all"),
        ),
    ),
    Attempt(
        "everybody's events, by a reader",
        (_question("open", subjects=["pbs.v1.>"], begin="all"),),
    ),
    Attempt(
        "a reader that delivers elsewhere, or keeps more",
        (
            _question("open", subjects=["pbs.v1.>"], deliver_subject=OUTLET),
            _question("open", subjects=["$KV.>", "pbscast.deliver.v1.>"]),
            _question(
                "open", subjects=["pbs.v1.*.job.{me}.>"], durable_name="user-{victim}-8adf3844-1"
            ),
        ),
    ),
    Attempt(
        "another's reader",
        (
            _question("close", consumer="{reader}"),
            Send("$JS.API.CONSUMER.MSG.NEXT.PBS.{reader}", PULL),
        ),
    ),
    Attempt(
        "another's subscription, by its id",
        (
            _question("renew", id="{subscription}", resume=True, acknowledged=True, lease=3600),
            _question("modify", id="{subscription}", add_ids=["1.sitea"]),
            _question("modify", id="{subscription}", attributes=["comment"]),
            _question("unsubscribe", id="{subscription}"),
            _question("list"),
            _question("list", after="0"),
        ),
    ),
    Attempt(
        "a subscription to another's jobs",
        (
            _question("subscribe", id="{fresh}1", owners=["{victim}"], delivery="at-most-once"),
            _question("subscribe", id="{fresh}2", ids=["{job}"], delivery="at-most-once"),
            _question("subscribe", id="{fresh}3", queues=["{queue}"], delivery="at-most-once"),
        ),
        listens=_LIVE,
    ),
    Attempt(
        "an expression about another's jobs",
        (
            _question(
                "subscribe",
                id="{fresh}4",
                where='comment matches "*of {victim}*" or owner == "{victim}"',
                delivery="at-most-once",
            ),
            _question(
                "subscribe",
                id="{fresh}5",
                where='not (queue == "nowhere")',
                kinds=["job", "queue"],
                delivery="at-most-once",
            ),
        ),
        listens=_LIVE,
    ),
)
"""What is asked of the services, by whom nats-server says that it is the attacker; from readers
that are opened for him he pulls all that there is."""


def tables() -> str:
    """All attempts in Markdown, for people who want to know what has been tried."""
    by_message = [_row(attempt.what, _excerpt(attempt)) for attempt in (*SEEING, *SAYING)]
    first = REDIRECTING[0]
    replies = ", ".join(f"`{attempt.sends[0].reply}`" for attempt in REDIRECTING)
    what = first.what.removesuffix(" to a command")
    by_message.append(_row(f"{what} to …", f"{_excerpt(first)}, each to {replies}"))
    by_question = [_row(attempt.what, _excerpt(attempt)) for attempt in ASKING]
    return (
        f"{_head('what was sent, or listened to')}{''.join(by_message)}\n"
        f"{_head('what was asked of the services')}{''.join(by_question)}"
    )


def _head(how: str) -> str:
    return _row("attempt", how) + "|---|---|\n"


def _row(what: str, how: str) -> str:
    return f"| {what} | {how} |\n"


def _excerpt(attempt: Attempt) -> str:
    parts = list(dict.fromkeys((*map(_said, attempt.sends), *attempt.listens)))
    is_looking = [send.subject for send in attempt.sends] == [look.subject for look in _looks()]
    shown = parts[: 1 if is_looking else 3]
    return ", ".join(f"`{part}`" for part in shown) + (" …" if len(parts) > len(shown) else "")


def _said(send: Send) -> str:
    service = send.subject.removeprefix("pbscast.v1.")
    is_question = send.body.startswith("{") and service.isalpha()
    return f"{service} {send.body}" if is_question else send.subject
