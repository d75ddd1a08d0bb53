# SPDX-License-Identifier: Apache-2.0
"""The SQLAlchemy engine for asyncio of a view, over the view's own asyncpg connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from itest.packages import client_package, too_old
from itest.services.postgres.kept import sqlalchemy_for

if TYPE_CHECKING:
    import asyncpg
    from sqlalchemy.ext.asyncio import AsyncEngine

    from itest.services.postgres.view import PostgresView

PURPOSE = "PostgresView.aengine"


def create(view: PostgresView) -> AsyncEngine:
    """An engine that keeps no connections (NullPool), so that it may be used in any loop. What a test did not give back
    to it is closed with the view."""
    client_package("asyncpg", "asyncpg", PURPOSE)
    client_package("greenlet", "sqlalchemy", PURPOSE)  # SQLAlchemy 2.1 does not bring it by itself.
    sqlalchemy = sqlalchemy_for("asyncpg", PURPOSE)
    asynchronous = client_package("sqlalchemy.ext.asyncio", "sqlalchemy", PURPOSE)
    used: dict[asyncpg.Connection, Any] = {}

    async def connect(*args: Any, **kwargs: Any) -> asyncpg.Connection:
        connection = await view.aconnect(**kwargs)
        return view._closing_async(connection, lambda: take_back(connection), "aengine")

    async def take_back(connection: asyncpg.Connection) -> None:
        # Else SQLAlchemy would complain when the garbage collector finds it, in the middle of some other test.
        if (proxy := used.pop(connection, None)) is not None:
            await sqlalchemy.util.greenlet_spawn(proxy.invalidate)

    def checked_out(connection: Any, record: object, proxy: Any) -> None:
        used[connection.driver_connection] = proxy

    def checked_in(connection: Any, record: object) -> None:
        if connection is not None:  # None for one that was invalidated.
            used.pop(connection.driver_connection, None)

    # By a creator, because SQLAlchemy does not pass the URL's query on as asyncpg takes it.
    try:
        engine: AsyncEngine = asynchronous.create_async_engine(
            view.url_for("asyncpg"), async_creator=connect, poolclass=sqlalchemy.pool.NullPool
        )
    except TypeError as error:  # It does not know a creator.
        raise too_old(sqlalchemy, "2.0.38", "sqlalchemy", PURPOSE) from error
    sqlalchemy.event.listen(engine.sync_engine, "checkout", checked_out)
    sqlalchemy.event.listen(engine.sync_engine, "checkin", checked_in)
    return engine
