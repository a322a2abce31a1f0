"""`tasks-service doctor`: the configuration held against the real services, in plain words.

What lives here: the checks, each a sentence about one part and, where something is wrong, what to do. What does not:
the parts. It writes nothing but a probe object of its own, which it removes again, and changes no table.
"""

from __future__ import annotations

import secrets
import shutil
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from tasks_service import zones
from tasks_service.cli.invocation import Invocation, JsonOption, invocation, write, write_json
from tasks_service.config import Settings
from tasks_service.database.engine import BUSY_SECONDS
from tasks_service.errors import ServiceError

if TYPE_CHECKING:
    from tasks_service.app import Services
    from tasks_service.config import IndexSettings
    from tasks_service.database.models import Process

Verdict = Literal["ok", "warning", "wrong", "skipped"]

_PROBE = b"tasks-service doctor\n"
_LINK_SECONDS = 60
_CLOCK_NOTED = timedelta(seconds=5)
_CLOCK_WRONG = timedelta(minutes=10)
_KEY_CHARACTERS = 32
_KEY_OF_EACH_HOST = (
    "service.secret_key is not set, so each host makes its own: links and cursors of one host are refused by "
    "another. Set it where the service runs on more than one host."
)
_DISK_NOTED = 2 * 1024**3
_DISK_WRONG = 200 * 1024**2


@dataclass(frozen=True)
class Finding:
    """What was found about one part."""

    part: str
    verdict: Verdict
    detail: str


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(doctor)


def doctor(context: typer.Context, as_json: JsonOption = False) -> None:
    """Check the configuration against the real services, and say what is wrong in plain words.

    Exit code 1 where something is wrong; warnings alone do not count.
    """
    call = invocation(context)
    settings = call.settings  # where it is not valid, its faults are the answer
    findings: list[Finding] = []
    for part, needs, check in _checks(call, settings):
        missing = any(finding.verdict == "wrong" and finding.part == needs for finding in findings)
        skipped = Finding(part, "skipped", f"Not looked at: it needs the {needs}.")
        for finding in [skipped] if missing else _run(part, check):
            findings.append(finding)
            if not as_json:
                write(f"{finding.verdict:8} {finding.part:24} {finding.detail}")
    wrong = sum(finding.verdict == "wrong" for finding in findings)
    if as_json:
        write_json({"wrong": wrong, "findings": [asdict(finding) for finding in findings]})
    elif not wrong:
        write("Nothing is wrong.")
    raise typer.Exit(1 if wrong else 0)


Check = Callable[[], Iterator[tuple[Verdict, str]]]


def _checks(call: Invocation, settings: Settings) -> Iterator[tuple[str, str, Check]]:
    """Yield the parts, each with the part it needs (waiting for a dead server once is enough) and its check."""
    yield "database", "", lambda: _database(call)
    yield "clock", "database", lambda: _clock(call)
    yield "processes", "database", lambda: _processes(call)
    yield "time zones", "database", lambda: _time_zones(call)
    yield "secret key", "", lambda: _secret_key(settings)
    yield "leases", "", lambda: _leases(settings)
    services: Services | None = None

    def built() -> Services:
        nonlocal services
        services = services or call.services()
        return services

    yield "source", "", lambda: _source(built())
    for name, index in settings.indices.items():
        yield f"index {name}", "source", lambda index=index: _index(built(), index)
    yield "storage", "", lambda: _storage(built())
    yield "download link", "storage", lambda: _link(built())
    for name in settings.destinations:
        yield f"destination {name}", "", lambda name=name: _destination(built(), name)
    yield "disk", "", lambda: _disk(settings)


def _run(part: str, check: Check) -> Iterator[Finding]:
    """Run one check; whatever it fails of is a finding, for the other checks are still wanted."""
    try:
        for verdict, detail in check():
            yield Finding(part, verdict, detail)
    except ServiceError as error:
        yield Finding(part, "wrong", error.detail)
    except Exception as error:  # noqa: BLE001 -- a doctor that falls over an illness nobody thought of is of no use
        yield Finding(part, "wrong", f"The check itself failed ({type(error).__name__}); this is a defect, report it.")


def _database(call: Invocation) -> Iterator[tuple[Verdict, str]]:
    from tasks_service.database import schema

    schema.require_current(call.database)
    place = f" {call.database.path}" if call.database.path else ""
    yield "ok", f"{call.database.dialect}{place} answers; its schema is {schema.head_revision()}, the one needed."


