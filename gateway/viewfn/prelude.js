// What the functions of a design document find around them. Evaluated once in each fresh context, with the limits; its
// answer is the entry: `define` takes the functions, then `map`, `reduce`, `rereduce`, `filter`, `emits`, `update` and
// `validate` answer one JSON text each.
//
// Unlike a sync function, a design document's functions share one context from document to document, as in CouchDB:
// only administrators write them. All that they can reach here is language and the API below.
(function (limits) {
  "use strict";

  const { Array, Error, InternalError, JSON, Object, RangeError, String } = globalThis;
  const global = globalThis;
  const compile = global.eval; // called by another name it compiles in the global scope
  const MakeFunction = global.Function;

  let maps = [];
  let reduces = [];
  let designs = []; // {id, place, made}: design documents whose other functions are called, made at their first call
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

  // ---- require(): modules are strings in the design document; map functions see `views.lib` alone -------------

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

  function requireFrom(place, root) {
    return function require(path) {
      path = String(path);
      const found = find(path, path.startsWith(".") && place !== null ? place : root);
      if (typeof found.value !== "string") throw new Error("require(): " + path + " is no string");
      const module = { id: found.id, parent: found.parent, exports: {} };
      const run = new MakeFunction("module", "exports", "require", found.value);
      run.call(global, module, module.exports, requireFrom(found, root));
      return module.exports;
    };
  }

  // ---- the functions ------------------------------------------------------------------------------------------

  function made(source) {
    const found = compile("(" + source.trim().replace(/;+$/, "") + "\n)");
    if (typeof found !== "function") throw new Error("Expression does not eval to a function. (" + source + ")");
    return found;
  }

  function rootOf(value) {
    return { value, parent: null, id: "" };
  }

  // The function at a path of names in a design document, with `require` for all of it.
  function member(design, path) {
    const known = design.made[path];
    if (known !== undefined) return known;
    let source = design.place.value;
    for (const name of JSON.parse(path)) source = Object.hasOwn(Object(source), name) ? source[name] : undefined;
    let found;
    try {
      const make = new MakeFunction("require", "return (" + String(source).trim().replace(/;+$/, "") + "\n);");
      found = make(requireFrom(null, design.place));
      if (typeof found !== "function") throw new Error("Expression does not eval to a function.");
    } catch (error) {
      survive(error, "");
      throw named("compilation_error", printed(error) + " (" + source + ")");
    }
    return (design.made[path] = found);
  }

  // Takes {lib, maps: [[name, source]…], reduces: […], designs: [[id, document]…]}; answers what does not compile, or "".
  function define(text) {
    const given = JSON.parse(text);
    if (given.lib) Object.defineProperty(global, "require", { value: requireFrom(null, rootOf({ views: { lib: given.lib } })) });
    designs = given.designs.map(([id, document]) => ({ id, place: rootOf(document), made: Object.create(null) }));
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

  function named(name, reason) {
    return Object.assign(new Fatal("named"), { said: [name, reason] });
  }

  // What a function threw: answered as an error, or logged and forgotten as CouchDB does. Reading it may run more code.
  function survive(thrown, where) {
    if (thrown === null) throw new Fatal("memory"); // the engine has not even the memory for an error (or `throw null`)
    if (thrown instanceof InternalError && thrown.message === "out of memory") throw new Fatal("memory");
    if (thrown instanceof RangeError && thrown.message === "Maximum call stack size exceeded") throw new Fatal("stack");
    if (thrown instanceof Fatal) throw thrown;
    if (thrown === "fatal_error") throw named("map_runtime_error", "function raised 'fatal_error'");
    if (Array.isArray(thrown) && thrown[0] === "fatal") throw named(printed(thrown[1]), printed(thrown[2]));
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

  // The error that CouchDB makes of what a filter throws.
  function failed(thrown) {
    survive(thrown, "");
    const object = Object(thrown);
    if (Array.isArray(thrown) && thrown[0] === "error") return named(printed(thrown[1]), printed(thrown[2]));
    if (object.error && object.reason) return named(printed(object.error), printed(object.reason));
    if (object.name) return named(printed(object.name), printed(thrown));
    return named("unnamed_error", printed(thrown));
  }

  let request = ["", null]; // the text of the last one, and its value: a feed asks about many documents

  function filter(path, doc, req) {
    if (request[0] !== req) request = [req, JSON.parse(req)];
    const run = member(designs[0], path);
    try {
      return { passes: Boolean(run.call(designs[0].place.value, JSON.parse(doc), request[1])) };
    } catch (thrown) {
      throw failed(thrown);
    }
  }

  // Whether a map function emits anything.
  function emits(path, doc) {
    const run = member(designs[0], path);
    emitted = [];
    try {
      run.call(undefined, JSON.parse(doc));
      return { passes: emitted.length > 0 };
    } catch (thrown) {
      throw failed(thrown);
    } finally {
      emitted = null;
    }
  }

  // `{doc, response}`, both as the function returned them; a text is the body of a response.
  function update(path, doc, req) {
    const run = member(designs[0], path);
    try {
      const result = run.call(designs[0].place.value, JSON.parse(doc), JSON.parse(req));
      const response = typeof result[1] === "string" ? { body: result[1] } : result[1];
      if (typeof response !== "object" || response === null || Array.isArray(response)) {
        throw ["error", "render_error", "undefined response from update function"];
      }
      return { doc: result[0], response };
    } catch (thrown) {
      const error = failed(thrown);
      const object = Object(thrown);
      if (Array.isArray(thrown) || (object.error && object.reason)) throw error;
      throw named("render_error", "function raised error: " + printed(thrown) + " \nstacktrace: " + printed(object.stack));
    }
  }

  // What the first `validate_doc_update` says that does not take the document: what it threw, or how it failed.
  function validate(doc, old, user, security) {
    for (const design of designs) {
      const run = member(design, '["validate_doc_update"]');
      const given = [doc, old, user, security].map((text) => JSON.parse(text));
      try {
        run.apply(design.place.value, given);
      } catch (thrown) {
        survive(thrown, " with doc._id " + given[0]._id);
        if (Object(thrown).name && Object(thrown).stack) return { failed: [printed(thrown.name), printed(thrown)] };
        if (thrown !== 1 && thrown !== true) return { refused: JSON.parse(text(thrown)) };
      }
    }
    return {};
  }

  function answer(kind, ...args) {
    logs = [];
    let said;
    try {
      if (kind === "map") said = map(args[0]);
      else if (kind === "filter") said = filter(...args);
      else if (kind === "emits") said = emits(...args);
      else if (kind === "update") said = update(...args);
      else if (kind === "validate") said = validate(...args);
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
