"""The log: one shape for every library, and nothing in it that opens a file or a database."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest
import structlog

from tasks_service import telemetry

SECRETS = [
    "https://storage.googleapis.com/b/o?X-Goog-Algorithm=GOOG4&X-Goog-Signature=HUNTER2deadbeef&x=1",
    "https://storage.googleapis.com/b/o?x=1&X-Goog-Credential=HUNTER2%40project.iam",
    "https://storage.googleapis.com/b/o?GoogleAccessId=a&Signature=HUNTER2%2Babc&Expires=1",
    "a redirect to x%3FX-Goog-Signature%3DHUNTER2",
    "GET /files/HUNTER2.abc-_/Product_Export-1.csv HTTP/1.1",
    "http://127.0.0.1:8080/files/HUNTER2/x.csv",
    "Authorization: Bearer tok_0123456789abcdef:HUNTER2HUNTER2HUNTER2",
    "{'Authorization': 'Basic SFVOVEVSMjpIVU5URVIyHUNTER2=='}",
    "authorization=HUNTER2",
    "ApiKey HUNTER2HUNTER2==",
    "connection to postgresql+psycopg://tasks:HUNTER2@db.example/tasks failed",
    "postgresql://db.example/tasks?user=a&password=HUNTER2",
    "http://elastic:HUNTER2@127.0.0.1:9200",
    "the token tok_0123456789abcdef:HUNTER2HUNTER2HUNTER2 was used",
    "-----BEGIN PRIVATE KEY-----\nHUNTER2\n-----END PRIVATE KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----\nHUNTER2, cut off",
]
HARMLESS = [
    "exports/1764/12/34/1-1/Product_Export-12.csv",
    "http://127.0.0.1:8080/tasks/12/download_url",
    "sqlite:///var/tasks.db",
    "postgresql+psycopg://db.example/tasks",
    "tok_0123456789abcdef",
    "time: 12:34:56, basic things, bearer of news",
    "signature of a function",
]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave logging as it was found."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    telemetry.clear()


def configured(log_format: str = "json", level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    telemetry.configure(log_format=log_format, level=level, process="worker", stream=stream)  # type: ignore[arg-type]
    return stream


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_is_taken_out(text: str) -> None:
    clean = telemetry.redacted(text)
    assert "HUNTER2" not in clean
    assert telemetry.REDACTED in clean


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert telemetry.redacted(text) == text


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_passes_by_any_way_a_line_comes(log_format: str) -> None:
    stream = configured(log_format)
    link = "https://h/files/HUNTER2/x.csv"
    log = structlog.stdlib.get_logger("ours")
    log.info("an.event", url=link, deep={"list": [("x", link)]}, password="HUNTER2", token="HUNTER2")
    log.info(link)
    logging.getLogger("theirs").warning("asked %s", link, extra={"headers": {"authorization": "HUNTER2"}})
    try:
        int(link)  # its message quotes it
    except ValueError:
        log.exception("it.failed")
        logging.getLogger("theirs").exception("failed")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(link, stacklevel=1)
    text = stream.getvalue()
    assert "HUNTER2" not in text
    assert text.count("x.csv") >= 6


def test_every_line_is_one_json_object_with_event_level_time_and_process() -> None:
    stream = configured()
    structlog.stdlib.get_logger("tasks_service.runner").info("run.finished", run_id=3, rows=10)
    logging.getLogger("gunicorn.error").error("it broke\nin two lines")
    ours, theirs = lines(stream)
    assert (ours["event"], ours["run_id"], ours["rows"]) == ("run.finished", 3, 10)
    assert (ours["level"], ours["logger"], ours["process"]) == ("info", "tasks_service.runner", "worker")
    assert str(ours["timestamp"]).endswith("Z")
    assert (theirs["event"], theirs["level"], theirs["process"]) == ("it broke\nin two lines", "error", "worker")


def test_numbers_stay_numbers() -> None:
    stream = configured()
    structlog.stdlib.get_logger().info("a.b", rows=1, seconds=0.5, ok=True, nothing=None)
    [line] = lines(stream)
    assert (line["rows"], line["seconds"], line["ok"], line["nothing"]) == (1, 0.5, True, None)


def test_ids_are_bound_for_a_block_and_cleared() -> None:
    stream = configured()
    log = structlog.stdlib.get_logger()
    with telemetry.bound(run_id=1):
        with telemetry.bound(run_id=2, task_id=3):
            log.info("inner")
        log.info("outer")
    with telemetry.bound(run_id=4):
        telemetry.clear()
        log.info("cleared")
    found = [(line["event"], line.get("run_id"), line.get("task_id")) for line in lines(stream)]
    assert found == [("inner", 2, 3), ("outer", 1, None), ("cleared", None, None)]


def test_what_is_less_severe_than_the_level_is_left_out_and_chatty_libraries_are_quiet() -> None:
    stream = configured(level="info")
    structlog.stdlib.get_logger("ours").debug("no")
    logging.getLogger("elastic_transport.transport").info("POST http://... [status:200]")
    logging.getLogger("theirs").debug("no")
    logging.getLogger("elastic_transport.transport").warning("yes")
    assert [line["event"] for line in lines(stream)] == ["yes"]


def test_configuring_again_replaces_what_was() -> None:
    first = configured()
    second = configured()
    structlog.stdlib.get_logger().info("once")
    assert first.getvalue() == ""
    assert len(lines(second)) == 1


def test_what_nothing_catches_is_logged_without_secrets() -> None:
    hooks = sys.excepthook, threading.excepthook
    stream = configured()
    telemetry.log_uncaught()
    try:
        thread = threading.Thread(target=lambda: int("http://u:HUNTER2@h"), name="beater")
        thread.start()
        thread.join()
        try:
            int("http://u:HUNTER2@h")
        except ValueError as error:
            sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.excepthook, threading.excepthook = hooks
    in_thread, in_main = lines(stream)
    assert (in_thread["event"], in_thread["thread"]) == ("thread.crashed", "beater")
    assert in_main["event"] == "process.crashed"
    for line in (in_thread, in_main):
        assert "ValueError" in str(line["exception"])
        assert "HUNTER2" not in json.dumps(line)
