// Writes gateway/mango/collation.json: ICU's root order of the characters below U+3400, asked of Node.
//   node tests/embedded/make_collation.mjs
// A newer Node may know more characters. Keys of an index that is stored already keep the order they were stored with.
import { writeFileSync } from "node:fs";

const LOCALE = "en-u-co-standard"; // ordered as the root is
const full = new Intl.Collator(LOCALE);
const base = new Intl.Collator(LOCALE, { sensitivity: "base" }); // letters only
const accent = new Intl.Collator(LOCALE, { sensitivity: "accent" }); // letters and accents
const SMALL = "abcdefghijklmnopqrstuvwxyz0123456789";

// What is ignored among letters: marks count among accents, silent characters nowhere.
const marks = [];
const silent = [];
const letters = [];
for (let code = 0; code < 0x3400; code++) {
  const one = String.fromCharCode(code);
  const plain = one.normalize("NFKD");
  if (!/\p{Assigned}/u.test(one)) continue;
  if (base.compare(one, "") === 0) {
    if (plain === one) (full.compare(one, "") === 0 ? silent : marks).push(one);
  } else if (one.normalize("NFD") === one && (plain === one || base.compare(one, plain) !== 0)) letters.push(one);
}

// Lists of what compares as equal, in order.
function grouped(list, compare) {
  const groups = [];
  for (const one of list) {
    const last = groups[groups.length - 1];
    if (last !== undefined && compare(last[0], one) === 0) last.push(one);
    else groups.push([one]);
  }
  return groups;
}

// Letters that stand for several (`æ`): between a letter and the next, and equal to that letter with something behind it.
function expansion(first, before) {
  const prefix = before.slice(-60).find((group) => base.compare(first, group[0] + "\uFFFD") < 0);
  if (prefix === undefined) return null;
  const one = groups.find((group) => base.compare(first, prefix[0] + group[0]) === 0);
  if (one !== undefined) return prefix[0] + one[0];
  for (const second of SMALL) {
    for (const third of SMALL) if (base.compare(first, prefix[0] + second + third) === 0) return prefix[0] + second + third;
  }
  return null;
}

letters.sort((a, b) => base.compare(a, b) || full.compare(a, b) || a.codePointAt(0) - b.codePointAt(0));
const groups = grouped(letters, base.compare);
const kept = [];
const expansions = {};
for (const group of groups) {
  const text = expansion(group[0], kept);
  if (text === null) kept.push(group);
  else for (const one of group) expansions[one] = one.toLowerCase() === one ? text : text.toUpperCase();
}
for (const one of Object.keys(expansions)) {
  expansions[one] = [...expansions[one]].map((inner) => expansions[inner] ?? inner).join("");
}

const onA = (a, b) => accent.compare("a" + a, "a" + b);
marks.sort((a, b) => onA(a, b) || a.codePointAt(0) - b.codePointAt(0));
const table = {
  source: `ICU ${process.versions.icu}, CLDR root collation`,
  marks: grouped(marks, onA).map((group) => group.join("")),
  silent: silent.join(""),
  expansions,
  // Each entry: characters equal but for case; or a list of such, which differ in accents.
  order: kept.map((group) => {
    const parts = grouped(group, accent.compare).map((part) => part.join(""));
    return parts.length === 1 ? parts[0] : parts;
  }),
};

function written(value) {
  if (!Array.isArray(value)) return JSON.stringify(value);
  const lines = [""];
  for (const text of value.map((entry) => JSON.stringify(entry))) {
    const last = lines.length - 1;
    if (lines[last].length + text.length > 118) lines.push(text);
    else lines[last] += (lines[last] === "" ? "" : ",") + text;
  }
  return `[\n${lines.join(",\n")}\n]`;
}

const members = Object.entries(table).map(([name, value]) => `${JSON.stringify(name)}: ${written(value)}`);
writeFileSync(new URL("../../gateway/mango/collation.json", import.meta.url), `{\n${members.join(",\n")}\n}\n`);
