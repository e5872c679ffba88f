//! Another server of a shard becomes its primary in good order, and clients see a pause.
//!
//! What begins is held back, what is under way ends, the router itself writes nothing any more; then the replica has
//! all that was ever written, because the old primary takes nothing more from anybody else, and is promoted. Whatever
//! goes wrong before that leaves the old primary as it was.
//!
//! Where Patroni decides who is the leader, it is Patroni that promotes, and stops the old primary before that, so that it
//! takes nothing more either.

use super::fence;
use crate::core::{Core, Shared};
use crate::topology::asking;
use crate::topology::{Server, ShardServers, Topology};
use mothership_pool::endpoint::{Address, EndpointId};
use mothership_pool::health::{self, ControlTls, Health, Hold, Role, ServerSnapshot, State};
use mothership_pool::patroni::{Cluster, MemberRole, PatroniClient, PatroniError};
use mothership_shardmap::ShardId;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio_postgres::Client;

/// How often it is looked whether transactions have ended.
pub(super) const AGAIN: Duration = Duration::from_millis(10);
/// Transactions that are broken off, and questions of the router, may take so long to end.
pub(super) const ENDING: Duration = Duration::from_secs(5);
/// The replica may take so long to have all that was written.
const CATCHING_UP: Duration = Duration::from_secs(10);
/// Patroni may take so long to say who is who.
const ANSWER: Duration = Duration::from_secs(5);
/// PostgreSQL or Patroni may take so long to promote it, and the router to see that.
const PROMOTION: Duration = Duration::from_secs(60);

/// Why there was no switchover. Until the promotion nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum SwitchoverError {
    /// No shard has this name.
    #[error("no shard is called \"{0}\"")]
    NoShard(String),
    /// There is no primary to begin with.
    #[error("the shard has no primary: {0}")]
    NoPrimary(String),
    /// Another one is under way.
    #[error("another switchover of the shard is under way")]
    UnderWay,
    /// No replica could take its place.
    #[error("no replica of the shard is up and follows its primary")]
    NoReplica,
    /// The server that was named cannot.
    #[error("{0} is no replica of the shard that is up and follows its primary")]
    NotFit(String),
    /// Transactions go on and on.
    #[error("transactions on the primary did not end")]
    Busy,
    /// The configuration was read again meanwhile.
    #[error("the configuration was reloaded meanwhile")]
    Reloaded,
    /// The replica is too far behind.
    #[error("the replica has not replayed all that was written within {CATCHING_UP:?}")]
    Behind,
    /// A server gave no answer.
    #[error("{address}: {cause}")]
    Server {
        /// Which one.
        address: String,
        /// Why.
        cause: String,
    },
    /// Patroni gave no answer, or refused.
    #[error("{0}")]
    Patroni(String),
    /// Patroni knows nothing of a server.
    #[error("Patroni knows no member at {0}")]
    NoMember(String),
    /// Nobody knows whether it will be promoted.
    #[error("Patroni was asked to promote {to}, and it is not known what came of it: {cause}")]
    Unknown {
        /// The replica.
        to: String,
        /// What went wrong.
        cause: String,
    },
    /// Whoever ordered it has cancelled it, or is gone.
    #[error("the switchover was cancelled")]
    Cancelled,
    /// A fault of the router's own.
    #[error("the switchover was broken off")]
    Broken,
    /// It was promoted and is not seen as the primary.
    #[error("{0} was promoted, but is not seen as the primary yet")]
    NotSeen(String),
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Switched {
    /// The address of the primary before.
    pub from: String,
    /// And of the one now.
    pub to: String,
    /// How long what began was held back.
    pub held: Duration,
    /// How much of that the promotion itself took, until it was seen.
    pub promotion: Duration,
}

