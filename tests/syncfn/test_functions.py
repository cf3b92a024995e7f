"""The ready-made functions of sync_functions/ do what their comments say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RefusedBySyncFunction
from gateway.model.routing import ADMIN, NO_ROUTING, Routing, Verdict, Writer
from gateway.syncfn.default import DEFAULT_SYNC_FUNCTION
from tests.syncfn.asking import GUEST, Quick

FOLDER = Path(__file__).parents[2] / "sync_functions"


def load(name: str) -> Quick:
    return Quick((FOLDER / f"{name}.js").read_text(encoding="utf-8"))


BY_CHANNELS, DEFAULT = load("by_document_channels"), Quick(DEFAULT_SYNC_FUNCTION)
PRIVATE, RETAIL = load("private_and_shared"), load("retail_chain")


def refused(verdict: Verdict) -> bool:
    assert verdict.error is None or isinstance(verdict.error, RefusedBySyncFunction), verdict
    return verdict.error is not None


def route(verdict: Verdict) -> Routing:
    assert verdict.error is None, verdict
    return verdict.routing


# ---- by_document_channels


@given(
    st.one_of(st.none(), st.integers(), st.text(max_size=5), st.lists(st.sampled_from(["a", "!", "*", "", 1, None])))
)
def test_the_file_is_the_default(channels: Any) -> None:
    file, default = BY_CHANNELS({"channels": channels}), DEFAULT({"channels": channels})
    assert (file.routing, repr(file.error)) == (default.routing, repr(default.error))


# ---- private_and_shared

ANN, BOB, EDITOR = Writer("ann"), Writer("bob"), Writer("eve", roles=frozenset({"editor"}))
ANNS, BOBS, COMMON = {"owner": "ann"}, {"owner": "bob"}, {"shared": True}
DELETED = {"_deleted": True}


def test_a_private_document_is_in_its_owners_channel_which_the_owner_gets() -> None:
    assert route(PRIVATE(ANNS, writer=ANN)) == Routing(frozenset({"private:ann"}), frozenset({("ann", "private:ann")}))


def test_a_common_document_is_public() -> None:
    assert route(PRIVATE(COMMON, writer=EDITOR)) == Routing(frozenset({"!"}))


@pytest.mark.parametrize(
    ("old", "new", "writers"),
    [
        (None, ANNS, [ANN]),
        (ANNS, {**ANNS, "changed": 1}, [ANN]),
        (ANNS, DELETED, [ANN]),
        (ANNS, BOBS, []),
        (ANNS, COMMON, []),
        (None, COMMON, [EDITOR]),
        (COMMON, DELETED, [EDITOR]),
        (COMMON, ANNS, []),
        ({"_deleted": True}, ANNS, [ANN]),
    ],
)
def test_only_these_may_write(old: Any, new: Any, writers: list[Writer]) -> None:
    allowed = [writer for writer in (ANN, BOB, EDITOR, GUEST) if not refused(PRIVATE(new, old, writer=writer))]
    assert allowed == writers
    assert not refused(PRIVATE(new, old, writer=ADMIN))


def test_an_editor_may_also_make_his_own_document_common() -> None:
    assert not refused(PRIVATE(COMMON, {"owner": "eve"}, writer=EDITOR))


@pytest.mark.parametrize(
    "unclear", [{}, {"owner": ""}, {"owner": ["ann", "bob"]}, {"shared": "true"}, {"owner": "ann", "shared": True}]
)
def test_a_document_that_is_neither_private_nor_common_is_refused(unclear: Any) -> None:
    for writer in (ANN, EDITOR, ADMIN):
        assert refused(PRIVATE(unclear, writer=writer))


# ---- retail_chain

NORA = Writer("nora", channels=frozenset({"shop:north-1", "!"}))
SAM = Writer("sam", channels=frozenset({"shop:south-1", "!"}))
RITA = Writer("rita", channels=frozenset({"shop:north-1", "shop:north-2", "!"}), roles=frozenset({"region-north"}))
OFFICE = Writer("office", channels=frozenset({"*"}), roles=frozenset({"head_office"}))
EVERYBODY = {"nora": NORA, "sam": SAM, "rita": RITA, "office": OFFICE, "guest": GUEST}

ORDER, STOCK = {"type": "order", "shop": "north-1"}, {"type": "stock", "shop": "north-1"}
PRODUCT = {"type": "product", "name": "tea"}
REGION = {"type": "region", "name": "north", "manager": "rita", "shops": ["north-1", "north-2"]}


def test_orders_and_stock_are_in_their_shops_channel() -> None:
    for doc in (ORDER, STOCK):
        assert route(RETAIL(doc)) == Routing(frozenset({"shop:north-1"}))


def test_products_are_public() -> None:
    assert route(RETAIL(PRODUCT)) == Routing(frozenset({"!"}))


def test_a_region_gives_its_manager_a_role_and_the_role_its_shops() -> None:
    channels = ("region:north", "shop:north-1", "shop:north-2")
    assert route(RETAIL(REGION)) == Routing(
        frozenset({"region:north"}),
        frozenset(("role:region-north", channel) for channel in channels),
        frozenset({("rita", "region-north")}),
    )


def test_a_region_may_be_without_a_manager() -> None:
    assert route(RETAIL({"type": "region", "name": "north", "shops": []})).roles == frozenset()


@pytest.mark.parametrize(
    ("old", "new", "writers"),
    [
        (None, ORDER, ["nora", "rita"]),
        (None, STOCK, ["nora", "rita"]),
        (ORDER, {**ORDER, "total": 5}, ["nora", "rita"]),
        (ORDER, {**ORDER, "shop": "north-2"}, ["rita"]),
        (ORDER, {**ORDER, "shop": "south-1"}, []),
        (ORDER, {**PRODUCT}, []),
        (ORDER, DELETED, ["nora", "rita"]),
        (ORDER, {"_deleted": True, "type": "order", "shop": "south-1"}, ["nora", "rita"]),
        ({"_deleted": True}, ORDER, ["nora", "rita"]),
        (None, PRODUCT, ["office"]),
        (PRODUCT, DELETED, ["office"]),
        (PRODUCT, ORDER, []),
        (None, REGION, ["office"]),
        (REGION, {**REGION, "manager": "nora"}, ["office"]),
        (REGION, DELETED, ["office"]),
    ],
)
def test_only_these_may_write_in_the_chain(old: Any, new: Any, writers: list[str]) -> None:
    allowed = [name for name, writer in EVERYBODY.items() if not refused(RETAIL(new, old, writer=writer))]
    assert allowed == writers
    assert not refused(RETAIL(new, old, writer=ADMIN))


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"type": "secret"},
        {"type": ["order"], "shop": "north-1"},
        {"type": "order"},
        {"type": "order", "shop": ["north-1"]},
        {"type": "stock", "shop": ""},
        {"type": "stock", "shop": "north-1,south-1"},
        {**REGION, "name": None},
        {**REGION, "shops": "north-1"},
        {**REGION, "shops": ["north-1", 5]},
        {**REGION, "manager": ["rita"]},
    ],
)
def test_a_document_that_makes_no_sense_is_refused_for_everybody(wrong: Any) -> None:
    for writer in (*EVERYBODY.values(), ADMIN):
        assert refused(RETAIL(wrong, writer=writer))


def test_a_deleted_document_grants_nothing_and_is_routed_without_its_past() -> None:
    for old in (ORDER, REGION, PRODUCT, None, {"_deleted": True}):
        assert route(RETAIL(DELETED, old)) == NO_ROUTING