def _clock(call: Invocation) -> Iterator[tuple[Verdict, str]]:
    from tasks_service.database import schema

    schema.require_current(call.database)
    with call.database.read() as session:
        before = datetime.now(UTC)
        theirs = call.database.now(session)
        difference = abs(theirs - before)
    seconds = f"{difference.total_seconds():.1f} s"
    if difference >= _CLOCK_WRONG:
        yield "wrong", f"This host and the database differ by {seconds}: links end at a wrong time. Synchronise clocks."
    elif difference >= _CLOCK_NOTED:
        yield (
            "warning",
            f"This host and the database differ by {seconds}; the database's clock decides. Synchronise them.",
        )
    else:
        yield "ok", f"This host and the database differ by {seconds}."


def _processes(call: Invocation) -> Iterator[tuple[Verdict, str]]:
    """Look who works: tasks are accepted without a scheduler and a worker, and nothing becomes of them."""
    from tasks_service.database import processes

    with call.ready_database().read() as session:
        now = call.database.now(session)
        late: list[Process] = []
        seen: list[Process] = []
        for process in processes.all_processes(session):
            (late if processes.is_late(process, now=now) else seen).append(process)
    for process in late:
        ago = round((now - process.seen_at).total_seconds())
        yield "warning", f"The {process.kind} {process.name} was last seen {ago} s ago: hung, cut off, or dead."
    for kind in ("scheduler", "worker"):
        if not any(process.kind == kind for process in seen):
            yield "warning", f"No {kind} is seen: start one (`tasks-service {kind}`, or `serve` for everything)."
    if seen:
        count = Counter(process.kind for process in seen)
        yield "ok", f"Seen: {', '.join(f'{count[kind]} {kind}' for kind in sorted(count))}."


def _time_zones(call: Invocation) -> Iterator[tuple[Verdict, str]]:
    """Look whether this host's zone data is the newest that any process of the service has had."""
    from tasks_service.database import zone_rules

    own = f"Release {zones.release() or 'unknown'} of the zone data, from {zones.source()}"
    with call.ready_database().read() as session:
        newest = zone_rules.newest_release(session)
    if zones.age(newest) > zones.age(zones.release()):
        yield "warning", f"{own}; another host has had {newest}, which schedules go by. Upgrade `tzdata` here too."
    else:
        yield "ok", f"{own}."


def _secret_key(settings: Settings) -> Iterator[tuple[Verdict, str]]:
    key = settings.service.secret_key
    if key is not None and len(key.get_secret_value()) < _KEY_CHARACTERS:
        yield "wrong", f"service.secret_key is short; use {_KEY_CHARACTERS} random characters or more."
    elif key is not None:
        yield "ok", "service.secret_key is set."
    elif settings.database.url.get_secret_value().startswith("postgresql"):
        yield "warning", _KEY_OF_EACH_HOST
    else:
        yield "ok", f"Kept in {settings.service.state_directory / 'secret.key'}."


def _leases(settings: Settings) -> Iterator[tuple[Verdict, str]]:
    """Look whether a heartbeat may come late without costing the run."""
    worker = settings.worker
    lease, beat, stall = worker.lease_seconds, worker.heartbeat_seconds, worker.stall_timeout_seconds
    patience = lease - beat
    well = True
    if patience < BUSY_SECONDS:
        well = False
        late = f"worker.lease_seconds ({lease:g}) leaves a heartbeat {patience:g} s to arrive"
        may = f"one may wait {BUSY_SECONDS:g} s for the database, and costs a run then"
        yield "warning", f"{late}; {may}. Set it to {beat + BUSY_SECONDS:g} or more."
    if stall < lease:
        well = False
        short = f"worker.stall_timeout_seconds ({stall:g}) is shorter than a lease ({lease:g})"
        yield "warning", f"{short}: a source that is slow once looks like a worker that hangs. Set it to some minutes."
    if well:
        yield (
            "ok",
            f"Renewed every {beat:g} s, each holds for {lease:g} s; a run that stalls is given up in {stall:g} s.",
        )


def _source(services: Services) -> Iterator[tuple[Verdict, str]]:
    services.source.check()
    yield "ok", f"{services.settings.source.kind} answers."


