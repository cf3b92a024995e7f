// `fetch` as a script has it in a browser, on a page of another origin than the server's: CORS as in
// https://fetch.spec.whatwg.org/#http-cors-protocol. What a browser would keep from the script is a TypeError here.
import PouchDB from "pouchdb";

const SIMPLE_METHODS = ["GET", "HEAD", "POST"];
const SIMPLE_HEADERS = ["accept", "accept-language", "content-language"];
const SIMPLE_TYPES = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];
const ALWAYS_READABLE = "cache-control content-language content-length content-type expires last-modified pragma".split(" ");

export function pageFetch(origin) {
  return async (url, options = {}) => {
    const method = (options.method ?? "GET").toUpperCase();
    const headers = new Headers([...(options.headers ?? [])]);
    const withCredentials = options.credentials === "include";
    const unsafe = [...headers].filter(([name, value]) => !isSimple(name, value)).map(([name]) => name); // lower case, sorted
    if (!SIMPLE_METHODS.includes(method) || unsafe.length > 0) await ask(url, origin, method, unsafe, withCredentials);
    const sent = { ...Object.fromEntries(headers), Origin: origin };
    const response = await PouchDB.fetch(url, { ...options, headers: sent });
    check(response, origin, withCredentials);
    const exposed = listed(response, "expose-headers");
    for (const name of [...response.headers.keys()]) {
      const readable = ALWAYS_READABLE.includes(name) || exposed.includes(name) || (exposed.includes("*") && !withCredentials);
      if (!readable) response.headers.delete(name);
    }
    return response;
  };
}

function isSimple(name, value) {
  return name === "content-type" ? SIMPLE_TYPES.includes(value.split(";")[0].trim()) : SIMPLE_HEADERS.includes(name);
}

async function ask(url, origin, method, names, withCredentials) {
  const headers = { Origin: origin, "Access-Control-Request-Method": method };
  if (names.length > 0) headers["Access-Control-Request-Headers"] = names.join(",");
  const response = await PouchDB.fetch(url, { method: "OPTIONS", headers });
  check(response, origin, withCredentials);
  if (!response.ok) throw new TypeError(`blocked: the preflight for ${method} ${url} is answered with ${response.status}`);
  const methods = (response.headers.get("access-control-allow-methods") ?? "").split(",").map((name) => name.trim());
  if (!SIMPLE_METHODS.includes(method) && !methods.includes(method)) throw new TypeError(`blocked: the method ${method}`);
  const allowed = listed(response, "allow-headers");
  const missing = names.filter((name) => !allowed.includes(name));
  if (missing.length > 0) throw new TypeError(`blocked: the request headers ${missing}`);
}

function check(response, origin, withCredentials) {
  const allowed = response.headers.get("access-control-allow-origin");
  if (allowed !== origin && (allowed !== "*" || withCredentials)) throw new TypeError(`blocked: the origin ${origin}`);
  if (withCredentials && response.headers.get("access-control-allow-credentials") !== "true") {
    throw new TypeError("blocked: a request with credentials");
  }
}

function listed(response, what) {
  return (response.headers.get(`access-control-${what}`) ?? "").split(",").map((name) => name.trim().toLowerCase());
}
