"""Who asks: `Authorization: Bearer TOKEN_ID:TOKEN_SECRET`, and the scope a route wants.

What lives here: reading the header and comparing scopes. What does not: tokens themselves (database/clients.py), and
rights to a chain, which each route decides with what it was asked for (`Call.require_chain`). Called by api/routes.py.
"""

from __future__ import annotations

import re

from tasks_service.database.clients import Principal, authenticate
from tasks_service.database.engine import Database
from tasks_service.errors import ForbiddenError, NotAuthenticatedError

ADMIN = "admin"
"""The scope that includes the others."""
_BEARER = re.compile(r"bearer +([!-9;-~]{1,200}):([!-~]{1,200})", re.IGNORECASE)


def principal_of(database: Database, authorization: str | None, *, scope: str) -> Principal:
    """Return who sent this Authorization header.

    Raises NotAuthenticatedError, the same for a missing, malformed, unknown, expired or revoked token, and
    ForbiddenError where the token is good and its client lacks the scope.
    """
    found = _BEARER.fullmatch((authorization or "").strip())
    principal = authenticate(database, found[1], found[2]) if found is not None else None
    if principal is None:
        raise NotAuthenticatedError
    if scope not in principal.scopes and ADMIN not in principal.scopes:
        raise ForbiddenError(f"The token lacks the scope {scope}.")
    return principal
