// What make has installed, tried out: prints {"pouchdb": version, "found": [ids], "nano": true}.
import nano from "nano";
import PouchDB from "pouchdb";
import memory from "pouchdb-adapter-memory";
import find from "pouchdb-find";

PouchDB.plugin(memory).plugin(find);
const db = new PouchDB("installed", { adapter: "memory" });
await db.bulkDocs([{ _id: "a", shop: "north-1" }, { _id: "b", shop: "south-1" }]);
const { docs } = await db.find({ selector: { shop: "south-1" } });
await db.destroy();
console.log(JSON.stringify({
  pouchdb: PouchDB.version,
  found: docs.map((doc) => doc._id),
  nano: typeof nano("http://127.0.0.1:1").use === "function",
}));
