// What a sync function finds around it. Evaluated once in each fresh context, before any code of the function.
//
// 1. Everything that one document could use to leave something behind for the next is taken away or frozen.
// 2. The API (channel, access, require…) collects what the function says in `call`; nothing calls back into Python.
// 3. `run` takes one document as JSON texts and answers one JSON text.
//
// Since every primordial is frozen before the function is compiled, the code below may use them at any time; but by
// names of its own, since the function can still hide the global ones for as long as it looks at one document.
(function (limits) {
  "use strict";

  const {
    Array, Date, Error, InternalError, JSON, Map, Number, Object, Promise, RangeError, Reflect, Set, String, Symbol, TypeError,
  } = globalThis;
  const global = globalThis;

  let call = null; // what the function said so far about the document at hand; null between two documents
  let writerText = null; // the writer parsed last, usually the writer of the next document too
  let writer = null;

  // ---- what the function says -------------------------------------------------------------------------------

  function current() {
    if (call === null) throw new Error("the sync function's API works only while the function runs");
    return call;
  }

  // The first refusal counts, and the function cannot take it back by catching it: otherwise the routing of a document
  // would depend on who wrote it, and come out differently when the gateway routes it again.
  function refuse(kind, reason) {
    if (current().refusal === null) call.refusal = [kind, reason];
    throw kind === "unauthorized" ? { unauthorized: reason } : { forbidden: reason };
  }

  function runAway(what) {
    if (call.failure === null) call.failure = ["away", what];
    throw new Error(what);
  }

  function badName(problem, name) {
    if (call.failure === null) call.failure = ["name", problem + ": \"" + name.slice(0, 60) + "\""];
    throw new Error(problem);
  }

  // Calls visit(name) for a string or each string of an array; null and undefined stand for nothing, all else is
  // a mistake that is logged. Nested arrays are not looked into.
  function each(value, place, visit) {
    if (value === undefined || value === null) return;
    if (typeof value === "string") return void visit(value);
    if (!Array.isArray(value)) return note("warn", place + " takes strings and arrays of strings, not " + describe(value));
    for (let i = 0; i < value.length; i++) {
      const item = value[i];
      if (typeof item === "string") visit(item);
      else if (item !== undefined && item !== null) note("warn", place + " ignored " + describe(item) + " in an array");
    }
  }

  function describe(value) {
    return Array.isArray(value) ? "an array" : typeof value === "object" ? "an object" : "a " + typeof value;
  }

  function collect(set, name, most, what) {
    set.add(name);
    if (set.size > most) runAway("the sync function named more than " + most + " " + what);
  }

  function channelName(name, place) {
    if (name.length > limits.channel_length) badName("a channel name in " + place + " is too long", name);
    return name;
  }

  function principalName(name, place) {
    if (name.length > limits.principal_length) badName("a name in " + place + " is too long", name);
    return name;
  }

  function channel(...names) {
    const said = current();
    for (let i = 0; i < names.length; i++) {
      each(names[i], "channel()", (name) => {
        collect(said.channels, channelName(name, "channel()"), limits.channels, "channels");
      });
    }
  }

  // For each user a map from name to null, which is for ever, or to the ends that were said, of which the latest counts.
  function pairs(table, users, names, end, place, check) {
    each(users, place, (user) => {
      principalName(user, place);
      each(names, place, (name) => {
        check(name, place);
        let given = table.get(user);
        if (given === undefined) table.set(user, (given = new Map()));
        const ends = given.get(name);
        if (ends === null || (ends !== undefined && ends[ends.length - 1] === end)) return;
        if (end === null) given.set(name, null);
        else if (ends === undefined) given.set(name, [end]);
        else ends.push(end);
        if (end === null && ends !== undefined) return;
        call.pairs++;
        if (call.pairs > limits.grants) runAway("the sync function made more than " + limits.grants + " grants");
      });
    });
  }

  // A Date as its text, since that is what one would write in JavaScript; anything else as it is.
  function time(value) {
    if (!(value instanceof Date)) return value;
    try {
      return Reflect.apply(Date.prototype.toISOString, value, []);
    } catch {
      return null; // an invalid one
    }
  }

  // What limits a grant and is not understood refuses the write: a typo must not give access for ever.
  function endOf(more, place) {
    if (more.length === 0) return null;
    const [options] = more;
    const known = more.length === 1 && Object(options) === options && !Array.isArray(options) ? Object.keys(options) : [];
    if (known.length !== 1 || known[0] !== "expires") {
      throw new TypeError(place + " takes as its third argument nothing but {expires: when}");
    }
    const end = time(options.expires);
    if (typeof end === "number" ? Number.isFinite(end) : typeof end === "string" && end.length <= 64) return end;
    const problem = place + " got no time for `expires`: " + String(printed(end)).slice(0, 80);
    if (call.failure === null) call.failure = ["end", problem];
    throw new Error(problem);
  }

  function access(users, channels, ...more) {
    const said = current();
    pairs((said.grants ??= new Map()), users, channels, endOf(more, "access()"), "access()", channelName);
  }

  function role(users, roles, ...more) {
    const said = current();
    pairs((said.roles ??= new Map()), users, roles, endOf(more, "role()"), "role()", principalName);
  }

  function expiry(when) {
    const said = current();
    const value = time(when);
    if (typeof value !== "number" && typeof value !== "string") return;
    if (typeof value === "string" && value.length > 64) return;
    if (said.expiry[said.expiry.length - 1] !== value) said.expiry.push(value);
    if (said.expiry.length > limits.expiries) runAway("the sync function called expiry() more than " + limits.expiries + " times");
  }

  // ---- who may write ------------------------------------------------------------------------------------------

  // True when the writer is an admin, or when one of the names passes. An empty or wrong argument passes nobody.
  function allowed(names, test) {
    if (current().writer === "") return true;
    if (call.writer !== writerText) {
      writer = JSON.parse(call.writer);
      writerText = call.writer;
    }
    const list = Array.isArray(names) ? names : [names];
    for (let i = 0; i < list.length; i++) {
      const name = list[i];
      if (typeof name === "string" && test(name)) return true;
    }
    return false;
  }

  function requireUser(names) {
    if (!allowed(names, (name) => name === writer.name)) refuse("forbidden", "sg wrong user");
  }

  function requireRole(names) {
    if (!allowed(names, (name) => writer.roles.includes(name))) refuse("forbidden", "sg missing role");
  }

  function requireAccess(names) {
    if (!allowed(names, (name) => writer.channels.includes(name))) refuse("forbidden", "sg missing channel access");
  }

  function requireAdmin() {
    if (current().writer !== "") refuse("forbidden", "sg admin required");
  }

  function reject(status, message) {
    const said = current();
    if (typeof status !== "number" || !(status >= 400)) return;
    if (said.refusal === null) said.refusal = [status === 401 ? "unauthorized" : "forbidden", reasonText(message)];
  }

  function reasonText(value) {
    if (typeof value === "string") return value.slice(0, limits.log_length);
    if (typeof value === "number" || typeof value === "boolean") return String(value);
    return null;
  }

  // ---- the log ------------------------------------------------------------------------------------------------

  function note(level, ...parts) {
    const logs = current().logs;
    if (logs.length >= limits.logs) return;
    let line = level === "log" ? "" : level + ": ";
    for (let i = 0; i < parts.length && line.length <= limits.log_length; i++) line += (i ? " " : "") + printed(parts[i]);
    logs.push(line.slice(0, limits.log_length));
  }

  function printed(value) {
    if (typeof value === "string") return value;
    try {
      return value instanceof Error ? String(value) : String(JSON.stringify(value));
    } catch (error) {
      return "[cannot be printed]";
    }
  }

  function log(...parts) { note("log", ...parts); }

  const console = {
    log,
    info(...parts) { note("log", ...parts); },
    debug(...parts) { note("log", ...parts); },
    warn(...parts) { note("warn", ...parts); },
    error(...parts) { note("error", ...parts); },
  };

  const API = {
    channel, access, role, expiry, requireUser, requireRole, requireAccess, requireAdmin, reject, log, console,
  };

  // ---- nothing stays from one document to the next ------------------------------------------------------------

  const HIDDEN = [
    [][Symbol.iterator](), new Map().entries(), new Set().values(), ""[Symbol.iterator](), "".matchAll(/a/g),
    [].values().map((x) => x), Iterator.from({ next() {} }), new Uint8Array(), (function () { return arguments; })(),
    function () {}, function* () {}, async function () {}, async function* () {}, () => 0, (function* () {})(),
    (async function* () {})(), Promise,
  ];

  // Code made from text is compiled in the global scope, whose `let` and `const` would stay.
  function noCodeFromText() {
    throw new EvalError("the sync function cannot make code from text");
  }

  function closeGlobals() {
    const gone = [
      "eval", "Promise", "queueMicrotask", "WeakRef", "FinalizationRegistry", "Atomics", "SharedArrayBuffer",
      "performance", "AsyncDisposableStack",
    ];
    for (const name of gone) delete global[name];
    // Settings of the engine behind setters, which freezing would not stop.
    for (const name of ["stackTraceLimit", "prepareStackTrace", "captureStackTrace"]) delete Error[name];
    for (const kind of [function () {}, function* () {}, async function () {}, async function* () {}]) {
      const prototype = Object.getPrototypeOf(kind);
      Object.defineProperty(prototype, "constructor", { value: noCodeFromText });
    }
    noCodeFromText.prototype = Function.prototype; // so that `f instanceof Function` still answers
    Object.defineProperty(global, "Function", { value: noCodeFromText });
    for (const name of Object.keys(API)) Object.defineProperty(global, name, { value: API[name] });
  }

  // A frozen prototype keeps its heirs from having a member of the same name by assignment: `seen["constructor"] = 1`
  // would silently do nothing. As accessors the members can be shadowed again.
  function allowShadowing(prototype) {
    for (const name of Reflect.ownKeys(prototype)) {
      const { value, writable, enumerable, configurable } = Object.getOwnPropertyDescriptor(prototype, name);
      if (!writable || !configurable) continue;
      Object.defineProperty(prototype, name, {
        get() { return value; },
        set(shadow) {
          if (this === prototype || Object(this) !== this) throw new TypeError("cannot change " + String(name));
          Object.defineProperty(this, name, { value: shadow, writable: true, enumerable: true, configurable: true });
        },
        enumerable,
        configurable: false,
      });
    }
  }

  function freezeAll(roots) {
    const seen = new Set([global]);
    const waiting = [...roots];
    while (waiting.length > 0) {
      const value = waiting.pop();
      if (Object(value) !== value || seen.has(value)) continue;
      seen.add(value);
      waiting.push(Object.getPrototypeOf(value));
      const members = Object.getOwnPropertyDescriptors(value);
      for (const name of Reflect.ownKeys(members)) waiting.push(members[name].value, members[name].get, members[name].set);
      if (!ArrayBuffer.isView(value)) Object.freeze(value);
    }
  }

  closeGlobals();
  for (const prototype of [
    Object.prototype, Error.prototype, EvalError.prototype, RangeError.prototype, ReferenceError.prototype,
    SyntaxError.prototype, TypeError.prototype, URIError.prototype, InternalError.prototype, AggregateError.prototype,
  ]) allowShadowing(prototype);
  freezeAll([...Reflect.ownKeys(global).map((name) => global[name]), ...HIDDEN]);
  // All names move to the global object's prototype, so that its own members are the few that cannot move, and those
  // that the function makes by `i = 0` without `var`: finding these costs nothing then.
  const names = {};
  for (const name of Reflect.ownKeys(global)) {
    const { value, configurable } = Object.getOwnPropertyDescriptor(global, name);
    if (configurable) Object.defineProperty(names, name, { value });
  }
  Object.setPrototypeOf(global, Object.freeze(names));
  for (const name of Reflect.ownKeys(names)) delete global[name];
  const OWN = new Set(Reflect.ownKeys(global));

  // Removes what the function left in the global object. False: the context must be replaced.
  function tidy() {
    if (!Object.isExtensible(global) || Object.getPrototypeOf(global) !== names) return false;
    const left = Reflect.ownKeys(global);
    if (left.length === OWN.size) return true;
    for (const name of left) if (!OWN.has(name) && !Reflect.deleteProperty(global, name)) return false;
    return true;
  }

  // ---- one document -------------------------------------------------------------------------------------------

  // `thrown` is anything at all, and reading it may run more of the function's code, which may throw in turn.
  function failureOf(thrown) {
    try {
      if (thrown === null) return ["memory"]; // the engine has not even the memory for an error (or `throw null`)
      if (thrown instanceof InternalError && thrown.message === "out of memory") return ["memory"];
      if (thrown instanceof RangeError && thrown.message === "Maximum call stack size exceeded") return ["stack"];
      if (Object(thrown) === thrown) {
        const { forbidden, unauthorized } = thrown;
        if (forbidden !== undefined) return ["forbidden", reasonText(forbidden)];
        if (unauthorized !== undefined) return ["unauthorized", reasonText(unauthorized)];
      }
      const stack = thrown instanceof Error && typeof thrown.stack === "string" ? thrown.stack : "";
      return ["thrown", printed(thrown).slice(0, limits.log_length), stack.slice(0, 4 * limits.log_length)];
    } catch (error) {
      return ["thrown", "[cannot be printed]", ""];
    }
  }

  function outcome(said, failure) {
    const answer = {};
    const error = said.refusal ?? said.failure ?? failure;
    if (error !== null) answer.error = error;
    else {
      if (said.channels.size > 0) answer.channels = Array.from(said.channels);
      if (said.grants !== null) answer.grants = listed(said.grants);
      if (said.roles !== null) answer.roles = listed(said.roles);
      if (said.expiry.length > 0) answer.expiry = said.expiry;
    }
    if (said.logs.length > 0) answer.logs = said.logs;
    return answer;
  }

  function listed(table) {
    return Array.from(table, ([user, given]) => {
      const open = [];
      const limited = [];
      for (const [name, ends] of given) {
        if (ends === null) open.push(name);
        else limited.push([name, ends]);
      }
      return limited.length === 0 ? [user, open] : [user, open, limited];
    });
  }

  // `make` answers a new function at each call, so that neither its closure nor its own members outlive a document.
  // The texts are JSON; `oldDoc` "" is null, `writer` "" is an admin.
  function run(make, doc, oldDoc, meta, writer) {
    let failure = null;
    const said = {
      writer, channels: new Set(), grants: null, roles: null, pairs: 0, expiry: [], logs: [], refusal: null, failure: null,
    };
    try {
      const documents = [JSON.parse(doc), oldDoc === "" ? null : JSON.parse(oldDoc), meta === "{}" ? {} : JSON.parse(meta)];
      call = said;
      make()[0].apply(undefined, documents);
    } catch (thrown) {
      failure = failureOf(thrown);
    }
    call = null;
    const answer = outcome(said, failure);
    if (!tidy()) answer.spoilt = true;
    return JSON.stringify(answer);
  }

  // What is wrong with what the source made, or "".
  function check(make) {
    const made = make();
    if (made.length !== 1 || typeof made[0] !== "function") return "it must be one function";
    const kind = Object.prototype.toString.call(made[0]);
    if (kind !== "[object Function]") return "it must be a plain function, neither async nor a generator";
    if (Function.prototype.toString.call(made[0]).startsWith("class")) return "it must be a function, not a class";
    return "";
  }

  return (make, ...texts) => (texts.length === 0 ? check(make) : run(make, ...texts));
})
