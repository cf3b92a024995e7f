// To-do lists that are shared by invitation.
//
//   {"_id": "list:ann:home", "type": "list", "owner": "ann", "title": …}                     a list
//   {"_id": "invite:ann:home:bob", "type": "invite", "list": "ann:home", "user": "bob"}      bob is invited to it
//   {"type": "item", "list": "ann:home", "text": …, "done": false}                           what is to be done
//
//   who                       reads                                   writes
//   the owner of a list       the list, its invitations and items     all of them
//   who is invited            the same                                items; deletes the own invitation, to leave
//
// The name of a list begins with its owner's: so a document says by itself, without a look at another, whose list it
// is in. Channels: "list:OWNER:NAME". The list gives it to the owner, an invitation to who is invited.
//
// What an attacker with a login could try, and why it fails:
//   - invite himself: the list's name says who may invite, and it is not he;
//   - make the list anew, with himself as owner: its id begins with the owner's name, and must be his own;
//   - keep an invitation alive under another id, or change whom it is for: its id says the list and the user;
//   - write an item into a list he is not in: that needs its channel. Move an item to his own list, to read it: that
//     needs the channel of the list which it leaves;
//   - turn an item into an invitation: the writer needs the right to the document as it was and as it will be;
//   - replace a deleted invitation: that is to invite, which only the owner may;
//   - a user called "ann:home": user names have no colon, so OWNER and NAME are told apart with certainty.
//     A list of ann's called "home:bob" would be mistaken; so a NAME has no colon either.
function (doc, oldDoc, meta) {
  // A deletion carries no more than the id; what it may do depends on the document that it deletes.
  const before = oldDoc && !oldDoc._deleted ? oldDoc : null;
  const after = doc._deleted ? null : doc;

  if (before) requireRightTo(before, after === null);
  if (after) {
    check(after);
    requireRightTo(after, false);
    route(after);
  }

  function requireRightTo(it, deleting) {
    if (it.type === "item") {
      requireAccess("list:" + it.list);
    } else if (it.type === "invite" && deleting) {
      requireUser([ownerOf(it.list), it.user]);
    } else {
      requireUser(it.type === "list" ? it.owner : ownerOf(it.list));
    }
  }

  function check(it) {
    if (it.type === "list") {
      if (!isListName(it._id.slice("list:".length)) || it._id !== "list:" + it.owner + ":" + it._id.split(":")[2]) {
        throw({forbidden: "the _id of a list must be list:OWNER:NAME"});
      }
    } else if (it.type === "invite" || it.type === "item") {
      if (!isListName(it.list)) throw({forbidden: 'a document needs the name of its list, OWNER:NAME, in "list"'});
      if (it.type === "invite" && (!isText(it.user) || it._id !== "invite:" + it.list + ":" + it.user)) {
        throw({forbidden: "the _id of an invitation must be invite:LIST:USER"});
      }
    } else {
      throw({forbidden: 'the "type" must be list, invite or item'});
    }
  }

  function route(it) {
    if (it.type === "list") {
      channel(it._id);
      access(it.owner, it._id);
    } else {
      channel("list:" + it.list);
      if (it.type === "invite") access(it.user, "list:" + it.list);
    }
  }

  function ownerOf(list) {
    return typeof list === "string" ? list.split(":")[0] : null;
  }

  function isListName(value) {
    return typeof value === "string" && /^[^:,/`\s]+:[^:,/`\s]+$/.test(value);
  }

  function isText(value) {
    return typeof value === "string" && value !== "";
  }
}
