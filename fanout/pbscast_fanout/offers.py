"""What every worker answers, and in whose turns."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pbscast import openings, requests, subscriptions
from pbscast_fanout.services import QUICKLY_PARSED, Endpoint
from pbscast_fanout.settling import SECONDS, SETTLE, SettleRequest
from pbscast_fanout.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbscast_fanout.answers import Answers
    from pbscast_fanout.openings import Openings
    from pbscast_fanout.services import Answer
    from pbscast_fanout.settling import Settling
    from pbscast_fanout.subscriptions.desk import Desk


def of_readers(opened: Openings) -> list[Endpoint[Any]]:
    """Return the services of those who read the stream.

    A server that dies takes the consumers of many with it, and to give back one of these takes its
    time: who opens need not wait.
    """
    turns, closing = _always(Turns()), _always(Turns())
    return [
        Endpoint(openings.OPEN, openings.OpenRequest, opened.open, turns),
        Endpoint(openings.CLOSE, openings.CloseRequest, opened.close, closing),
        Endpoint(openings.STREAM, openings.StreamRequest, opened.stream, turns),
    ]


def everything(
    status: Answer[requests.StatusRequest],
    answers: Answers,
    desk: Desk,
    opened: Openings,
    settling: Settling,
) -> list[Endpoint[Any]]:
    """Return all services of a worker."""
    of_the_log, quick = Turns(), Turns()
    # Nobody may delay it by what he asks, and a request is about many.
    settle = _always(Turns(seconds=SECONDS))
    return [
        # It needs little time, and is asked for when the others are slow.
        Endpoint(requests.STATUS, requests.StatusRequest, status, _always(quick)),
        *of_readers(opened),
        Endpoint(SETTLE, SettleRequest, settling.settle, settle, is_for_persons=False),
        *_of_subscribers(desk, quick, of_the_log),
        *_of_the_log(answers, of_the_log),
    ]


def _of_subscribers(desk: Desk, quick: Turns, of_the_log: Turns) -> list[Endpoint[Any]]:
    """Registering has turns of its own: a hundred thousand ids take their time.

    So have readers that come back, all at once after NATS was away: who renews need not wait.
    """
    slow, resuming = Turns(), Turns()

    def renewing(data: bytes) -> Turns:
        return resuming if _resumes(data) else quick

    return [
        Endpoint(
            subscriptions.SUBSCRIBE,
            subscriptions.SubscribeRequest,
            desk.subscribe,
            _always(slow),
        ),
        Endpoint(subscriptions.MODIFY, subscriptions.ModifyRequest, desk.modify, _always(slow)),
        Endpoint(subscriptions.RENEW, subscriptions.RenewRequest, desk.renew, renewing),
        Endpoint(
            subscriptions.UNSUBSCRIBE,
            subscriptions.UnsubscribeRequest,
            desk.unsubscribe,
            _always(quick),
        ),
        Endpoint(
            subscriptions.LIST,
            subscriptions.ListRequest,
            desk.list,
            _always(of_the_log),
            needs_log=True,
        ),
    ]


def _of_the_log(answers: Answers, turns: Turns) -> list[Endpoint[Any]]:
    looks: list[tuple[str, type[Any], Answer[Any]]] = [
        (requests.HISTORY, requests.HistoryRequest, answers.history),
        (requests.JOBS, requests.JobsRequest, answers.jobs),
        (requests.SNAPSHOT, requests.SnapshotRequest, answers.snapshot),
        (requests.AT, requests.AtRequest, answers.at),
        (requests.DIFFERENCE, requests.DifferenceRequest, answers.difference),
        (requests.EVENT, requests.EventRequest, answers.event),
    ]
    return [
        Endpoint(subject, model, answer, _always(turns), needs_log=True)
        for subject, model, answer in looks
    ]


def _always(turns: Turns) -> Callable[[bytes], Turns]:
    return lambda _: turns


def _resumes(data: bytes) -> bool:
    with suppress(ValidationError):  # which is said in the answer
        if len(data) <= QUICKLY_PARSED:
            return subscriptions.RenewRequest.model_validate_json(data).resume
    return False
