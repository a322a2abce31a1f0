"""What a route's function is given and what it gives back: plain values, so that it can be called without a server.

What lives here: the context of the API (built once per process by api/__init__.py), one call of a route, one reply.
What does not: reading any of it from a request (api/routes.py) or judging it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from tasks_service.app import Services
from tasks_service.database.clients import Principal
from tasks_service.errors import Fault, ForbiddenError

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True)
class Context:
    """What every call may use.

    Attributes:
        services: the composed service.
        seats: taken by requests that wait for a run's end; a quarter of the web threads at most.
        pause: waits so many seconds.
        loops: whether each supervised loop of this process is alive, by name.
    """

    services: Services
    seats: threading.Semaphore
    pause: Callable[[float], None]
    loops: Callable[[], Mapping[str, bool]]


@dataclass(frozen=True)
class Body:
    """A request's body: the JSON value as it came, and everything about its shape that is wrong."""

    document: dict[str, Any]
    model: BaseModel | None = None
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Call:
    """One request to one route, authenticated, its path, query and body read."""

    context: Context
    principal: Principal
    path: Mapping[str, Any]
    headers: Mapping[str, str]
    parameters: BaseModel | None
    body: Body

    @property
    def services(self) -> Services:
        """The composed service."""
        return self.context.services

    def query(self, model: type[ModelT]) -> ModelT:
        """Return the query parameters as the model the route declares."""
        if not isinstance(self.parameters, model):
            raise TypeError(f"the route does not declare the query {model.__name__}")
        return self.parameters

    def content(self, model: type[ModelT]) -> ModelT:
        """Return the body as the model the route declares."""
        if not isinstance(self.body.model, model):
            raise TypeError(f"the route does not declare the body {model.__name__}")
        return self.body.model

    def require_chain(self, chain: int) -> None:
        """Raise ForbiddenError unless the token has a right to the chain."""
        if self.principal.chain is not None and self.principal.chain != chain:
            raise ForbiddenError("The token has no right to this chain; name the chain it was made for.")


@dataclass(frozen=True)
class Reply:
    """What a route answers: a JSON document (None: no body), a status and headers of its own."""

    document: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
