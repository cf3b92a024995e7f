// Teams whose members come and go: a document says who is in a team, and members see all that belongs to the team.
//
//   {"_id": "member:red:ann", "type": "member", "team": "red", "user": "ann", "lead": true}     ann is in team red
//   {"type": "task", "team": "red", …}                                                          what the team works on
//
//   who                    reads                        writes
//   members of a team      its tasks and members        its tasks
//   leads of a team        the same                     its tasks and its members, but not who leads
//   the role "hr"          what its channels say        members and leads of all teams
//
// A membership document gives its user the role "team-TEAM", and a lead "lead-TEAM" beside it. Roles must be there before
// they count: for each team create the role "team-TEAM" with admin_channels ["team:TEAM"], and the role "lead-TEAM" with
// none; and the role "hr". Channels: "team:TEAM". Delete the membership, and its user loses the team's documents.
//
// What an attacker with a login could try, and why it fails:
//   - write a membership for himself: only leads of that team and hr write memberships;
//   - make himself lead, as a member or by help of a lead of another team: only hr writes a document with "lead": true;
//   - write a membership under another id, so that deleting the known one does not end it: the id follows from team and
//     user, there is one membership for each;
//   - turn a task into a membership, or a membership of one team into one of another: the writer needs the right to the
//     document as it was and as it will be, and a membership's id allows one team and user only;
//   - move a task into his own team to read it: that needs the role of the team which it leaves;
//   - replace a deleted membership: that is a new one, under the same rules;
//   - invent a team called "red,blue" or "*": a team is letters, digits, - and _.
function (doc, oldDoc, meta) {
  // A deletion carries no more than the id; what it may do depends on the document that it deletes.
  const before = oldDoc && !oldDoc._deleted ? oldDoc : null;
  const after = doc._deleted ? null : doc;

  if (before) requireRightTo(before);
  if (after) {
    check(after);
    requireRightTo(after);
    route(after);
  }

  function requireRightTo(it) {
    if (it.type === "task") {
      requireRole("team-" + it.team);
    } else if (it.type === "member" && it.lead !== true) {
      requireRole(["lead-" + it.team, "hr"]);
    } else {
      requireRole("hr");
    }
  }

  function check(it) {
    if (it.type !== "task" && it.type !== "member") throw({forbidden: 'the "type" must be task or member'});
    if (!isName(it.team)) throw({forbidden: 'a document needs the name of a team in "team"'});
    if (it.type === "member") {
      if (typeof it.user !== "string" || it.user === "") throw({forbidden: 'a member needs the name of a user in "user"'});
      if (it._id !== "member:" + it.team + ":" + it.user) {
        throw({forbidden: "the _id of a member must be member:TEAM:USER"});
      }
    }
  }

  function route(it) {
    channel("team:" + it.team);
    if (it.type === "member") {
      role(it.user, "role:team-" + it.team);
      if (it.lead === true) role(it.user, "role:lead-" + it.team);
    }
  }

  function isName(value) {
    return typeof value === "string" && /^[a-z0-9_-]+$/i.test(value);
  }
}