/// Makes another server of a shard its primary: this one, or the replica that is the least behind. Dropped before the
/// promotion it leaves things as they are, or puts them back; a promotion that has begun it ends all the same.
pub async fn switchover(
    shared: &Arc<Shared>,
    shard: &str,
    to: Option<&str>,
) -> Result<Switched, SwitchoverError> {
    let topology = shared.topology();
    let found = topology.shards.named(shard);
    let shard = found.ok_or_else(|| SwitchoverError::NoShard(shard.to_owned()))?;
    let health = &topology.health;
    let from = health
        .elected(shard.index())
        .map_err(|why| SwitchoverError::NoPrimary(why.to_string()))?;
    let ShardServers {
        servers, patroni, ..
    } = &topology.shards[shard];
    let members = members(patroni, servers).await?;
    let synchronous = members.as_ref().map_or(&[][..], |m| &m.synchronous);
    let to = candidate(&topology, shard, to, synchronous)?;
    let order = match &members {
        Some(members) => Some(members.order(patroni, (from, to), servers)?),
        None => None,
    };
    let (from, to) = ((from, &servers[from]), (to, &servers[to]));
    // Whoever cannot be asked is found out before anybody has to wait.
    let old = connect(&topology, shard, from.1).await?;
    let new = connect(&topology, shard, to.1).await?;

    let begun = Instant::now();
    let hold = health
        .hold(shard.index())
        .ok_or(SwitchoverError::UnderWay)?;
    let primary = from.1.endpoint.id;
    drain(shared, primary, topology.config.failover.drain).await?;
    hold.seal();
    wait_for_nothing(shared, ENDING, move |core| core.control.in_use(primary)).await?;
    // A reload leaves connections behind that nobody counts.
    if !shared.is_current(&topology) {
        return Err(SwitchoverError::Reloaded);
    }
    // From here on it is not for whoever has ordered it to leave it half done.
    let ways = ((from.0, to.0), (old, new), order);
    let (_waits, gone) = oneshot::channel();
    let task = tokio::spawn(take_over(Arc::clone(&topology), shard, ways, (hold, gone)));
    let (now, promotion) = task.await.map_err(|_| SwitchoverError::Broken)??;
    let to = &servers[now];
    let switched = Switched {
        from: from.1.endpoint.address.to_string(),
        to: to.endpoint.address.to_string(),
        held: begun.elapsed(),
        promotion,
    };
    tracing::info!(
        shard = %topology.shards[shard].name,
        from = switched.from,
        to = switched.to,
        held_ms = switched.held.as_millis(),
        promotion_ms = switched.promotion.as_millis(),
        "switchover",
    );
    Ok(switched)
}

/// The last steps, while `hold` keeps everybody waiting; who is the primary then, and how long the promotion took. What
/// comes before the promotion is undone when `gone` says that nobody waits for it.
async fn take_over(
    topology: Arc<Topology>,
    shard: ShardId,
    ((from, to), (old, new), order): ((usize, usize), (Client, Client), Option<Order>),
    (hold, gone): (Hold, oneshot::Receiver<()>),
) -> Result<(usize, Duration), SwitchoverError> {
    let servers = &topology.shards[shard].servers;
    let (primary, candidate) = (&servers[from], &servers[to]);
    let health = &topology.health;
    let caught_up = async {
        tokio::select! {
            biased;
            _ = gone => Err(SwitchoverError::Cancelled),
            caught_up = catch_up((&old, primary), (&new, candidate)) => caught_up,
        }
    };
    if let Some(order) = order {
        caught_up.await?;
        let begun = Instant::now();
        let now = order
            .carry_out(health, (shard.index(), from), candidate)
            .await?;
        // What waits goes on, at the new primary.
        drop(hold);
        return Ok((now, begun.elapsed()));
    }
    let patience = topology.config.failover.drain;
    let ready = match fence::erect(&old, &topology, (shard, primary), patience).await {
        Ok(()) => caught_up.await,
        Err(error) => Err(error),
    };
    let begun = Instant::now();
    let promoted = match ready {
        Ok(()) => promote(&new, candidate).await,
        Err(error) => Err(Unpromoted::Surely(error)),
    };
    match promoted {
        Ok(()) => {
            seen(health, shard, (to, candidate)).await?;
            drop(hold);
            Ok((to, begun.elapsed()))
        }
        Err(Unpromoted::Perhaps(error)) => Err(error),
        Err(Unpromoted::Surely(error)) => {
            // Nothing has changed, and nothing shall have.
            if let Err(left) = fence::lift(&old, primary).await {
                tracing::error!(error = %crate::log::Chain(&left), "the primary refuses writes still");
            }
            Err(error)
        }
    }
}

/// There was no promotion.
enum Unpromoted {
    /// There was none, and there will be none.
    Surely(SwitchoverError),
    /// It may come yet: what takes writes must not.
    Perhaps(SwitchoverError),
}

