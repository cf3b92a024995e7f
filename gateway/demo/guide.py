"""What the demo prints: lines to paste, for two users."""

from __future__ import annotations

from gateway.demo.data import ORDERS_COUNT, PRODUCTS_COUNT, SHOPS


def guide(public: str, admin: str, database: str, count: int) -> str:
    """`public` and `admin` are the listeners' addresses as `host:port`."""
    url = f"http://{{}}@{public}/{database}"
    return f"""
Couch Gateway is running: a retail chain with {len(SHOPS)} shops, {count} documents in one database.
Each shop's orders and stock are in the channel of the shop, the catalogue is public, and a document makes rita the
manager of the shops in the north.

  Nora works in the shop north-1. She sees its orders and stock, and the catalogue:
    curl "{url.format("nora:nora")}/_changes?limit=5"
    curl "{url.format("nora:nora")}/order:north-1:00001"
    curl "{url.format("nora:nora")}/order:south-1:00001"        # 403: not her shop
  Rita manages the north, through the document region:north:
    curl "{url.format("rita:rita")}"                            # doc_count: three shops
    curl "{url.format("rita:rita")}/order:north-3:00001"
  Anybody reads the {PRODUCTS_COUNT} products:
    curl "http://{public}/{database}/_all_docs?limit=3"

  The same with PouchDB (npm install pouchdb), both ways, in a shell of its own:
    node -e '
      const PouchDB = require("pouchdb")
      const shop = new PouchDB("nora")
      shop.sync("{url.format("nora:nora")}").then(() => shop.info()).then(console.log)'

  Give rita a shop in the south, and her running sync receives its {ORDERS_COUNT} orders:
    curl "http://{admin}/{database}/region:north"               # take its _rev
    curl -X PUT "http://{admin}/{database}/region:north" -H 'Content-Type: application/json' \\
      -d '{{"_rev": "…", "type": "region", "name": "north", "manager": "rita",
           "shops": ["north-1", "north-2", "north-3", "south-1"]}}'

  Why can she see that, and who else can?
    curl "http://{admin}/{database}/_access?user=rita&doc=order:north-3:00001"
    curl "http://{admin}/{database}/_access?doc=order:north-3:00001"

  What would another sync function change?
    curl -X POST "http://{admin}/{database}/_resync?preview=true" -H 'Content-Type: application/json' \\
      -d '{{"sync": "function (doc) {{ channel(doc.type); }}"}}'
    curl "http://{admin}/{database}/_resync"                       # how many documents and users
    curl "http://{admin}/{database}/_resync/channels"              # and _resync/access, _resync/documents

  Users and roles, on the admin port (this machine only):
    curl "http://{admin}/{database}/_user/rita"
    curl -X PUT "http://{admin}/{database}/_user/mia" -H 'Content-Type: application/json' \\
      -d '{{"password": "mia-secret", "admin_channels": ["shop:south-2"]}}'

Stop with Ctrl-C; the data stays, and the next start goes on with it.
"""