def _index(services: Services, index: IndexSettings) -> Iterator[tuple[Verdict, str]]:
    from tasks_service.formats.column_checks import check_columns

    catalog = services.source.catalog(index)
    field = catalog.get(index.chain_field)
    faults = check_columns(index.columns, catalog) if index.columns else []
    for fault in faults:
        yield "wrong", f"{index.source}: {fault.detail}"
    if field is None:
        yield (
            "wrong",
            f"{index.source} has no field {index.chain_field}; set chain_field to the one that holds the chain.",
        )
    elif field.type != "number" or field.nested is not None:
        place = "is in nested documents" if field.nested else f"is of type {field.type}"
        yield "wrong", f"{index.source}: the chain field {index.chain_field} {place}; it must be one number a document."
    elif not faults:
        yield "ok", f"{index.source} has {len(catalog.fields)} fields, {len(catalog.columns)} columns."


def _storage(services: Services) -> Iterator[tuple[Verdict, str]]:
    storage = services.storage
    storage.check()
    name = _probe_name(services)
    with storage.upload(name, content_type="text/plain") as upload:
        upload.write(_PROBE)
        stored = upload.commit()
    try:
        if stored.size != len(_PROBE) or storage.stat(name) != stored:
            yield "wrong", "An object was written, and what the storage says of it differs from what was written."
        else:
            yield "ok", f"{services.settings.storage.kind}: an object was written, found and deleted."
    finally:
        deleted = storage.delete(name, generation=stored.generation)
    if not deleted:
        yield "wrong", f"The probe {name} could not be deleted; expired files would stay for ever."


def _link(services: Services) -> Iterator[tuple[Verdict, str]]:
    """Follow a real signed link without credentials, as a partner does."""
    storage = services.storage
    name = _probe_name(services)
    with storage.upload(name, content_type="text/plain") as upload:
        upload.write(_PROBE)
        stored = upload.commit()
    try:
        link = storage.sign(
            stored, file_name="doctor.txt", content_type="text/plain", lifetime=timedelta(seconds=_LINK_SECONDS)
        )
        yield _followed(link.url, services.settings)
    finally:
        storage.delete(name, generation=stored.generation)


def _followed(url: str, settings: Settings) -> tuple[Verdict, str]:
    local = settings.storage.kind == "local"
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 -- our own link, http or https
            content = answer.read(len(_PROBE) + 1)
    except urllib.error.HTTPError as error:
        hint = "is service.public_url this service, with this secret key?" if local else "look at the signing account."
        error.close()
        return "wrong", f"A signed link was answered {error.code}; {hint}"
    except (urllib.error.URLError, OSError):
        if local:
            public = settings.service.public_url
            return (
                "warning",
                f"Nothing answers at {public} yet: start the service and look again, or set service.public_url.",
            )
        return "wrong", "A signed link could not be followed from here: the storage's address did not answer."
    if content != _PROBE:
        return "wrong", "A signed link answered with something else than the object."
    return "ok", "A signed link was followed, and gave the object."


def _destination(services: Services, name: str) -> Iterator[tuple[Verdict, str]]:
    """Do at a destination what a push does, as the first chain that may."""
    from tasks_service.destinations.pushing import probe

    settings = services.settings.destinations[name]
    destination = services.destinations.briefly(name)
    probe(destination, settings.prefix.replace("{chain}", str(settings.chains[0])))
    yield "ok", f"{destination.place}: an object was written, found and deleted."


def _disk(settings: Settings) -> Iterator[tuple[Verdict, str]]:
    for directory in sorted(set(_directories(settings))):
        free = shutil.disk_usage(_existing(directory)).free
        amount = f"{free / 1024**3:.1f} GiB free for {directory}"
        if free < _DISK_WRONG:
            yield "wrong", f"Only {amount}: exports will fail. Make room."
        else:
            yield ("warning", f"Only {amount}.") if free < _DISK_NOTED else ("ok", f"{amount}.")


def _directories(settings: Settings) -> Iterator[Path]:
    yield settings.service.state_directory
    if settings.storage.kind == "local":
        yield settings.local.directory


def _existing(directory: Path) -> Path:
    absolute = directory.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())


def _probe_name(services: Services) -> str:
    return f"{services.settings.storage.prefix}/doctor/{secrets.token_hex(8)}.txt"
