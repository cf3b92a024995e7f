"""The example configs load, and what is shipped to run them (compose.yaml, Dockerfile) fits them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.errors import Forbidden, RefusedBySyncFunction
from gateway.model.routing import Call, Verdict, Writer
from gateway.settings import Settings, SettingsError, load
from gateway.syncfn.runtime import SyncFunction

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "config").glob("*.yaml"))
NEEDED = {
    "couchdb.yaml": {"COUCHDB_PASSWORD": "relax-1", "OPS_PASSWORD": "relax-2"},
    "embedded.yaml": {"ANN_PASSWORD": "relax-3", "BOB_PASSWORD": "relax-4"},
    "demo.yaml": {},
}


def config(name: str) -> Settings:
    return load(ROOT / "config" / name, NEEDED[name])


def test_every_config_is_known_here() -> None:
    assert {file.name for file in CONFIGS} == set(NEEDED)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_an_example_config_loads_with_its_sync_functions(file: Path) -> None:
    assert config(file.name).databases


@pytest.mark.parametrize("name", [name for name, needed in NEEDED.items() if needed])
def test_a_secret_that_is_not_set_is_asked_for_by_name(name: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load(ROOT / "config" / name, {})
    assert len(raised.value.problems) == len(NEEDED[name])
    for variable in NEEDED[name]:
        assert variable in str(raised.value)


def test_the_demo_needs_nothing_and_listens_on_this_machine_only() -> None:
    demo = config("demo.yaml")
    assert demo.upstream.embedded == ROOT / "data/demo/couch"
    assert demo.metadata == ROOT / "data/demo/metadata.db"
    for address in (demo.listen.public, demo.listen.admin, demo.listen.metrics):
        assert address is not None
        assert address.is_loopback
    retail = demo.databases["retail"]
    assert set(retail.users) == {"nora", "sam", "rita", "office"}
    assert retail.users["rita"].admin_channels == frozenset()
    assert not retail.guest.disabled


async def answers(settings: Settings, name: str, *calls: Call) -> list[Verdict]:
    database = settings.databases[name]
    function = SyncFunction(database.sync_source, name=database.sync_place)
    try:
        return await function.run(calls)
    finally:
        await function.close()


def writer(settings: Settings, database: str, name: str, *channels: str) -> Writer:
    user = settings.databases[database].users[name]
    return Writer(name, channels=user.admin_channels | set(channels), roles=user.admin_roles)


async def test_the_users_of_the_demo_may_do_what_its_sync_function_expects() -> None:
    demo = config("demo.yaml")
    order = {"_id": "order-1", "type": "order", "shop": "north-1"}
    region = {"_id": "region-north", "type": "region", "name": "north", "manager": "rita", "shops": ["north-1"]}
    product = {"_id": "product-1", "type": "product", "name": "tea"}
    by_nora, by_sam, by_office = (writer(demo, "retail", name) for name in ("nora", "sam", "office"))
    mine, not_mine, granting, listed, no_rights = await answers(
        demo,
        "retail",
        Call(order, None, by_nora),
        Call(order, None, by_sam),
        Call(region, None, by_office),
        Call(product, None, by_office),
        Call(product, None, by_nora),
    )
    retail = demo.databases["retail"]
    assert mine.error is None
    assert mine.routing.channels == retail.users["nora"].admin_channels
    assert isinstance(not_mine.error, Forbidden)
    assert granting.error is None
    assert granting.routing.roles == {("rita", "region-north")}
    assert "region-north" in retail.roles, "the role counts only if it exists"
    assert ("role:region-north", "shop:north-1") in granting.routing.grants
    assert listed.routing.channels == {"!"}
    assert isinstance(no_rights.error, Forbidden)


async def test_a_note_of_the_production_config_is_its_owners_and_those_it_is_shared_with() -> None:
    settings = config("couchdb.yaml")
    note = {"_id": "n1", "owner": "ann", "shared_with": ["bob", "cid"]}
    ann, bob = Writer("ann"), Writer("bob")
    kept, stolen, given_away, gone, not_gone = await answers(
        settings,
        "notes",
        Call(note, None, ann),
        Call(note, None, bob),
        Call({**note, "owner": "bob"}, note, ann),
        Call({"_id": "n1", "_deleted": True}, note, ann),
        Call({"_id": "n1", "_deleted": True}, note, bob),
    )
    assert kept.error is None
    assert kept.routing.channels == {"user-ann", "note-n1"}
    assert kept.routing.grants == {("ann", "user-ann"), ("bob", "note-n1"), ("cid", "note-n1")}
    assert [type(verdict.error) for verdict in (stolen, given_away, not_gone)] == [RefusedBySyncFunction] * 3
    assert gone.error is None


async def test_only_members_write_in_the_embedded_config() -> None:
    settings = config("embedded.yaml")
    bob = writer(settings, "club", "bob", "members")
    for_all, for_board, by_guest, gone, kept = await answers(
        settings,
        "club",
        Call({"_id": "a"}, None, bob),
        Call({"_id": "b", "channels": ["board"]}, None, bob),
        Call({"_id": "c"}, None, Writer(None)),
        Call({"_id": "a", "_deleted": True}, {"_id": "a"}, bob),
        Call({"_id": "b", "_deleted": True}, {"_id": "b", "channels": ["board"]}, bob),
    )
    assert for_all.routing.channels == settings.databases["club"].roles["member"].admin_channels
    assert for_board.routing.channels == settings.databases["club"].roles["board"].admin_channels
    assert isinstance(by_guest.error, Forbidden)
    assert gone.error is None
    assert isinstance(kept.error, RefusedBySyncFunction), "bob cannot see what is the board's"


def test_the_production_config_has_no_secret_in_it() -> None:
    text = (ROOT / "config/couchdb.yaml").read_text(encoding="utf-8")
    for password in re.findall(r"password: *(.*?)[},\n]", text):
        assert password.startswith('"${'), password


def compose() -> dict[str, Any]:
    with (ROOT / "compose.yaml").open(encoding="utf-8") as file:
        content = yaml.safe_load(file)
    assert isinstance(content, dict)
    return content


class TestCompose:
    def test_only_the_public_port_of_the_gateway_is_published(self) -> None:
        services = compose()["services"]
        assert services["gateway"]["ports"] == ["${PUBLIC_PORT:-4984}:4984"]
        assert [name for name, service in services.items() if "ports" in service] == ["gateway"]
        assert not any("network_mode" in service for service in services.values())

    def test_couchdb_is_on_the_internal_network_only(self) -> None:
        content = compose()
        assert content["services"]["couchdb"]["networks"] == ["inside"]
        assert content["networks"]["inside"] == {"internal": True}
        assert content["services"]["couchdb"]["image"] == "couchdb:3.5"

    def test_each_service_is_watched_and_the_gateway_waits_for_couchdb(self) -> None:
        services = compose()["services"]
        assert "http://127.0.0.1:4984/_up" in services["gateway"]["healthcheck"]["test"][-1]
        assert services["gateway"]["healthcheck"]["test"][:3] == ["CMD", "python", "-c"]
        compile(services["gateway"]["healthcheck"]["test"][3], "healthcheck", "exec")
        assert services["couchdb"]["healthcheck"]["test"][-1] == "http://127.0.0.1:5984/_up"
        assert services["gateway"]["depends_on"] == {"couchdb": {"condition": "service_healthy"}}

    def test_what_must_last_is_on_a_volume(self) -> None:
        content = compose()
        mounted = {mount.split(":")[0] for service in content["services"].values() for mount in service["volumes"]}
        assert set(content["volumes"]) <= mounted
        assert "couchdb-data:/opt/couchdb/data" in content["services"]["couchdb"]["volumes"]
        assert "gateway-data:/data" in content["services"]["gateway"]["volumes"]

    def test_secrets_must_be_set_and_say_so(self) -> None:
        for service in compose()["services"].values():
            for name, value in service["environment"].items():
                if name.endswith("PASSWORD"):
                    assert re.fullmatch(rf"\$\{{{name}:\?set {name}, .+\}}", value), value

    def test_the_gateway_is_given_what_its_config_asks_for(self) -> None:
        given = compose()["services"]["gateway"]["environment"]
        asked = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "config/couchdb.yaml").read_text(encoding="utf-8"))) - {"NAME"}
        assert set(given) <= asked
        assert set(NEEDED["couchdb.yaml"]) <= set(given)

        settings = load(ROOT / "config/couchdb.yaml", {**given, **NEEDED["couchdb.yaml"], "COUCHDB_USER": "admin"})
        assert settings.upstream.url == "http://couchdb:5984"
        assert settings.listen.public == ("0.0.0.0", 4984)  # noqa: S104 (inside its container)
        assert settings.listen.admin is not None
        assert settings.listen.admin.is_loopback
        assert settings.metadata == Path("/data/metadata.db")


class TestTheImage:
    def lines(self) -> list[str]:
        text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
        return [line for line in text.splitlines() if line and not line.startswith("#")]

    def test_it_does_not_run_as_root(self) -> None:
        users = [line for line in self.lines() if line.startswith("USER ")]
        assert users == ["USER gateway"]
        assert self.lines().index("USER gateway") < next(
            number for number, line in enumerate(self.lines()) if line.startswith("ENTRYPOINT")
        )

    def test_it_copies_only_what_is_there_and_not_ignored(self) -> None:
        kept = [
            line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"
        ]
        for line in self.lines():
            if line.startswith("COPY ") and "--from" not in line:
                for source in line.split()[1:-1]:
                    assert source in kept, source
                    assert (ROOT / source).exists(), source

    def test_it_serves_a_config_that_it_holds(self) -> None:
        [command] = [line for line in self.lines() if line.startswith("CMD ")]
        path = re.search(r'"/etc/couch-gateway/(config/\w+\.yaml)"', command)
        assert path
        assert (ROOT / path[1]).exists()
