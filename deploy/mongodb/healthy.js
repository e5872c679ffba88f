// Whether the member serves: it is the primary or follows one, and the router's user can log in.
const { readFileSync } = require("fs");
const { SECRETS = "/run/secrets" } = process.env;
db.getSiblingDB("admin").auth("mothership", readFileSync(`${SECRETS}/docs`, "utf8").trim());
const hello = db.hello();
quit(hello.isWritablePrimary || hello.secondary ? 0 : 1);
