//! A router that commits one step at a time, and another one that recovers, on databases that they reach without
//! anything between.

use mothership::commit::doubt::Site;
use mothership::commit::errand::{Servers, Unreachable, perform};
use mothership::commit::gid::TransactionId;
use mothership::commit::judge::Patience;
use mothership::commit::parts::{Participant, Terms, Work};
use mothership::commit::recover::{Recovery, Settings, Sweep};
use mothership::commit::schema;
use mothership::commit::steps::{Commit, End, Reply, Step, Via};
use mothership::config::{Label, Name};
use mothership::topology::shard_id;
use mothership_shardmap::ShardId;
use mothership_tests::{Endpoint, Wire, message};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

pub const LIMIT: Duration = Duration::from_secs(5);
/// Within which a server notices that a client is gone.
pub const SOON: Duration = Duration::from_secs(20);

pub fn schema_name() -> Name {
    Name::new("mothership").unwrap()
}

/// Databases, and connections to them that are used again.
pub struct Direct {
    pub endpoints: Vec<Endpoint>,
    /// Which of them is a member of a replica set.
    pub documents: Option<usize>,
    idle: RefCell<Vec<(usize, Client)>>,
}

pub struct Lent<'d> {
    direct: &'d Direct,
    shard: usize,
    client: Option<Client>,
}

impl Deref for Lent<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client.as_ref().unwrap()
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let client = self.client.take().filter(|client| !client.is_closed());
        let idle = client.map(|client| (self.shard, client));
        self.direct.idle.borrow_mut().extend(idle);
    }
}

impl<'d> Servers for &'d Direct {
    type Lent = Lent<'d>;

    async fn lend(&self, site: &Site) -> Result<Lent<'d>, Unreachable> {
        let shard = site.shard[1..].parse().unwrap();
        let lent = self.client(shard).await;
        lent.map_err(|error| Unreachable(error.to_string()))
    }

    fn discard(&self, mut lent: Lent<'d>) {
        drop(lent.client.take());
    }

    fn has_documents(&self, site: &Site) -> bool {
        self.documents
            .is_some_and(|shard| site.shard == format!("s{shard}"))
    }
}

impl Direct {
    pub fn new(endpoints: impl Iterator<Item = Endpoint>) -> Direct {
        Direct {
            endpoints: endpoints.collect(),
            documents: None,
            idle: RefCell::default(),
        }
    }

