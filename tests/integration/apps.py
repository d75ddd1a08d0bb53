# SPDX-License-Identifier: Apache-2.0
"""Apps that tests run: they count rows of a database over connections that they keep, as apps do."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import psycopg2.pool
from fastapi import Depends, FastAPI, Response
from flask import Flask
from redis import Redis
from sqlalchemy import Engine, create_engine, text

ENV = {
    "DATABASE_URL": "{postgres.url}",
    "SQLALCHEMY_URL": "{postgres.sqlalchemy_url}",
    "REDIS_URL": "{redis.url}",
}

COUNT = "SELECT count(*), pg_backend_pid() FROM rows"
INSERT = "INSERT INTO rows DEFAULT VALUES"


def who() -> str:
    return "the real one"


def create_api() -> FastAPI:
    """On FastAPI and SQLAlchemy, connected in its lifespan."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        engine = create_engine(os.environ["SQLALCHEMY_URL"], pool_size=1)
        with Redis.from_url(os.environ["REDIS_URL"]) as cache:
            engine.connect().close()  # What is in the pool now, SQLAlchemy takes for alive until a request has failed.
            app.state.engine, app.state.cache = engine, cache
            yield {}
        engine.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/rows")
    def add() -> dict[str, int]:
        engine: Engine = app.state.engine
        with engine.begin() as connection:
            connection.execute(text(INSERT))
            rows, pid = connection.execute(text(COUNT)).one()
        return {"rows": rows, "pid": pid, "hits": app.state.cache.incr("hits")}

    @app.get("/who")
    def whoever(response: Response, name: str = Depends(who)) -> str:
        response.set_cookie("seen", "yes")
        return name

    @app.get("/boom")
    def boom() -> None:
        raise ValueError("boom")

    @app.get("/exit")
    def exit() -> None:
        print("good bye", file=sys.stderr, flush=True)
        os._exit(3)

    return app


def create_site() -> Flask:
    """On Flask and a pool of psycopg2's, connected when it is made."""
    site = Flask(__name__)
    pool = psycopg2.pool.ThreadedConnectionPool(1, 1, os.environ["DATABASE_URL"])
    cache = Redis.from_url(os.environ["REDIS_URL"])

    @site.post("/rows")
    def add() -> dict[str, Any]:
        connection = pool.getconn()
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(INSERT)
                cursor.execute(COUNT)
                rows, pid = cursor.fetchone()
        finally:
            pool.putconn(connection)
        return {"rows": rows, "pid": pid, "hits": cache.incr("hits")}

    @site.get("/boom")
    def boom() -> str:
        raise ValueError("boom")

    @site.get("/close")
    def close() -> str:
        pool.closeall()
        cache.close()
        return ""

    return site
