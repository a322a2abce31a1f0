"""The truth of the service: its tables, and every SQL statement over them.

What lives here: models.py (rows), engine.py (sessions, the one clock, retries), schema.py and migrations/
(the shape of the tables), and a module for each noun whose functions take a session and say one thing:
clients.py, tasks.py, runs.py, claims.py (a worker's view of a run), due.py (the scheduler's view of a
task). What does not: when something is due (schedule.py), who may ask (api/auth), what an export is
(export.py). No other package writes SQL over these tables.
"""
