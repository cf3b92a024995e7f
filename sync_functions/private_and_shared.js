// Each user's own data, plus data common to all, in one database: in place of one database for each user.
//
//   {"owner": "ann", …}     private: only ann reads and writes it
//   {"shared": true, …}     common: everybody who may log in reads it, only the role `editor` writes it
//
// A document must be one of the two. One that forgets to say is refused rather than shown to all or to nobody.
//
// Roles to create, in the configuration or by the admin API:
//   editor     may write common documents
//   analyst    with admin_channels: ["*"] reads every document of every user, and writes none of them
function (doc, oldDoc, meta) {
  // A deletion carries no more than the id; what it may do depends on the document that it deletes.
  const before = oldDoc && !oldDoc._deleted ? oldDoc : null;
  const after = doc._deleted ? null : doc;

  // The writer needs the right to the document as it was and as it will be, so nobody takes over another's document,
  // gives his own to somebody else, or makes a private one common without being an editor.
  if (before) requireRightTo(before);
  if (after) {
    requireRightTo(after);
    route(after);
  }

  function requireRightTo(it) {
    if (it.shared === true && it.owner === undefined) {
      requireRole("editor");
    } else if (typeof it.owner === "string" && it.owner !== "" && it.shared !== true) {
      requireUser(it.owner);
    } else {
      throw({forbidden: 'a document needs either "owner": a user\'s name, or "shared": true'});
    }
  }

  function route(it) {
    if (it.shared === true) {
      channel("!"); // the public channel: everybody has it
    } else {
      channel("private:" + it.owner);
      // The owner gets the channel with the first document of his own; nobody has to set it up.
      access(it.owner, "private:" + it.owner);
    }
  }
}