    pub async fn client(&self, shard: usize) -> Result<Lent<'_>, tokio_postgres::Error> {
        let known = |(other, client): &mut (usize, Client)| *other == shard && !client.is_closed();
        let idle = self.idle.borrow_mut().extract_if(.., known).next();
        let client = match idle {
            Some((_, client)) => client,
            None => {
                let conninfo = self.endpoints[shard].conninfo();
                let (client, connection) = tokio_postgres::connect(&conninfo, NoTls).await?;
                tokio::spawn(async move { drop(connection.await) });
                client
            }
        };
        Ok(Lent {
            direct: self,
            shard,
            client: Some(client),
        })
    }

    pub fn sites(&self) -> Vec<Site> {
        let site = |(number, endpoint): (usize, &Endpoint)| Site {
            shard: format!("s{number}"),
            database: endpoint.database.clone(),
        };
        self.endpoints.iter().enumerate().map(site).collect()
    }

    /// The databases of PostgreSQL.
    fn tables(&self) -> impl Iterator<Item = usize> {
        (0..self.endpoints.len()).filter(|shard| self.documents != Some(*shard))
    }

    pub async fn prepare(&self) {
        for shard in self.tables() {
            let client = self.client(shard).await.unwrap();
            schema::install(&client, &schema_name(), LIMIT)
                .await
                .unwrap();
            let table = "BEGIN READ WRITE; CREATE TABLE public.t (mark int); COMMIT";
            client.batch_execute(table).await.unwrap();
        }
    }

    pub async fn count(&self, shard: usize, sql: &str) -> i64 {
        let client = self.client(shard).await.unwrap();
        client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// On how many shards the transaction is to be seen.
    pub async fn marked(&self, mark: usize) -> usize {
        let sql = format!("SELECT count(*) FROM public.t WHERE mark OPERATOR(pg_catalog.=) {mark}");
        let mut marked = 0;
        for shard in self.tables() {
            marked += usize::from(self.count(shard, &sql).await > 0);
        }
        if let Some(shard) = self.documents {
            let sql = format!("SELECT count(*) FROM public.t WHERE mark = {mark}");
            marked += usize::from(self.count(shard, &sql).await > 0);
        }
        marked
    }

    pub async fn prepared(&self) -> i64 {
        let mut prepared = 0;
        for shard in self.tables() {
            let sql = "SELECT count(*) FROM pg_catalog.pg_prepared_xacts \
                WHERE database OPERATOR(pg_catalog.=) pg_catalog.current_database()";
            prepared += self.count(shard, sql).await;
        }
        prepared
    }

    pub async fn decisions(&self) -> i64 {
        let mut decisions = 0;
        for shard in self.tables() {
            let sql = "SELECT count(*) FROM mothership.decision";
            decisions += self.count(shard, sql).await;
        }
        decisions
    }

    /// What another router sees and does, which has started just now and has no patience.
    pub async fn recover(&self) -> Sweep {
        self.recover_with(Duration::ZERO).await
    }

    pub async fn recover_with(&self, long: Duration) -> Sweep {
        let settings = Settings {
            schema: schema_name(),
            interval: Duration::from_secs(1),
            timeout: LIMIT,
            fence_wait: Duration::from_millis(200),
            patience: Patience {
                short: Duration::ZERO,
                long,
                keep: Duration::ZERO,
            },
            rows: 1000,
        };
        let mut recovery = Recovery::new(self, settings, Arc::default());
        let first = recovery.sweep(&self.sites()).await;
        // What the first sweep saw nothing of any more, the next one forgets.
        let second = recovery.sweep(&self.sites()).await;
        Sweep {
            forgotten: first.forgotten + second.forgotten,
            ..first
        }
    }

    /// Recovers until nothing is left, when all committers are gone.
    pub async fn clean_up(&self) {
        let begin = Instant::now();
        loop {
            let sweep = self.recover().await;
            if self.prepared().await == 0 && self.decisions().await == 0 {
                return;
            }
            assert!(begin.elapsed() < SOON, "it is not cleaned up: {sweep:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A router that commits, one step at a time.
pub struct Committer<'d> {
    pub direct: &'d Direct,
    pub wires: Vec<Wire>,
    pub commit: Commit,
    pub steps: VecDeque<Step>,
}

impl<'d> Committer<'d> {
    /// Opens a transaction on every shard and writes; the commit is planned and nothing of it sent.
    pub fn new(direct: &'d Direct, mark: usize, begin: &str) -> Committer<'d> {
        Committer::with(direct, mark, begin, direct.documents)
    }

    /// One part may be such that it cannot be prepared.
    pub fn with(
        direct: &'d Direct,
        mark: usize,
        begin: &str,
        unpreparable: Option<usize>,
    ) -> Committer<'d> {
        let mut wires = Vec::new();
        for endpoint in &direct.endpoints {
            let mut wire = Wire::login(endpoint);
            let write = format!("{begin}; INSERT INTO public.t (mark) VALUES ({mark})");
            assert!(matches!(run(&mut wire, &write), Reply::Done { .. }));
            wires.push(wire);
        }
        let part = |shard: usize| Participant {
            shard: shard_id(shard),
            name: Label::new(&format!("s{shard}")).unwrap(),
            work: Work::Write,
            preparable: unpreparable != Some(shard),
            backend: None,
        };
        let parts = (0..wires.len()).map(part).collect();
        let terms = Terms {
            router: Label::new("test").unwrap(),
            schema: schema_name(),
            id: TransactionId::random(),
            serializable: false,
            two_phase: true,
            fence_wait: 1_000,
        };
        let mut commit = Commit::new(parts, terms).unwrap();
        let steps = commit.steps().into();
        Committer {
            direct,
            wires,
            commit,
            steps,
        }
    }

    /// Has the next step done, and does not hear the answer yet.
    pub async fn send(&mut self) -> Option<(ShardId, Reply)> {
        let step = self.steps.pop_front()?;
        let shard = step.shard.index();
        let reply = match step.via {
            Via::Session => run(&mut self.wires[shard], &step.sql),
            Via::Control => {
                let site = &self.direct.sites()[shard];
                perform(&self.direct, site, LIMIT, &step).await
            }
        };
        Some((step.shard, reply))
    }

    pub fn hear(&mut self, (shard, reply): &(ShardId, Reply)) {
        self.commit.on_reply(*shard, reply);
        self.steps.extend(self.commit.steps());
    }

    pub async fn step(&mut self) -> bool {
        let Some(said) = self.send().await else {
            return false;
        };
        self.hear(&said);
        true
    }

    pub async fn finish(&mut self) -> End {
        while self.step().await {}
        self.commit.end().expect("no step is left")
    }
}

/// Sends one query and reads its answer, as a session must.
pub fn run(wire: &mut Wire, sql: &str) -> Reply {
    wire.send(&message::query(sql));
    let frames = wire.until_ready();
    let error = frames.iter().find(|frame| frame.kind == b'E');
    let ready = frames.last().unwrap();
    if let Some(error) = error {
        return Reply::Refused {
            sqlstate: error.sqlstate(),
            idle: ready.transaction() == 'I',
        };
    }
    let last = |kind| frames.iter().rfind(|frame| frame.kind == kind);
    Reply::Done {
        tag: last(b'C').unwrap().text(),
        row: last(b'D').map(|frame| frame.row_text()[0].clone()),
    }
}
