// What the functions of a design document find around them. Evaluated once in each fresh context, with the limits; its
// answer is the entry: `define` takes the functions, then `map`, `reduce` and `rereduce` answer one JSON text each.
//
// Unlike a sync function, a view's functions share one context from document to document, as in CouchDB: only
// administrators write them. All that they can reach here is language and the API below.
(function (limits) {
  "use strict";

  const { Array, Error, InternalError, JSON, Object, RangeError, String } = globalThis;
  const global = globalThis;
  const compile = global.eval; // called by another name it compiles in the global scope
  const MakeFunction = global.Function;

  let maps = [];
  let reduces = [];
  let library = null;
  let emitted = null; // what the function at hand emitted; null between two
  let logs = [];

  class Fatal extends Error {}

  // ---- the API ------------------------------------------------------------------------------------------------

  function emit(key, value) {
    if (emitted === null) throw new Error("emit() works only while a map function runs");
    emitted.push([key, value]);
  }

  function sum(values) {
    let total = 0;
    for (let i = 0; i < values.length; i++) total += values[i];
    return total;
  }

  function log(message) {
    if (logs.length >= limits.logs) return;
    logs.push(printed(message).slice(0, limits.log_length));
  }

  function printed(value) {
    if (typeof value === "string") return value;
    try {
      return value instanceof Error ? String(value) : String(JSON.stringify(value));
    } catch (error) {
      return "[cannot be printed]";
    }
  }

  const API = { emit, sum, log, isArray: Array.isArray, toJSON: (value) => JSON.stringify(value) };
  for (const name of Object.keys(API)) Object.defineProperty(global, name, { value: API[name] });

  // ---- require(), for map functions: modules are strings below `views.lib` ------------------------------------

  // `place` is {value, parent, id}: where a path is followed from.
  function find(path, place) {
    for (const name of path.split("/")) {
      if (name === ".") place = place.parent;
      else if (name === "..") place = place.parent && place.parent.parent;
      else {
        const inner = Object.hasOwn(Object(place.value), name) ? place.value[name] : undefined;
        if (inner === undefined) throw new Error("require(): there is no " + name + " in " + (place.id || "the design document"));
        place = { value: inner, parent: place, id: place.id ? place.id + "/" + name : name };
      }
      if (!place) throw new Error("require(): " + path + " leads out of the design document");
    }
    return place;
  }

  function requireFrom(place) {
    return function require(path) {
      path = String(path);
      const root = { value: { views: { lib: library } }, parent: null, id: "" };
      const found = find(path, path.startsWith(".") && place !== null ? place : root);
      if (typeof found.value !== "string") throw new Error("require(): " + path + " is no string");
      const module = { id: found.id, parent: found.parent, exports: {} };
      const run = new MakeFunction("module", "exports", "require", found.value);
      run.call(global, module, module.exports, requireFrom(found));
      return module.exports;
    };
  }

  // ---- the functions ------------------------------------------------------------------------------------------

  function made(source) {
    const found = compile("(" + source.trim().replace(/;+$/, "") + "\n)");
    if (typeof found !== "function") throw new Error("Expression does not eval to a function. (" + source + ")");
    return found;
  }

  // Takes {lib, maps: [[name, source]…], reduces: […]}; answers what does not compile, or "".
  function define(text) {
    const given = JSON.parse(text);
    library = given.lib;
    if (library !== null) Object.defineProperty(global, "require", { value: requireFrom(null) });
    for (const [kind, list, into] of [["map", given.maps, maps], ["reduce", given.reduces, reduces]]) {
      for (const [name, source] of list) {
        try {
          into.push(made(source));
        } catch (error) {
          return "Compilation of the " + kind + " function in the '" + name + "' view failed: " + printed(error);
        }
      }
    }
    return "";
  }

  // What a function threw: answered as an error, or logged and forgotten as CouchDB does. Reading it may run more code.
  function survive(thrown, where) {
    if (thrown === null) throw new Fatal("memory"); // the engine has not even the memory for an error (or `throw null`)
    if (thrown instanceof InternalError && thrown.message === "out of memory") throw new Fatal("memory");
    if (thrown instanceof RangeError && thrown.message === "Maximum call stack size exceeded") throw new Fatal("stack");
    if (thrown === "fatal_error") throw Object.assign(new Fatal("named"), { said: ["map_runtime_error", "function raised 'fatal_error'"] });
    if (Array.isArray(thrown) && thrown[0] === "fatal") {
      throw Object.assign(new Fatal("named"), { said: [printed(thrown[1]), printed(thrown[2])] });
    }
    log("function raised exception " + printed(thrown) + where);
  }

  function freeze(value) {
    if (typeof value !== "object" || value === null) return;
    Object.freeze(value);
    for (const name in value) freeze(value[name]);
  }

  function text(value) {
    const made = JSON.stringify(value);
    return made === undefined ? "null" : made;
  }

  // For each map function the flat list of its keys and values, as JSON texts.
  function map(doc) {
    const value = JSON.parse(doc);
    freeze(value);
    const rows = [];
    for (let i = 0; i < maps.length; i++) {
      let found = [];
      emitted = [];
      try {
        maps[i].call(undefined, value);
        for (let j = 0; j < emitted.length; j++) found.push(text(emitted[j][0]), text(emitted[j][1]));
      } catch (thrown) {
        found = [];
        survive(thrown, " with doc._id " + value._id);
      }
      emitted = null;
      rows.push(found);
    }
    return { rows };
  }

  function reduce(index, keys, values, again) {
    let value = "null";
    try {
      value = text(reduces[index].call(undefined, keys === "" ? null : JSON.parse(keys), JSON.parse(values), again));
    } catch (thrown) {
      survive(thrown, "");
    }
    // query_server_config/reduce_limit: a reduction that does not reduce would grow with the database.
    if (value.length > limits.reduce_length && value.length * 2 > keys.length + values.length) {
      const preview = value.slice(0, 100);
      return { overflow: "Reduce output must shrink more rapidly: Current output: '" + preview +
        "'... (first 100 of " + value.length + " bytes)" };
    }
    return { value };
  }

  function answer(kind, ...args) {
    logs = [];
    let said;
    try {
      if (kind === "map") said = map(args[0]);
      else said = reduce(Number(args[0]), args[1], args[2], kind === "rereduce");
    } catch (thrown) {
      if (!(thrown instanceof Fatal)) throw thrown;
      emitted = null;
      said = { error: thrown.message === "named" ? ["named", ...thrown.said] : [thrown.message] };
    }
    if (logs.length > 0) said.logs = logs;
    return JSON.stringify(said);
  }

  return (kind, ...args) => (kind === "define" ? define(args[0]) : answer(kind, ...args));
})
