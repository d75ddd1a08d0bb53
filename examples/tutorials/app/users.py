# SPDX-License-Identifier: Apache-2.0
"""Users: in the database, and in the cache in front of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.cache import Cache
from app.models import User


class UserRepository:
    def __init__(self, session: Session) -> None:
        self._session = session

    def create(self, email: str, name: str) -> User:
        user = User(email=email, name=name)
        self._session.add(user)
        self._session.commit()
        return user

    def find(self, id: int) -> User | None:
        return self._session.get(User, id)

    def find_by_email(self, email: str) -> User | None:
        return self._session.scalar(select(User).where(User.email == email))


class AsyncUserRepository:
    """The same over asyncpg: `pool` is a pool or a connection of it."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def create(self, email: str, name: str) -> Any:
        return await self._pool.fetchrow(
            "INSERT INTO users (email, name) VALUES ($1, $2) RETURNING id, email, name",
            email,
            name,
        )


class UserService:
    """Reads through the cache."""

    def __init__(self, session: Session, cache: Cache) -> None:
        self._users = UserRepository(session)
        self._cache = cache

    def create(self, email: str, name: str) -> dict[str, Any]:
        return _public(self._users.create(email, name))

    def get(self, id: int) -> dict[str, Any] | None:
        key = f"user:{id}"
        found = self._cache.get(key)
        if found is None and (user := self._users.find(id)) is not None:
            found = _public(user)
            self._cache.set(key, found)
        return found


def _public(user: User) -> dict[str, Any]:
    return {"id": user.id, "email": user.email, "name": user.name}