/// The replica to be promoted.
fn candidate(
    topology: &Topology,
    shard: ShardId,
    wanted: Option<&str>,
    synchronous: &[usize],
) -> Result<usize, SwitchoverError> {
    let snapshot = topology.health.snapshot().swap_remove(shard.index());
    let fit = |server: &ServerSnapshot| {
        // Its lag is known only while it is on the primary's timeline.
        let is_replica = server.state == State::Up && server.view.role == Role::Replica;
        is_replica && server.view.lag.is_some() && server.hand.out.is_none()
    };
    let servers = snapshot.servers.iter().enumerate();
    if let Some(wanted) = wanted {
        let mut named = servers.filter(|(_, s)| s.endpoint.address.to_string() == wanted);
        let found = named.find(|(_, server)| fit(server)).map(|(at, _)| at);
        return found.ok_or_else(|| SwitchoverError::NotFit(wanted.to_owned()));
    }
    let nearest = servers
        .filter(|(_, server)| fit(server))
        // Patroni promotes no other while there is a synchronous one.
        .filter(|(at, _)| synchronous.is_empty() || synchronous.contains(at))
        .min_by_key(|(_, server)| server.view.lag.map(|lag| lag.bytes));
    nearest.map(|(at, _)| at).ok_or(SwitchoverError::NoReplica)
}

/// What Patroni calls the servers of a shard, by their places.
#[derive(Debug)]
struct Members {
    names: Vec<Option<String>>,
    synchronous: Vec<usize>,
    /// The place of the leader's own Patroni among those that are configured.
    first: usize,
}

/// By the first that answers; none where there is no Patroni.
async fn members(
    patroni: &[PatroniClient],
    servers: &[Server],
) -> Result<Option<Members>, SwitchoverError> {
    let mut why = None;
    for source in patroni {
        match tokio::time::timeout(ANSWER, source.cluster()).await {
            Ok(Ok(cluster)) => {
                return Ok(Some(Members::of(&cluster, patroni, servers).await));
            }
            Ok(Err(error)) => why = Some(crate::log::Chain(&error).to_string()),
            Err(_) => {
                let url = &source.0.url;
                why = Some(format!("Patroni at {url} gave no answer within {ANSWER:?}"));
            }
        }
    }
    why.map_or(Ok(None), |why| Err(SwitchoverError::Patroni(why)))
}

impl Members {
    async fn of(cluster: &Cluster, patroni: &[PatroniClient], servers: &[Server]) -> Members {
        let addresses = servers.iter().map(|s| s.endpoint.address.clone());
        let addresses: Vec<Address> = addresses.collect();
        let leader = cluster.leader();
        let first = leader.and_then(|leader| {
            let mut sources = patroni.iter();
            sources.position(|source| leader.has_api_url(&source.0.url))
        });
        let mut members = Members {
            names: vec![None; servers.len()],
            synchronous: Vec::new(),
            first: first.unwrap_or(0),
        };
        for member in &cluster.members {
            let Some(at) = health::place(member, &addresses).await else {
                continue;
            };
            members.names[at] = Some(member.name.clone());
            if member.role == MemberRole::SyncStandby {
                members.synchronous.push(at);
            }
        }
        members
    }

    /// What is asked of Patroni.
    fn order(
        &self,
        patroni: &[PatroniClient],
        (from, to): (usize, usize),
        servers: &[Server],
    ) -> Result<Order, SwitchoverError> {
        let name = |at: usize| {
            let address = &servers[at].endpoint.address;
            let name = self.names[at].clone();
            name.ok_or_else(|| SwitchoverError::NoMember(address.to_string()))
        };
        let mut patroni = patroni.to_vec();
        patroni.rotate_left(self.first);
        Ok(Order {
            patroni,
            leader: name(from)?,
            candidate: name(to)?,
        })
    }
}

/// A switchover that Patroni carries out.
#[derive(Debug)]
struct Order {
    /// Every member takes it; the leader itself, which is the first, acts at once.
    patroni: Vec<PatroniClient>,
    leader: String,
    candidate: String,
}

impl Order {
    /// Returns who is the primary then: Patroni may have had to take another one.
    async fn carry_out(
        &self,
        health: &Health,
        (shard, from): (usize, usize),
        to: &Server,
    ) -> Result<usize, SwitchoverError> {
        let elected = health.is_another_elected(shard, from);
        let ordered = async {
            self.give(to).await?;
            // It looks for what it has done once in a second; the servers have mostly said it before.
            let elected = health.is_another_elected(shard, from);
            let seen = tokio::time::timeout(PROMOTION, elected).await;
            seen.map_err(|_| SwitchoverError::NotSeen(to.endpoint.address.to_string()))
        };
        tokio::select! {
            () = elected => {}
            ordered = ordered => ordered?,
        }
        let now = health.elected(shard);
        now.map_err(|why| SwitchoverError::NoPrimary(why.to_string()))
    }

