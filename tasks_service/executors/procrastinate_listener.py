"""A worker's ear: Procrastinate's own worker loop in a thread, taking a message only while its worker is idle.

The engine does what it does well: LISTEN and NOTIFY, taking one message among many workers, heartbeats, finishing. Two
things are added where it asks its job manager for the next message. A busy worker takes none, for an idle one needs it.
And a notification that comes while the engine asks is not forgotten (it would be, until the engine's next poll). The
thread is supervised by itself: whatever ends the engine's loop, it is started again. Called by procrastinate.py.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Final

import structlog
from procrastinate import App, PsycopgConnector, exceptions
from procrastinate.jobs import Job, Notification, Status
from procrastinate.manager import JobManager, NotificationCallback
from psycopg.conninfo import make_conninfo

from tasks_service.executors.procrastinate_schema import NAMESPACE

log = structlog.stdlib.get_logger(__name__)

QUEUE: Final = "tasks-service"
TASK: Final = "wake_up"
STALLED_SECONDS: Final = 60.0
"""A worker that was not heard of for so long is dead: three of its heartbeats."""

# Messages for a later time, and what was notified while nobody listened, are found by asking.
_ASK_SECONDS = (4.0, 6.0)
_AGAIN_SECONDS = (0.5, 1.5)
_OPEN_SECONDS = 10.0
_HAND_OVER_SECONDS = 2.0
_CLOSE_SECONDS = 5.0


class Turn:
    """Whose turn it is: the engine may take a message only while the worker is idle."""

    def __init__(self) -> None:
        self.idle = asyncio.Event()
        self.taking = asyncio.Lock()
        self.finished = asyncio.Event()
        self.closed = asyncio.Event()

    async def give(self) -> None:
        """The worker found nothing to claim: its message is finished, and the next one may be taken."""
        self.finished.set()
        self.idle.set()

    async def take_back(self) -> None:
        """The worker is about to claim: no message is taken from now on."""
        self.idle.clear()
        async with self.taking:
            pass

    def close(self) -> None:
        """End for good."""
        self.closed.set()
        self.finished.set()
        self.idle.set()


class Listener:
    """One thread with one event loop; its methods may be called from any other thread."""

    def __init__(self, connection: Mapping[str, Any]) -> None:
        """Start listening."""
        logging.getLogger("procrastinate").setLevel(logging.WARNING)  # it would log each message four times
        self._conninfo = make_conninfo(**{**connection, "options": _options(connection)})
        self._woken = threading.Event()
        self._stopped = False
        self._turn = Turn()
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="wake-ups", daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        """Tell whether it can still hear anything."""
        return self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Return when a message has come, when stopped, or after so long."""
        self._hand_over(self._turn.give)
        if not self._stopped:
            self._woken.wait(seconds)
        self._hand_over(self._turn.take_back)
        self._woken.clear()

    def stop(self) -> None:
        """End every wait now and for good."""
        self._stopped = True
        self._woken.set()

    def close(self) -> None:
        """End the thread; a message in hand is passed on."""
        self.stop()
        with suppress(RuntimeError, TimeoutError):  # its loop has ended already, or hangs: the thread is a daemon
            self._loop.result(_CLOSE_SECONDS).call_soon_threadsafe(self._turn.close)
        self._thread.join(_CLOSE_SECONDS)

    def _hand_over(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a step in the loop, and go on without it where the loop does not come to it: polling suffices."""
        if not self.alive():
            return
        handed = step()
        try:
            loop = self._loop.result(_HAND_OVER_SECONDS)
            asyncio.run_coroutine_threadsafe(handed, loop).result(_HAND_OVER_SECONDS)
        except TimeoutError:
            log.warning("executor.listener_busy")
        except (RuntimeError, CancelledError):
            pass  # the loop has just ended: the next wait is that of a new listener
        finally:
            if not self.alive():
                handed.close()  # where the loop did not come to it

    async def _run(self) -> None:
        self._loop.set_result(asyncio.get_running_loop())
        while not self._turn.closed.is_set():
            try:
                await self._listen()
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 -- whatever it was, it listens again
                log.warning("executor.not_listening", error=type(error).__name__, detail=str(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._turn.closed.wait(), random.uniform(*_AGAIN_SECONDS))  # noqa: S311

    async def _listen(self) -> None:
        """Run the engine's worker until this listener is closed; return, too, where it gave up by itself."""
        app = App(connector=PsycopgConnector(conninfo=self._conninfo, min_size=1, max_size=2))
        app.job_manager = _Manager(app.connector, self._turn)

        async def wake_up(run_id: int) -> None:
            self._turn.finished.clear()
            self._woken.set()
            await self._turn.finished.wait()
            if self._turn.closed.is_set():  # this worker leaves: whatever there is to claim, another one may
                with suppress(exceptions.AlreadyEnqueued):
                    await app.configure_task(TASK, queue=QUEUE, queueing_lock=str(run_id)).defer_async(run_id=run_id)

        app.task(name=TASK, queue=QUEUE, retry=False)(wake_up)  # what is tried again is a run, by its own rules
        async with asyncio.timeout(_OPEN_SECONDS):
            await app.open_async()
        try:
            await self._work(app)
        finally:
            await app.close_async()

    async def _work(self, app: App) -> None:
        working = asyncio.create_task(
            app.run_worker_async(
                queues=[QUEUE],
                concurrency=1,
                delete_jobs="always",
                install_signal_handlers=False,
                fetch_job_polling_interval=random.uniform(*_ASK_SECONDS),  # noqa: S311
                update_heartbeat_interval=STALLED_SECONDS / 3,
                stalled_worker_timeout=STALLED_SECONDS,
            )
        )
        closing = asyncio.create_task(self._turn.closed.wait())
        try:
            await asyncio.wait({working, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
            if not working.done():
                working.cancel()  # the engine's way to be asked for an orderly end
            with suppress(asyncio.CancelledError):
                await working


class _Manager(JobManager):
    """The engine's job manager, that takes a message only when it is its turn."""

    def __init__(self, connector: Any, turn: Turn) -> None:  # noqa: ANN401 -- the library's, as its App types it
        super().__init__(connector)
        self._turn = turn
        self._heard = 0

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Wait for the worker to be idle, then take a message; ask again where one was announced meanwhile."""
        while not self._turn.closed.is_set():
            await self._turn.idle.wait()
            async with self._turn.taking:
                if not self._turn.idle.is_set() or self._turn.closed.is_set():
                    continue
                heard = self._heard
                job = await super().fetch_job(queues, worker_id)
                if job is not None or heard == self._heard:
                    return job
        return None

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        """Listen, and count what is heard."""

        async def heard(*, channel: str, notification: Notification) -> None:
            self._heard += 1
            await on_notification(channel=channel, notification=notification)

        await super().listen_for_jobs(on_notification=heard, queues=queues)

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:  # noqa: FBT001 -- the library's
        """Finish a message; one that cannot be is cleared away by the rescuer."""
        try:
            await super().finish_job(job, status, delete_job)
        except exceptions.ConnectorException as error:
            log.info("executor.finish_failed", error=type(error.__cause__ or error).__name__)


def _options(connection: Mapping[str, Any]) -> str:
    return f"{connection.get('options', '')} -c search_path={NAMESPACE}".strip()
