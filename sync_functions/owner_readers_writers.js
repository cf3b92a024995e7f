// A document names who may read and write it: shared notes, files, small projects.
//
//   {"owner": "ann", "readers": ["bob"], "writers": ["eve"], …}
//
//   owner                reads, writes, says who else may, deletes
//   writers              read and write, but cannot change the owner, the readers or the writers, nor delete
//   readers              read
//
// `readers` and `writers` may be left out. Channels: each user has one of his own, "user:NAME", which he gets with the
// first document that names him. A document is in the channels of all whom it names.
//
// What an attacker with a login could try, and why it fails:
//   - read another's document: he is not named, so it is in no channel of his;
//   - name himself as owner, reader or writer of it: only the owner of the document as it was may change who is named;
//   - take over the id with a document of his own: that is a write to the document as it was, and he is not its writer;
//   - bring it in as a conflict, with a history of its own: `oldDoc` is then the revision that wins now;
//   - replace it once it is deleted: the id is free then, for a document that names him as owner. Who had read the old
//     one reads nothing of the new one, unless it names them;
//   - give a document to somebody else, to have something bad in his name: a new document's owner is its writer, and
//     an owner cannot be changed, not even by the owner himself;
//   - fill another's device with junk: naming somebody as reader is allowed, as sending him a message would be.
//     Who does not want that adds a rule here, say that both have the role of one team.
function (doc, oldDoc, meta) {
  // A deletion carries no more than the id; what it may do depends on the document that it deletes.
  const before = oldDoc && !oldDoc._deleted ? oldDoc : null;

  if (doc._deleted) {
    if (before) requireUser(before.owner);
    return; // whoever could read the document is told that it is gone
  }

  const readers = names("readers");
  const writers = names("writers");
  if (!isName(doc.owner)) throw({forbidden: 'a document needs the name of a user in "owner"'});

  if (!before) {
    requireUser(doc.owner);
  } else {
    if (doc.owner !== before.owner) throw({forbidden: "the owner of a document cannot be changed"});
    if (same("readers") && same("writers")) {
      requireUser([before.owner].concat(before.writers || []));
    } else {
      requireUser(before.owner);
    }
  }

  // The admin may write what is not allowed above; where a document is depends on the document alone.
  for (const name of [doc.owner].concat(readers, writers)) {
    channel("user:" + name);
    access(name, "user:" + name);
  }

  function names(member) {
    const list = doc[member] === undefined ? [] : doc[member];
    if (!Array.isArray(list) || !list.every(isName)) throw({forbidden: '"' + member + '" must be a list of user names'});
    return list;
  }

  function same(member) {
    return JSON.stringify(doc[member] || []) === JSON.stringify(before[member] || []);
  }

  function isName(value) {
    return typeof value === "string" && /^[^\s,:/`]+$/.test(value);
  }
}
