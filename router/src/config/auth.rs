//! Who may log in: ordered rules, users, and passing through what the servers know.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::names::{Name, Network};
use super::pool::PoolMode;
use super::secret::Secret;
use super::section::settings;
use super::value::{At, nonzero, words};

/// The verifier of a role that may log in today. Every name is qualified and every
/// operator too, so that no search path can put another one in its place.
const QUERY: &str = "SELECT rolname, rolpassword FROM pg_catalog.pg_authid \
    WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin \
    AND (rolvaliduntil IS NULL OR rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now())";

settings! {
    /// How clients log in.
    pub struct Auth {
        /// Users without a [[user]] entry log in with their PostgreSQL password; the router reads the verifier from the servers. It must be the same on all servers.
        reload passthrough: bool = true;
        /// The query that reads the verifier. `$1` is the user name. The result has the columns name and verifier. If it has no row, the router refuses the login.
        reload query: String = QUERY.to_owned();
        /// The role that runs `query`. Default: the control role.
        reload query_user: Option<Name>;
        /// Its password.
        reload query_password: Option<Secret>;
        /// The database in which it asks, on the primary of the home shard; that of the control role when it is not set.
        reload query_database: Option<Name>;
        /// How long the router caches a result of `query`.
        reload cache: Duration = Duration::from_secs(10), Duration::ZERO..=Duration::from_secs(3_600);
        /// Maximum number of cached results.
        reload cache_entries: NonZeroU32 = nonzero(10_000), nonzero(1)..=nonzero(1_000_000);
        /// Tried in order; the first that fits decides. Without any, everyone needs `scram-sha-256`. When there are some and none fits, the login is refused.
        reload rule: Vec<AuthRule>;
    }
}

settings! {
    /// One authentication rule, like a line of `pg_hba.conf`. A setting that is left out matches everything.
    pub struct AuthRule {
        /// Networks of the client.
        reload network: Vec<Network>;
        /// Whether the connection has TLS.
        reload tls: Option<bool>;
        /// Users.
        reload users: Vec<Name>;
        /// Databases, by the names that clients use.
        reload databases: Vec<Name>;
        /// What is asked of the client.
        reload method: AuthMethod;
    }
}

impl AuthRule {
    /// Does the rule speak of this login? `address` is `None` on the unix socket.
    pub fn fits(&self, address: Option<IpAddr>, tls: bool, user: &str, database: &str) -> bool {
        let named = |names: &[Name], name: &str| {
            names.is_empty() || names.iter().any(|one| one.as_str() == name)
        };
        (self.network.is_empty() || self.network.iter().any(|network| network.contains(address)))
            && self.tls.is_none_or(|wanted| wanted == tls)
            && named(&self.users, user)
            && named(&self.databases, database)
    }
}

impl Auth {
    /// What is asked of this client; the answer is complete, there is no other default.
    pub fn method(
        &self,
        address: Option<IpAddr>,
        tls: bool,
        user: &str,
        database: &str,
    ) -> AuthMethod {
        if self.rule.is_empty() {
            return AuthMethod::ScramSha256;
        }
        let rule = self
            .rule
            .iter()
            .find(|rule| rule.fits(address, tls, user, database));
        rule.map_or(AuthMethod::Reject, |rule| rule.method)
    }
}

words! {
    /// What is asked of a client.
    pub enum AuthMethod {
        /// Nothing.
        Trust = "trust",
        /// The password in clear text.
        Password = "password",
        /// PostgreSQL's old hash.
        Md5 = "md5",
        /// SCRAM-SHA-256 (RFC 7677).
        ScramSha256 = "scram-sha-256",
        /// Nobody gets in.
        Reject = "reject",
    }
}

settings! {
    /// One user with a password, or with limits, of its own.
    pub struct User {
        /// The name with which clients log in.
        reload name: At<Name>;
        /// The password of clients, also used on the servers unless `server_password` is set.
        reload password: Option<Secret>;
        /// Instead of the password: a verifier as in `pg_authid`, `SCRAM-SHA-256$...` or `md5...`.
        reload verifier: Option<Secret>;
        /// The role on the servers, when it has another name there.
        reload server_user: Option<Name>;
        /// Its password there. With a SCRAM verifier that all servers share, none is needed.
        reload server_password: Option<Secret>;
        /// In place of the pool's.
        reload pool_mode: Option<PoolMode>;
        /// In place of the pool's.
        reload pool_min: Option<u32>, 0..=100_000;
        /// In place of the pool's.
        reload pool_max: Option<NonZeroU32>, nonzero(1)..=nonzero(100_000);
        /// Clients of this user at once.
        reload max_clients: Option<NonZeroU32>, nonzero(1)..=nonzero(1_000_000);
    }
}
