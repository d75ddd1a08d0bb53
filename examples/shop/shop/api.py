# SPDX-License-Identifier: Apache-2.0
"""The shop's HTTP API. Serve it with `uvicorn --factory shop.api:create_app`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, Field
from sqlalchemy.exc import IntegrityError

from shop.models import Order, Product
from shop.orders import SoldOut, UnknownProduct
from shop.settings import Settings
from shop.shop import Shop, open_shop


class NewProduct(BaseModel):
    sku: str = Field(min_length=1)
    name: str
    price: int = Field(ge=0)
    stock: int = Field(ge=0)


class NewOrder(BaseModel):
    customer: str = Field(min_length=1)
    quantities: dict[str, Annotated[int, Field(gt=0)]] = Field(min_length=1)


def _shop(request: Request) -> Shop:
    shop: Shop = request.app.state.shop
    return shop


TheShop = Annotated[Shop, Depends(_shop)]


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; without settings, it is configured by the environment."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with open_shop(settings or Settings.from_env()) as app.state.shop:
            yield

    app = FastAPI(title="Shop", lifespan=lifespan)

    @app.get("/products")
    def list_products(shop: TheShop) -> list[dict[str, Any]]:
        return shop.catalog.items()

    @app.post("/products", status_code=201)
    def add_product(product: NewProduct, shop: TheShop) -> None:
        try:
            shop.catalog.add(Product(**product.model_dump()))
        except IntegrityError as error:
            raise HTTPException(409, f"there is a product {product.sku} already") from error

    @app.post("/orders", status_code=201)
    def place_order(order: NewOrder, shop: TheShop) -> dict[str, int]:
        try:
            return {"id": shop.order(order.customer, order.quantities)}
        except UnknownProduct as error:
            raise HTTPException(404, f"there is no product {error}") from error
        except SoldOut as error:
            raise HTTPException(409, f"not enough left of {error}") from error

    @app.get("/orders/{order_id}")
    def order_status(order_id: int, shop: TheShop) -> dict[str, str]:
        with shop.sessions() as session:
            if (order := session.get(Order, order_id)) is None:
                raise HTTPException(404, f"there is no order {order_id}")
            return {"status": order.status}

    return app
