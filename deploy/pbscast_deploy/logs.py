"""How the daemon logs: structured, to standard error."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor


def configure_logs(style: str) -> None:
    """Log lines for people (``console``) or for machines (``json``), from level info on.

    What libraries log by the standard library's means takes the same form, one line each.
    """
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _in_one_line],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _renderer(style),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    hush_tls()
    # Ours; a library speaks up from warnings on.
    logging.getLogger("pbscast_deploy").setLevel(logging.INFO)
    for package in ("pbscast", "pbscast_store", "pbscast_ingest", "pbscast_fanout"):
        logging.getLogger(package).setLevel(logging.INFO)


def hush_tls() -> None:
    """Drop what asyncio says at the end of each TLS connection of nats-py, and no other line."""
    logging.getLogger("asyncio").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return "eof_received() has no effect" not in str(record.msg)


def _renderer(style: str) -> Processor:
    if style == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


def _in_one_line(
    _logger: object, _method: str, entry: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """A library's traceback is its last line: where it matters our own part says the rest."""
    record: logging.LogRecord = entry["_record"]
    if record.exc_info:
        entry["error"] = " ".join(str(record.exc_info[1]).split())
        record.exc_info = record.exc_text = None
        entry.pop("exc_info", None)
    return entry