    async fn give(&self, to: &Server) -> Result<(), SwitchoverError> {
        let mut why = String::new();
        for source in &self.patroni {
            let asked = source.switchover(&self.leader, &self.candidate);
            let unknown = |cause| SwitchoverError::Unknown {
                to: to.endpoint.address.to_string(),
                cause,
            };
            match tokio::time::timeout(PROMOTION, asked).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => {
                    why = crate::log::Chain(&error).to_string();
                    match error {
                        PatroniError::Http { cause, .. } if was_never_asked(&cause) => {}
                        // 503 is also what it says when it has lost sight of it.
                        PatroniError::Http { .. } | PatroniError::Said { status: 503, .. } => {
                            return Err(unknown(why));
                        }
                        PatroniError::Said { .. } | PatroniError::Unreadable { .. } => break,
                    }
                }
                Err(_) => return Err(unknown(format!("no answer within {PROMOTION:?}"))),
            }
        }
        Err(SwitchoverError::Patroni(why))
    }
}

/// Whether the request cannot have got anywhere.
fn was_never_asked(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionRefused | Kind::HostUnreachable | Kind::NetworkUnreachable
    )
}

/// A connection of the control role, which ends with the client.
pub(super) async fn connect(
    topology: &Topology,
    shard: ShardId,
    server: &Server,
) -> Result<Client, SwitchoverError> {
    let tls = ControlTls::new(&server.endpoint);
    let mut config = asking(&topology.config, shard, server);
    config.ssl_mode(tls.mode()).application_name("mothership");
    let (client, connection) = config.connect(tls).await.map_err(of(server))?;
    // Its error is also what the client's next question gets.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

pub(super) fn of(server: &Server) -> impl Fn(tokio_postgres::Error) -> SwitchoverError {
    let address = server.endpoint.address.to_string();
    move |error| SwitchoverError::Server {
        address: address.clone(),
        cause: crate::log::Chain(&error).to_string(),
    }
}

/// Waits until no session works on a server; after `patience` they lose their connections.
async fn drain(
    shared: &Arc<Shared>,
    server: EndpointId,
    patience: Duration,
) -> Result<(), SwitchoverError> {
    // Who is in line came before, and is served.
    let working = move |core: &Rc<Core>| core.working_on(server);
    if wait_for_nothing(shared, patience, working).await.is_ok() {
        return Ok(());
    }
    shared.ask(move |core| core.break_off(server)).await;
    wait_for_nothing(shared, ENDING, working).await
}

/// Waits until all cores count nothing.
async fn wait_for_nothing(
    shared: &Arc<Shared>,
    limit: Duration,
    count: impl Fn(&Rc<Core>) -> usize + Send + Copy + 'static,
) -> Result<(), SwitchoverError> {
    let begun = Instant::now();
    loop {
        if shared.ask(count).await.into_iter().all(|count| count == 0) {
            return Ok(());
        }
        if begun.elapsed() >= limit {
            return Err(SwitchoverError::Busy);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Waits until the replica has replayed what its primary has written.
async fn catch_up(
    (old, from): (&Client, &Server),
    (new, to): (&Client, &Server),
) -> Result<(), SwitchoverError> {
    let written = "SELECT pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text";
    let written: String = old.query_one(written, &[]).await.map_err(of(from))?.get(0);
    let replayed = "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_last_wal_replay_lsn(), \
                    $1::pg_catalog.text::pg_catalog.pg_lsn) OPERATOR(pg_catalog.>=) 0";
    let begun = Instant::now();
    loop {
        let row = new.query_one(replayed, &[&written]).await.map_err(of(to))?;
        if row.get::<_, Option<bool>>(0) == Some(true) {
            return Ok(());
        }
        if begun.elapsed() >= CATCHING_UP {
            return Err(SwitchoverError::Behind);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn promote(new: &Client, to: &Server) -> Result<(), Unpromoted> {
    let promote = format!(
        "SELECT pg_catalog.pg_promote(true, {})",
        PROMOTION.as_secs()
    );
    match new.query_one(&promote, &[]).await {
        Ok(row) if row.get(0) => Ok(()),
        Ok(_) => Err(Unpromoted::Perhaps(SwitchoverError::Server {
            address: to.endpoint.address.to_string(),
            cause: format!("it was not promoted within {PROMOTION:?}"),
        })),
        Err(error) if error.as_db_error().is_some() => Err(Unpromoted::Surely(of(to)(error))),
        Err(error) => Err(Unpromoted::Perhaps(of(to)(error))),
    }
}

/// Waits until the router sees the new primary.
async fn seen(
    health: &Health,
    shard: ShardId,
    (at, to): (usize, &Server),
) -> Result<(), SwitchoverError> {
    health.probe_soon(shard.index(), at);
    let elected = tokio::time::timeout(PROMOTION, health.is_elected(shard.index(), at)).await;
    elected.map_err(|_| SwitchoverError::NotSeen(to.endpoint.address.to_string()))
}
