//! Asks discovery sources who the leader of a group is: one task for each member of
//! a Patroni cluster, beside the probes.
//!
//! They are asked at the pace of the probes, and at once when a group gets or loses
//! its primary: what was said before that is old. [`named`] decides what several
//! answers amount to; what follows from it for the election is `group`'s to say.

use super::probe::MIN_GAP;
use super::spec::ServerSpec;
use super::view::Health;
use crate::endpoint::Address;
use crate::patroni::{Cluster, Member, PatroniClient, PatroniError};
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What one source has said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    /// When it was asked.
    asked: Instant,
    /// Its place in the group.
    leader: usize,
    /// The leader's, as far as the store knows it.
    timeline: Option<u32>,
}

/// Whom the answers name. They may differ for a moment: then the newest history counts, and within one, what was asked last.
fn named(answers: &[Option<Answer>]) -> Option<usize> {
    let answers = answers.iter().flatten();
    let newest = answers.max_by_key(|answer| (answer.timeline, answer.asked));
    newest.map(|answer| answer.leader)
}

/// One source of one group.
pub(super) struct Source {
    health: Arc<Health>,
    group: usize,
    /// Its place among the sources of the group.
    place: usize,
    patroni: PatroniClient,
    servers: Arc<[Address]>,
    /// What all sources of the group have said.
    answers: Arc<Mutex<Vec<Option<Answer>>>>,
    /// What was wrong with the last answer, if anything: it is said once.
    trouble: Option<String>,
}

impl Source {
    /// The sources of a group.
    pub(super) fn of_group(
        health: &Arc<Health>,
        group: usize,
        sources: Vec<PatroniClient>,
        servers: &[ServerSpec],
    ) -> Vec<Source> {
        let servers = servers.iter().map(|server| server.endpoint.address.clone());
        let servers: Arc<[Address]> = servers.collect();
        let answers = Arc::new(Mutex::new(vec![None; sources.len()]));
        let sources = sources.into_iter().enumerate();
        let source = |(place, patroni)| Source {
            health: Arc::clone(health),
            group,
            place,
            patroni,
            servers: Arc::clone(&servers),
            answers: Arc::clone(&answers),
            trouble: None,
        };
        sources.map(source).collect()
    }

    pub(super) async fn run(mut self) {
        let mut elections = self.health.elections();
        let (quick, interval) = {
            let watch = self.health.watch();
            (watch.quick_interval.min(watch.interval), watch.interval)
        };
        let mut pause = quick;
        loop {
            elections.borrow_and_update();
            let asked = Instant::now();
            let limit = self.health.watch().timeout;
            match tokio::time::timeout(limit, self.ask(asked)).await {
                Ok(answer) => self.note(answer),
                Err(_) => self.note(Err(format!("no answer within {limit:?}"))),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(interval),
                // The store may have been a moment behind what the servers said: it is asked quickly for a while.
                _ = elections.changed() => pause = quick,
            }
            tokio::time::sleep_until((asked + MIN_GAP).into()).await;
        }
    }

    /// The leader by this source, `None` while there is none; or why it cannot say.
    async fn ask(&self, asked: Instant) -> Result<Option<Answer>, String> {
        let chain = |error: PatroniError| match std::error::Error::source(&error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        let cluster: Cluster = self.patroni.cluster().await.map_err(chain)?;
        let Some(leader) = cluster.leader() else {
            return Ok(None);
        };
        let Some(place) = place(leader, &self.servers).await else {
            let why = format!("its leader {leader} is no server of the shard");
            return Err(why);
        };
        Ok(Some(Answer {
            asked,
            leader: place,
            timeline: leader.timeline,
        }))
    }

    /// A source that says nothing now takes back what it has said.
    fn note(&mut self, answer: Result<Option<Answer>, String>) {
        let trouble = answer.as_ref().err().cloned();
        if let Some(trouble) = trouble.as_ref().filter(|_| trouble != self.trouble) {
            let url = &self.patroni.0.url;
            tracing::warn!(source = %url, %trouble, "Patroni does not say who the leader is");
        }
        self.trouble = trouble;
        let leader = {
            // Whoever panicked while holding it left whole answers.
            let mut answers = self.answers.lock().unwrap_or_else(|e| e.into_inner());
            answers[self.place] = answer.ok().flatten();
            named(&answers)
        };
        self.health.on_leader(self.group, leader);
    }
}

/// The place of a member among the servers of its group: by its name, else by the addresses behind the names.
pub async fn place(member: &Member, servers: &[Address]) -> Option<usize> {
    let tcp = |server: &Address| match server {
        Address::Tcp(host, port) => Some((host.clone(), *port)),
        Address::Unix(_) => None,
    };
    let servers: Vec<Option<(String, u16)>> = servers.iter().map(tcp).collect();
    let is = |server: &Option<(String, u16)>| {
        let server = server.as_ref();
        server.is_some_and(|(host, port)| member.has_postgres_address(host, *port))
    };
    if let Some(at) = servers.iter().position(is) {
        return Some(at);
    }
    let port = member.port.unwrap_or(5432);
    let wanted = addresses(member.host.as_deref()?, port).await;
    for (at, server) in servers.iter().enumerate() {
        if let Some((host, of_server)) = server
            && *of_server == port
            && !addresses(host, port).await.is_disjoint(&wanted)
        {
            return Some(at);
        }
    }
    None
}

async fn addresses(host: &str, port: u16) -> HashSet<IpAddr> {
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.into_iter().flatten();
    found.map(|address| address.ip()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patroni::MemberRole;
    use std::time::Duration;

    #[test]
    fn of_answers_that_differ_the_newest_history_counts_and_then_the_last() {
        let start = Instant::now();
        let answer = |second, leader, timeline| {
            Some(Answer {
                asked: start + Duration::from_secs(second),
                leader,
                timeline,
            })
        };
        let cases = [
            (vec![], None),
            (vec![None, None], None),
            (vec![None, answer(1, 2, None)], Some(2)),
            // A member that is cut off from its store speaks of an old one.
            (vec![answer(9, 0, Some(1)), answer(1, 1, Some(2))], Some(1)),
            // The new leader holds the lock and is not promoted yet.
            (vec![answer(9, 1, Some(1)), answer(1, 0, Some(1))], Some(1)),
            (vec![answer(1, 1, Some(1)), answer(9, 0, Some(1))], Some(0)),
        ];
        for (answers, leader) in cases {
            assert_eq!(named(&answers), leader, "{answers:?}");
        }
    }

    #[tokio::test]
    async fn a_member_is_found_by_its_name_or_by_its_address() {
        let servers = [
            Address::Unix("/run/postgresql/.s.PGSQL.5432".into()),
            Address::Tcp("DB1".into(), 5432),
            Address::Tcp("localhost".into(), 5433),
        ];
        for (host, port, expected) in [
            (Some("db1"), None, Some(1)),
            (Some("127.0.0.1"), Some(5433), Some(2)),
            (Some("127.0.0.1"), Some(5434), None),
            (Some("127.0.0.2"), Some(5433), None),
            (None, Some(5433), None),
        ] {
            let member = Member {
                name: "p".into(),
                role: MemberRole::Leader,
                host: host.map(str::to_owned),
                port,
                timeline: None,
                api_url: None,
            };
            assert_eq!(
                place(&member, &servers).await,
                expected,
                "{host:?} {port:?}"
            );
        }
    }
}
