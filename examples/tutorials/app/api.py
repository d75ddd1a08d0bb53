# SPDX-License-Identifier: Apache-2.0
"""The HTTP API: `uvicorn --factory app.api:create_app`, with DATABASE_URL and REDIS_URL set."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import redis
from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.cache import Cache
from app.users import UserService


class NewUser(BaseModel):
    email: str
    name: str


def get_session(request: Request) -> Iterator[Session]:
    with Session(request.app.state.engine) as session:
        yield session


def get_cache(request: Request) -> Cache:
    return Cache(request.app.state.redis)


def get_mailer() -> Any:
    """What sends mail, to whom with which subject. There is none before production."""
    raise HTTPException(503, "there is no mail server")


def get_users(
    session: Annotated[Session, Depends(get_session)],
    cache: Annotated[Cache, Depends(get_cache)],
) -> UserService:
    return UserService(session, cache)


Users = Annotated[UserService, Depends(get_users)]


def create_app() -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.engine = create_engine(os.environ["DATABASE_URL"], pool_pre_ping=True)
        app.state.redis = redis.Redis.from_url(os.environ["REDIS_URL"])
        yield
        app.state.redis.close()
        app.state.engine.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/api/users", status_code=201)
    def create_user(new: NewUser, users: Users) -> dict[str, Any]:
        try:
            return users.create(new.email, new.name)
        except IntegrityError:
            raise HTTPException(400, f"the email {new.email} is taken") from None

    @app.get("/api/users/{id}")
    def get_user(id: int, users: Users) -> dict[str, Any]:
        found = users.get(id)
        if found is None:
            raise HTTPException(404, f"there is no user {id}")
        return found

    @app.post("/api/users/{id}/welcome", status_code=202)
    def welcome(
        id: int, users: Users, mail: Annotated[Any, Depends(get_mailer)]
    ) -> None:
        mail(get_user(id, users)["email"], "Welcome")

    return app
