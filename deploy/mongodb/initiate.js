// Makes the replica set, its administrator and the router's user, on the member that this is run beside. What an earlier
// run has made stays.
//
// Without a user, whoever is on the member's own machine may make the set and an administrator; after that nobody may.
const { readFileSync } = require("fs");
const { env } = process;
const secret = (name) => readFileSync(`${env.SECRETS}/${name}`, "utf8").trim();
const admin = db.getSiblingDB("admin");

function initiate() {
  // The first is to be the primary, because only there users can be made.
  const members = env.MEMBERS.split(" ").map((host, _id) => ({ _id, host, priority: _id === 0 ? 2 : 1 }));
  rs.initiate({ _id: "docs", members });
}

function makeAdministrator() {
  while (!db.hello().isWritablePrimary) sleep(200);
  admin.createUser({ user: "admin", pwd: secret("superuser"), roles: ["root"] });
}

function makeUser() {
  while (!db.hello().isWritablePrimary) sleep(200);
  admin.auth("admin", secret("superuser"));
  admin.createUser({ user: "mothership", pwd: secret("docs"), roles: [{ role: "readWrite", db: "app" }] });
}

// By their names, the errors that say that it is done.
function once(done, act) {
  try {
    act();
  } catch (error) {
    if (!done.includes(error.codeName)) throw error;
  }
}

once(["AlreadyInitialized", "Unauthorized"], initiate);
once(["Unauthorized"], makeAdministrator);
// That there is such a user has no name but its number.
once(["Location51003"], makeUser);
