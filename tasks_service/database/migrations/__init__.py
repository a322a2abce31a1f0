"""The revisions of the tables, run by schema.py."""
