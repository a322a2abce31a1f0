"""Which run is next: the rule by which chains share the workers, as one statement over the run table.

The chain with the fewest running runs comes first; among equals the chain that has been passed over for longest: since
its last claim (which chain_turn keeps), or since its first run became available where that was later. Within a chain
the run that has been available for longest is next; its backfills come after all of its other runs, and never take its
last place, so that what is due now need not wait for what is past.

So with `n` chains waiting, a chain that has nothing running waits for at most `n - 1` claims, one of each other
chain, however few the workers, however much the others have queued, and whatever comes later. By age alone it would
wait for all of a longer queue wherever there are not more workers than busy chains.

A chain never has more than `running_per_chain` runs going; a run whose lease has lapsed counts as going until it is
taken over, and is taken over whatever the cap. A serial run waits while another run of its task goes, runs of backfills
apart. Called by claims.py alone.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import bindparam, text
from sqlmodel import Session

from tasks_service.database.models import Instant
from tasks_service.database.statements import insert_unless_there
from tasks_service.database.turn_models import ChainTurn

# Waiting chains are found by hopping through the index run_queued, one step a chain, and each chain's head
# by one look into it: the statement costs the number of chains that wait, not the number of runs. States
# are literals, not parameters: only so may SQLite use a partial index.
_FAIREST = text(
    """
    WITH RECURSIVE busy AS (
        SELECT chain, count(*) AS running FROM run WHERE state = 'running' GROUP BY chain
    ), waiting (chain) AS (
        SELECT min(chain) FROM run WHERE state = 'queued'
        UNION ALL
        SELECT (SELECT min(run.chain) FROM run WHERE run.state = 'queued' AND run.chain > waiting.chain)
        FROM waiting WHERE waiting.chain IS NOT NULL
    ), head AS MATERIALIZED (
        SELECT waiting.chain, coalesce(busy.running, 0) AS running, coalesce((
            SELECT run.id FROM run
            WHERE run.state = 'queued' AND run.chain = waiting.chain AND run.available_at <= :now
            AND run.backfill_id IS NULL AND (
                NOT run.serial OR NOT EXISTS (
                    SELECT 1 FROM run AS other
                    WHERE other.task_id = run.task_id AND other.state = 'running' AND other.backfill_id IS NULL
                )
            )
            ORDER BY run.available_at, run.id LIMIT 1
        ), (
            SELECT run.id FROM run
            WHERE run.state = 'queued' AND run.backfill_id IS NOT NULL AND run.chain = waiting.chain
            AND run.available_at <= :now AND coalesce(busy.running, 0) < :backfills_per_chain
            ORDER BY run.available_at, run.id LIMIT 1
        )) AS run_id
        FROM waiting LEFT JOIN busy ON busy.chain = waiting.chain
        WHERE waiting.chain IS NOT NULL AND coalesce(busy.running, 0) < :running_per_chain
    ), candidate AS (
        SELECT chain, running, run_id FROM head WHERE run_id IS NOT NULL
        UNION ALL
        SELECT run.chain, busy.running - 1, run.id FROM run JOIN busy ON busy.chain = run.chain
        WHERE run.state = 'running' AND run.lease_until <= :now
    )
    SELECT run.id FROM candidate JOIN run ON run.id = candidate.run_id
    LEFT JOIN chain_turn ON chain_turn.chain = candidate.chain
    ORDER BY candidate.running,
        CASE WHEN chain_turn.claimed_at > run.available_at THEN chain_turn.claimed_at ELSE run.available_at END,
        run.available_at, run.id
    LIMIT 1
    """
).bindparams(bindparam("now", type_=Instant()))

_CLAIM_LOCK = 0x636C61696D


def fairest(session: Session, *, now: datetime, running_per_chain: int) -> int | None:
    """Return the id of the run to be carried out next; None where there is none."""
    # One place stays free for what is not a backfill, where there is more than one.
    caps = {"running_per_chain": running_per_chain, "backfills_per_chain": max(running_per_chain - 1, 1)}
    found = session.connection().execute(_FAIREST, {"now": now, **caps})
    return found.scalar_one_or_none()


def note_turn(session: Session, chain: int, *, now: datetime) -> None:
    """Note that a run of the chain is claimed: every other chain that waits goes before its next one."""
    statement = insert_unless_there(session.get_bind().dialect, ChainTurn).values(chain=chain, claimed_at=now)
    session.connection().execute(statement.on_conflict_do_update(index_elements=["chain"], set_={"claimed_at": now}))


def one_claim_at_a_time(session: Session) -> bool:
    """Let claims pass one by one until the end of the transaction.

    Tell whether others may have passed meanwhile.

    Caps and fairness are facts about many rows, so row locks cannot guard them. A claim takes a few
    milliseconds and an export seconds: one lock serves hundreds of workers. SQLite has one writer at a time
    anyway.
    """
    if session.get_bind().dialect.name != "postgresql":
        return False
    session.connection().execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CLAIM_LOCK})
    return True
