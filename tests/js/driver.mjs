// PouchDB and nano under remote control. Reads commands from stdin, one JSON object per line, and writes answers and
// events to stdout in the same form:
//
//   {"n": 1, "do": "open", "db": "ann", …}      →  {"n": 1, "value": …}  or  {"n": 1, "error": {name, status, …}}
//   {"n": 7, "do": "sync", …}                   →  {"n": 7, "value": null}, then {"of": 7, "event": "active", …} …
//
// Binary values are {"$base64": "…"} both ways. Ends when stdin does.
import { createInterface } from "node:readline";
import nano from "nano";
import PouchDB from "pouchdb";
import memory from "pouchdb-adapter-memory";
import find from "pouchdb-find";
import { pageFetch } from "./page.mjs";

PouchDB.plugin(memory).plugin(find);

const databases = new Map(); // by the name that commands use
const servers = new Map(); // nano's, which keep their cookies
const running = new Map(); // replications and changes feeds, by the number of their command

function send(value) {
  process.stdout.write(JSON.stringify(value, encode) + "\n");
}

function encode(key, value) {
  // A Buffer was turned into {type: "Buffer", data} before the replacer sees it.
  return value?.type === "Buffer" && Array.isArray(value.data)
    ? { $base64: Buffer.from(value.data).toString("base64") }
    : value;
}

function decode(key, value) {
  return typeof value?.$base64 === "string" ? Buffer.from(value.$base64, "base64") : value;
}

function describe(error) {
  const { name, status, statusCode, error: code, reason, message, id, rev } = error ?? {};
  return { name, status: status ?? statusCode, error: code, reason, message: message ?? String(error), id, rev };
}

function listen(number, emitter, events) {
  for (const event of events) {
    emitter.on(event, (value) => {
      const failed = value instanceof Error || event === "denied" || event === "error";
      send({ of: number, event, value: failed ? { ...describe(value?.doc ?? value), direction: value?.direction } : value });
    });
  }
  running.set(number, emitter);
  // The promise of the same emitter: its rejection is told as the event "error".
  emitter.catch?.(() => {});
}

// PouchDB waits for a random time, doubled up to ten minutes, before it tries again.
const retrying = { back_off_function: () => 50 };

function replication(command, start) {
  const { options = {} } = command;
  const emitter = start(options.retry ? { ...retrying, ...options } : options);
  listen(command.n, emitter, ["change", "paused", "active", "denied", "complete", "error"]);
  return null;
}

// Whether the live documents of a database are exactly (or with `among` at least) those of `docs`: id → members that
// the document must have; null: that it is not there.
function matches(rows, { docs, among }) {
  const held = new Map(rows.map((row) => [row.id, row.doc]));
  for (const [id, members] of Object.entries(docs)) {
    const doc = held.get(id);
    if (members === null ? doc !== undefined : doc === undefined) return false;
    for (const [name, value] of Object.entries(members ?? {})) {
      if (JSON.stringify(doc[name]) !== JSON.stringify(value)) return false;
    }
  }
  return among || rows.length === Object.values(docs).filter((members) => members !== null).length;
}

async function until(db, condition) {
  let wake = () => {};
  const feed = db.changes({ since: "now", live: true }).on("change", () => wake());
  try {
    for (;;) {
      const changed = new Promise((resolve) => { wake = resolve; });
      const { rows } = await db.allDocs({ include_docs: true, conflicts: true });
      if (matches(rows, condition)) return rows.map((row) => row.doc);
      await changed;
    }
  } finally {
    feed.cancel();
  }
}

const commands = {
  open({ db, name, options: { page, ...options } = {} }) {
    const fetch = page ? { fetch: pageFetch(page) } : {}; // as a script of that origin in a browser
    databases.set(db, new PouchDB(name, { skip_setup: true, ...fetch, ...options }));
    return null;
  },
  call({ db, method, args = [] }) {
    return databases.get(db)[method](...args);
  },
  async close({ db }) {
    await databases.get(db).close();
    databases.delete(db);
    return null;
  },
  until({ db, ...condition }) {
    return until(databases.get(db), condition);
  },
  sync(command) {
    return replication(command, (options) => databases.get(command.db).sync(databases.get(command.with), options));
  },
  push(command) {
    return replication(command, (options) => databases.get(command.db).replicate.to(databases.get(command.with), options));
  },
  pull(command) {
    return replication(command, (options) => databases.get(command.db).replicate.from(databases.get(command.with), options));
  },
  changes(command) {
    const emitter = databases.get(command.db).changes(command.options ?? {});
    listen(command.n, emitter, ["change", "complete", "error"]);
    return null;
  },
  cancel({ of }) {
    running.get(of)?.cancel();
    running.delete(of);
    return null;
  },
  // As pouchdb-authentication asks: by PouchDB's own fetch, with the cookies that all remote databases share.
  async fetch({ url, options }) {
    const response = await PouchDB.fetch(url, { credentials: "include", ...options });
    return { status: response.status, body: await response.json() };
  },
  // With `client`, the same nano each time. `method` may have a path: "db.create", "attachment.get".
  nano({ url, client, use, method, args = [] }) {
    const server = servers.get(client) ?? nano(url);
    if (client) servers.set(client, server);
    const path = method.split(".");
    const name = path.pop();
    return path.reduce((object, part) => object[part], use ? server.use(use) : server)[name](...args);
  },
};

async function answer(command) {
  try {
    send({ n: command.n, value: (await commands[command.do](command)) ?? null });
  } catch (error) {
    send({ n: command.n, error: describe(error) });
  }
}

// PouchDB asks its remote for `info()` beside each checkpoint and looks at nothing but success (finishBatch in
// pouchdb-replication): a connection that breaks right then is a rejection that nobody handles. A browser notes it on its
// console, Node would end. What else nobody handles is a defect, here or there, and does end this process.
process.on("unhandledRejection", (error) => {
  if (error?.name !== "FetchError" || error.type !== "system") throw error;
  console.error(`unhandled, as in a browser: ${error.message}`);
});

createInterface({ input: process.stdin })
  .on("line", (line) => answer(JSON.parse(line, decode)))
  .on("close", () => process.exit(0));
