"""Documents of the demo, the same at every start: products, regions, and each shop's orders and stock."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

REGIONS = {
    "north": ("rita", ["north-1", "north-2", "north-3"]),
    "south": ("theo", ["south-1", "south-2", "south-3"]),
}
SHOPS = [shop for _, shops in REGIONS.values() for shop in shops]
PRODUCTS_COUNT = 120
STOCK_COUNT = 60  # products that one shop has
ORDERS_COUNT = 250  # of one shop

_KINDS = ["Kettle", "Lamp", "Chair", "Mug", "Notebook", "Umbrella", "Backpack", "Blanket", "Clock", "Scarf"]
_STYLES = ["Oak", "Copper", "Linen", "Blue", "Nordic", "Classic", "Tiny", "Grand", "Garden", "Travel", "Felt", "Glass"]
_CUSTOMERS = ["Ada", "Ben", "Carla", "Dmitri", "Elif", "Femi", "Greta", "Hugo", "Ines", "Jan", "Kei", "Lou"]


def documents() -> Iterator[dict[str, Any]]:
    """Every document, grants first."""
    chance = random.Random(1984)  # noqa: S311 - the same demo everywhere, nothing secret
    for region, (manager, shops) in REGIONS.items():
        yield {"_id": f"region:{region}", "type": "region", "name": region, "manager": manager, "shops": shops}
    products = [_product(number, chance) for number in range(1, PRODUCTS_COUNT + 1)]
    yield from products
    for shop in SHOPS:
        for product in chance.sample(products, STOCK_COUNT):
            sku = product["sku"]
            count = chance.randint(0, 40)
            yield {"_id": f"stock:{shop}:{sku}", "type": "stock", "shop": shop, "sku": sku, "count": count}
        for number in range(1, ORDERS_COUNT + 1):
            yield _order(shop, number, products, chance)


def _product(number: int, chance: random.Random) -> dict[str, Any]:
    style, kind = _STYLES[(number - 1) // len(_KINDS)], _KINDS[(number - 1) % len(_KINDS)]
    sku = f"{kind[:2].upper()}{style[:2].upper()}-{number:03}"
    price = chance.randint(4, 120) + 0.95
    return {"_id": f"product:{sku}", "type": "product", "sku": sku, "name": f"{style} {kind}", "price": price}


def _order(shop: str, number: int, products: list[dict[str, Any]], chance: random.Random) -> dict[str, Any]:
    lines = [
        {"sku": product["sku"], "quantity": chance.randint(1, 3), "price": product["price"]}
        for product in chance.sample(products, chance.randint(1, 4))
    ]
    opened = datetime(2026, 9, 1, 9, tzinfo=UTC)
    return {
        "_id": f"order:{shop}:{number:05}",
        "type": "order",
        "shop": shop,
        "customer": chance.choice(_CUSTOMERS),
        "placed_at": (opened + timedelta(minutes=chance.randint(0, 80 * 24 * 60))).isoformat(),
        "lines": lines,
        "total": round(sum(line["quantity"] * line["price"] for line in lines), 2),
    }
