// A chain of shops in one database. Every till, tablet and back office replicates only what concerns it.
//
//   {"type": "product", "name": …, "price": …}                                  the catalogue
//   {"type": "order",  "shop": "north-1", …}                                    what a shop sold
//   {"type": "stock",  "shop": "north-1", …}                                    what it has
//   {"type": "region", "name": "north", "manager": "rita", "shops": ["north-1", "north-2"]}
//
//   who                 reads                                          writes
//   everybody           products                                       -
//   staff of a shop     orders and stock of the shop                   the same
//   regional manager    orders and stock of all shops of the region    the same
//   head office         what its channels say, say ["*"]               products and regions
//
// A shop's staff are the users who have the channel "shop:NAME" (`admin_channels` in the configuration). A manager
// gets her shops through the role "region-NAME", which the region document gives to her: change the document, and her
// tablet receives the orders of a new shop, or loses those of a shop that went to another region, at its next sync.
// Head office is the role "head_office"; give it admin_channels: ["*"], and it reads everything.
function (doc, oldDoc, meta) {
  // A deletion carries no more than the id; what it may do depends on the document that it deletes.
  const before = oldDoc && !oldDoc._deleted ? oldDoc : null;
  const after = doc._deleted ? null : doc;

  // The writer needs the right to the document as it was and as it will be: an order moves to another shop only by
  // the hand of somebody who has both shops, and no shop makes a product out of an order.
  if (before) requireRightTo(before);
  if (after) {
    check(after);
    requireRightTo(after);
    route(after);
  }
  // Nothing else for a deletion: whoever could read the document is told that it is gone, and a deleted region
  // document grants nothing any more.

  function requireRightTo(it) {
    if (it.type === "order" || it.type === "stock") {
      requireAccess("shop:" + it.shop);
    } else {
      requireRole("head_office");
    }
  }

  function check(it) {
    if (it.type === "order" || it.type === "stock") {
      if (!isName(it.shop)) refuse("needs the name of its shop in \"shop\"");
    } else if (it.type === "region") {
      if (!isName(it.name)) refuse("needs a \"name\"");
      if (it.manager !== undefined && typeof it.manager !== "string") refuse("needs a user's name in \"manager\"");
      if (!Array.isArray(it.shops) || !it.shops.every(isName)) refuse("needs a list of shop names in \"shops\"");
    } else if (it.type !== "product") {
      throw({forbidden: "unknown type of document: " + it.type});
    }

    function refuse(problem) {
      throw({forbidden: "a document of type " + it.type + " " + problem});
    }
  }

  function route(it) {
    if (it.type === "product") {
      channel("!"); // the public channel: everybody has it
    } else if (it.type === "region") {
      const team = "role:region-" + it.name;
      channel("region:" + it.name);
      access(team, ["region:" + it.name].concat(it.shops.map((shop) => "shop:" + shop)));
      role(it.manager, team);
    } else {
      channel("shop:" + it.shop);
    }
  }

  function isName(value) {
    return typeof value === "string" && /^[a-z0-9_-]+$/i.test(value);
  }
}
