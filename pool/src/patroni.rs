//! Client for Patroni's REST API: reads the leader of a cluster and starts a switchover.
//!
//! Patroni decides with a leader lock in its DCS (etcd, Consul, …) which server may be the primary.
//! `GET /cluster` reads that store, whichever member is asked, and fails where the
//! store cannot be read. <https://patroni.readthedocs.io/en/latest/rest_api.html>
//!
//! `health::group` decides what Patroni's answer means for the choice of the primary.

use crate::http::{Request, Service, Url};
use serde::Deserialize;
use std::fmt;
use std::io;

/// The REST API of one member.
#[derive(Clone, Debug)]
pub struct PatroniClient(pub Service);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PatroniError {
    /// None came.
    #[error("ask Patroni at {url}")]
    Http {
        /// Whom.
        url: Url,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It refused, or could not.
    #[error("Patroni at {url} says: {status} {text}")]
    Said {
        /// Who.
        url: Url,
        /// HTTP's.
        status: u16,
        /// Its words.
        text: String,
    },
    /// It speaks of something else.
    #[error("what Patroni at {url} says of its cluster cannot be read")]
    Unreadable {
        /// Who.
        url: Url,
        /// Where.
        #[source]
        cause: serde_json::Error,
    },
}

/// A cluster as one member sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Cluster {
    /// All members that the DCS knows.
    #[serde(default)]
    pub members: Vec<Member>,
}

/// One server of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// Its name for Patroni.
    pub name: String,
    /// Its role in the cluster.
    pub role: MemberRole,
    /// The host of its PostgreSQL, if Patroni knows it.
    pub host: Option<String>,
    /// The port of its PostgreSQL.
    pub port: Option<u16>,
    /// The timeline that Patroni last saw it on.
    pub timeline: Option<u32>,
    /// The URL of its REST API, with a path.
    pub api_url: Option<String>,
}

/// What a member is for Patroni.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// It holds the lock: it is the primary, or about to become it.
    Leader,
    /// A replica that has every commit.
    SyncStandby,
    /// Another role, such as replica, or the leader of a standby cluster (`standby_leader`).
    #[serde(other)]
    Other,
}

impl Cluster {
    /// Reads the answer to `GET /cluster`.
    ///
    /// # Errors
    /// The JSON is not such an answer.
    pub fn parse(json: &[u8]) -> Result<Cluster, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// The member that holds the lock, if any does.
    pub fn leader(&self) -> Option<&Member> {
        let mut members = self.members.iter();
        members.find(|member| member.role == MemberRole::Leader)
    }
}

impl Member {
    /// Whether its PostgreSQL has this host name and port. Host names are compared as text, without DNS.
    pub fn has_postgres_address(&self, host: &str, port: u16) -> bool {
        let named = self.host.as_deref();
        self.port.unwrap_or(5432) == port && named.is_some_and(|h| h.eq_ignore_ascii_case(host))
    }

    /// Whether its own Patroni is the one at this address.
    pub fn has_api_url(&self, url: &Url) -> bool {
        let api = self.api_url.as_deref().unwrap_or_default();
        let rest = api.strip_prefix(&url.to_string());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or("?");
        write!(f, "{} ({host}:{})", self.name, self.port.unwrap_or(5432))
    }
}

impl PatroniClient {
    /// The current cluster status from the DCS. The caller must set a timeout.
    ///
    /// # Errors
    /// The request fails, or the answer is an error, for example because the member cannot reach the DCS.
    pub async fn cluster(&self) -> Result<Cluster, PatroniError> {
        let body = self.ask(Request::Get("/cluster")).await?;
        Cluster::parse(&body).map_err(|cause| PatroniError::Unreadable {
            url: self.0.url.clone(),
            cause,
        })
    }

    /// Makes `candidate` the leader instead of `leader`. Returns when the switchover has succeeded or failed. The caller must set
    /// a timeout.
    ///
    /// # Errors
    /// Patroni refused, or the switchover failed. If there is no answer, the switchover may still happen later.
    pub async fn switchover(&self, leader: &str, candidate: &str) -> Result<(), PatroniError> {
        let order = serde_json::json!({ "leader": leader, "candidate": candidate }).to_string();
        self.ask(Request::Post("/switchover", &order)).await?;
        Ok(())
    }

    async fn ask(&self, request: Request<'_>) -> Result<Vec<u8>, PatroniError> {
        let url = || self.0.url.clone();
        let answer = self.0.ask(request).await;
        let answer = answer.map_err(|cause| PatroniError::Http { url: url(), cause })?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(PatroniError::Said {
                url: url(),
                status,
                text: String::from_utf8_lossy(&answer.body).trim().to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Patroni 3.0.2 answers.
    const ANSWER: &str = r#"{"members": [
        {"name": "p0", "role": "sync_standby", "state": "running", "api_url": "http://127.0.0.1:8008/patroni",
         "host": "127.0.0.1", "port": 5433, "timeline": 2, "lag": 0},
        {"name": "p1", "role": "leader", "state": "running", "api_url": "http://127.0.0.1:8009/patroni",
         "host": "Db1.Example.com", "port": 5434, "timeline": 2},
        {"name": "p2", "role": "replica", "state": "start failed", "api_url": "http://127.0.0.1:8010/patroni",
         "host": "127.0.0.1", "port": 5435, "lag": "unknown"}], "pause": true}"#;

    #[test]
    fn the_leader_is_found_in_what_patroni_says() {
        let cluster = Cluster::parse(ANSWER.as_bytes()).unwrap();
        let leader = cluster.leader().unwrap();
        assert_eq!((&*leader.name, leader.timeline), ("p1", Some(2)));
        assert!(leader.has_postgres_address("db1.example.com", 5434));
        assert!(!leader.has_postgres_address("db1.example.com", 5433));
        let url = |text| Url::parse(text).unwrap();
        assert!(leader.has_api_url(&url("http://127.0.0.1:8009")));
        assert!(!leader.has_api_url(&url("http://127.0.0.1:800")));
        let roles: Vec<MemberRole> = cluster.members.iter().map(|m| m.role).collect();
        let expected = [
            MemberRole::SyncStandby,
            MemberRole::Leader,
            MemberRole::Other,
        ];
        assert_eq!(roles, expected);
        let none = Cluster::parse(br#"{"members": []}"#).unwrap();
        assert_eq!(none.leader(), None);
        // The leader of a standby cluster takes no writes.
        let standby = ANSWER.replace("\"leader\"", "\"standby_leader\"");
        assert_eq!(Cluster::parse(standby.as_bytes()).unwrap().leader(), None);
        assert!(Cluster::parse(b"<html>").is_err());
    }
}
