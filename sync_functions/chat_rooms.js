// Chat: rooms with members, and messages that only their writers change.
//
//   {"_id": "room:tea", "type": "room", "owner": "ann", "members": ["ann", "bob"]}                  a room
//   {"type": "message", "room": "tea", "from": "ann", "text": …, "keep_days": 7}                    a message
//
//   who                     reads                        writes
//   the owner of a room     the room and its messages    the room; messages of the own
//   members of a room       the same                     messages of their own
//   the role "moderator"    what its channels say        deletes messages and rooms
//
// Channels: "room:NAME", which the room's document gives to its members: take a member out, and his device drops the
// room at its next sync. And "is:USER", which holds no documents: a room gives it to each of its people, to prove who they
// are where a moderator may do the same (a refusal cannot be taken back, so "this user or that role" cannot be asked for
// by requireUser and requireRole; one list of channels can). For moderators create the role "moderator" with
// admin_channels ["*", "moderate"]. A message with `keep_days` expires by itself.
//
// What an attacker with a login could try, and why it fails:
//   - add himself to a room: only the owner of the room as it was writes it;
//   - make himself the owner, or take over the room's id: the same rule, and an owner cannot be changed;
//   - write into a room that he is not in, or move his message there: that needs the channel of the room;
//   - write in another's name, or change or delete another's message: "from" must be the writer, then and now;
//   - make a room out of a message, or a message with the id of a room: what a document is cannot be changed, and ids
//     tell rooms from messages;
//   - wait until a room is deleted and make it anew, to read its old messages: a deleted room can be made again by an
//     administrator alone. (Its messages are still there, and no member reads them: delete them first.)
//   - delete what is deleted, with a body that names himself as owner, and go on from there: nothing is taken from the
//     body of a deletion.
function (doc, oldDoc, meta) {
  // A deletion carries no more than the id; what it may do depends on the document that it deletes.
  const before = oldDoc && !oldDoc._deleted ? oldDoc : null;

  if (doc._deleted) {
    if (before) requireAccess(["is:" + (before.type === "room" ? before.owner : before.from), "moderate"]);
    return; // whoever could read the document is told that it is gone
  }
  if (doc.type === "room") {
    checkRoom();
    requireUser(doc.owner);
    channel(doc._id);
    for (const name of [doc.owner].concat(doc.members)) access(name, [doc._id, "is:" + name]);
  } else if (doc.type === "message") {
    checkMessage();
    requireUser(doc.from);
    requireAccess("room:" + doc.room);
    if (before) requireAccess("room:" + before.room);
    channel("room:" + doc.room);
    if (doc.keep_days !== undefined) expiry(doc.keep_days * 24 * 3600);
  } else {
    throw({forbidden: 'the "type" must be room or message'});
  }

  function checkRoom() {
    if (!/^room:[a-z0-9_-]+$/i.test(doc._id)) throw({forbidden: "the _id of a room must be room:NAME"});
    if (!isUser(doc.owner)) throw({forbidden: 'a room needs a user in "owner"'});
    if (!Array.isArray(doc.members) || !doc.members.every(isUser)) {
      throw({forbidden: 'a room needs a list of users in "members"'});
    }
    if (before && (before.type !== "room" || before.owner !== doc.owner)) {
      throw({forbidden: "the owner of a room cannot be changed"});
    }
    if (oldDoc && !before) requireAdmin(); // messages of the deleted room may still be there
  }

  function checkMessage() {
    if (/^room:/i.test(doc._id)) throw({forbidden: "the _id of a message must not begin with room:"});
    if (typeof doc.room !== "string" || !/^[a-z0-9_-]+$/i.test(doc.room)) {
      throw({forbidden: 'a message needs the name of its room in "room"'});
    }
    if (!isUser(doc.from)) throw({forbidden: 'a message needs its writer in "from"'});
    if (before && (before.type !== "message" || before.from !== doc.from)) {
      throw({forbidden: "the writer of a message cannot be changed"});
    }
    if (doc.keep_days !== undefined && !(doc.keep_days > 0 && doc.keep_days < 30)) {
      throw({forbidden: '"keep_days" must be more than 0 and less than 30'});
    }
  }

  function isUser(value) {
    return typeof value === "string" && /^[^\s,:/`]+$/.test(value);
  }
}
