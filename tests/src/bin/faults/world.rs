//! What a row is played on: servers, a way to each that can be broken, a router, a way to it, and the bank.

use crate::ask::say;
use mothership_tests::bank::{self, Bank, Terms};
use mothership_tests::cluster::Cluster;
use mothership_tests::fleet::Shard;
use mothership_tests::level::Level;
use mothership_tests::proof::{self, Verdict, on_all_in};
use mothership_tests::proxy::Proxy;
use mothership_tests::router::{clock_library, may_have_own_hosts};
use mothership_tests::shared::{PASSWORD, USER};
use mothership_tests::{Fleet, Router, Wire, poll_until};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Shards of every row.
pub const SHARDS: usize = 3;
/// How long what is to happen may take.
pub const SOON: Duration = Duration::from_secs(20);
/// A role whose pools are its own, besides those of the bank.
pub const NARROW: &str = "narrow";
/// An answer that takes longer is called a hang: more than `pool.unacknowledged_timeout`, and a bit.
pub const PATIENCE: Duration = Duration::from_secs(45);
/// Clients of the bank.
pub const CLIENTS: usize = 4;

/// Servers, for many rows one after the other.
pub struct Ground {
    /// They are reached past the router by `sql`, and by the router through proxies.
    pub fleet: Fleet,
}

/// What a row adds to the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Standbys of each shard; where there are any, a commit waits for one.
    pub standbys: usize,
    /// Lines in `[listen]`.
    pub listen: &'static str,
    /// Lines in `[pool]`.
    pub pool: &'static str,
    /// Lines of the user [`NARROW`].
    pub narrow: &'static str,
    /// Behind all.
    pub more: &'static str,
    /// Where the router runs.
    pub place: Place,
}

/// Where a router runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// As everything else.
    Here,
    /// Its servers have names that only it knows: `s1.test` and so on, see [`hosts`].
    Names,
    /// By a wall clock that the row sets.
    Clock,
    /// It listens at every address of the machine.
    Everywhere,
}

impl Place {
    /// Why there is no such place on this machine, if there is none.
    fn why_not(self) -> Option<String> {
        let why = match self {
            Place::Here | Place::Everywhere => return None,
            Place::Names if may_have_own_hosts() => return None,
            Place::Clock if clock_library().is_some() => return None,
            Place::Names => "names of servers need root and mount namespaces",
            Place::Clock => "a clock of its own needs libfaketime, Debian's package faketime",
        };
        Some(why.to_owned())
    }

    fn start(self, config: &str) -> Router {
        match (self, clock_library()) {
            (Place::Names, _) => Router::start_with_hosts(config, &hosts("127.0.0.1")),
            (Place::Clock, Some(library)) => Router::start_with_clock(config, library),
            _ => Router::start(config),
        }
    }
}

/// What the servers' names mean: all are at this address.
pub fn hosts(address: &str) -> String {
    let names = (1..=SHARDS).map(|shard| format!("{address} s{shard}.test\n"));
    format!("127.0.0.1 localhost\n{}", names.collect::<String>())
}

/// Nothing but defaults.
pub const PLAIN: Setup = Setup {
    standbys: 0,
    listen: "",
    pool: "",
    narrow: "",
    more: "",
    place: Place::Here,
};

/// One row's world.
pub struct World<'g> {
    /// The bank, closed first.
    pub bank: Bank,
    /// The router.
    pub router: Router,
    /// From clients to the router.
    pub front: Proxy,
    /// From the router to the server of each shard that was the primary in the beginning.
    pub back: Vec<Proxy>,
    /// The servers.
    pub ground: &'g mut Ground,
    /// The database in which the row plays.
    pub database: String,
    /// For choices.
    pub rng: StdRng,
    /// Why the row cannot be shown on this machine, if it cannot.
    pub cannot: Option<String>,
    /// Logged in before the fault.
    probe: RefCell<Wire>,
    before: Level,
}

impl Ground {
    /// Starts servers.
    pub fn new(standbys: usize) -> Ground {
        let mut fleet = Fleet::new(SHARDS, standbys);
        if standbys > 0 {
            fleet.shards.iter_mut().for_each(Shard::wait_for_standbys);
        }
        bank::make_role(&fleet);
        let password = PASSWORD.replace('\'', "''");
        let role = bank::ROLE;
        let make = format!("CREATE ROLE {NARROW} LOGIN PASSWORD '{password}' IN ROLE {role}");
        proof::on_all(&fleet, &make);
        Ground { fleet }
    }
}

impl<'g> World<'g> {
    /// Begins: the bank is open, and what is held by the router is noted.
    pub fn begin(ground: &'g mut Ground, row: u32, seed: u64, setup: &Setup) -> World<'g> {
        let fleet = &ground.fleet;
        let database = format!("row{row}");
        for sql in [
            format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"),
            format!("CREATE DATABASE {database}"),
        ] {
            proof::on_all(fleet, &sql);
        }
        let way = |shard: &Shard| Proxy::to(shard.primary.port());
        let back: Vec<Proxy> = fleet.shards.iter().map(way).collect();
        let servers = |(shard, way): (&Shard, &Proxy)| {
            let standbys = shard.replicas.iter().map(Cluster::port);
            standbys.chain([way.port()]).collect()
        };
        let ports: Vec<Vec<u16>> = fleet.shards.iter().zip(&back).map(servers).collect();
        let cannot = setup.place.why_not();
        let place = match cannot {
            Some(_) => Place::Here,
            None => setup.place,
        };
        let router = place.start(&config(&ports, setup, place));
        let terms = Terms {
            clients: CLIENTS,
            accounts: 120,
            seed,
            patience: PATIENCE,
        };
        let bank = Bank::open(&router, fleet, &database, terms);
        let owner = router.endpoint(USER, PASSWORD, &database);
        let mut wire = Wire::login(&owner);
        for sql in [
            "CREATE TABLE victims (id int8 NOT NULL, v text)".to_owned(),
            format!("GRANT ALL ON victims TO {}", bank::ROLE),
        ] {
            let frames = wire.query(&sql);
            assert!(frames.iter().all(|f| f.kind != b'E'), "{sql}: {frames:?}");
        }
        drop(wire);
        assert!(bank.goes_on(30, SOON), "the bank: {}", bank.figures());
        assert!(bank.hold(SOON), "transfers do not end");
        let probe = log_in(&router, &database);
        let before = Level::now(&router, fleet, bank::ROLE, SOON);
        bank.release();
        World {
            bank,
            front: Proxy::to(router.port()),
            router,
            back,
            ground,
            database,
            rng: StdRng::seed_from_u64(seed),
            cannot,
            probe: RefCell::new(probe),
            before,
        }
    }

    /// A client that is logged in, through the proxy.
    pub fn client(&self) -> Wire {
        self.client_at(self.front.port())
    }

    /// A client of the role that has pools of its own.
    pub fn narrow(&self) -> Wire {
        let endpoint = self.router.endpoint(NARROW, PASSWORD, &self.database);
        let mut wire = Wire::login(&endpoint);
        wire.set_limit(SOON);
        wire
    }

    fn client_at(&self, port: u16) -> Wire {
        let endpoint = self.router.endpoint(bank::ROLE, "", &self.database);
        let mut wire = Wire::login(&endpoint.at_port(port));
        wire.set_limit(SOON);
        wire
    }

    /// A key of this shard.
    pub fn key(&self, shard: usize) -> i64 {
        self.bank.accounts()[shard][0]
    }

    /// Runs SQL in the row's database on one shard, past the router.
    pub fn sql(&self, shard: usize, sql: &str) -> String {
        let server = &self.ground.fleet.shards[shard].primary;
        let said = server.sql(&self.database, sql);
        said.unwrap_or_else(|error| panic!("{sql}: {error}"))
            .trim()
            .to_owned()
    }

    /// How many rows of `victims` have this mark, over all shards.
    pub fn marked(&self, mark: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM victims WHERE v = '{mark}'");
        let counts = on_all_in(&self.ground.fleet, &self.database, &sql);
        counts
            .iter()
            .map(|n| n.trim().parse::<i64>().unwrap())
            .sum()
    }

    /// How many client backends of the row's database fit this condition, over all shards.
    pub fn backends(&self, condition: &str) -> i64 {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename IN ('{}', '{NARROW}') AND ({condition})",
            self.database,
            bank::ROLE
        );
        proof::sum(&self.ground.fleet, &sql)
    }

    /// Transfers do not begin until `release`, and nothing is under way.
    pub fn hold(&self, verdict: &mut Verdict) {
        let held = self.bank.hold(PATIENCE + SOON);
        if !held {
            verdict.claim(false, "transfers end", self.bank.figures());
        }
    }

    /// Claims that the bank goes on while the fault lasts.
    pub fn claim_served(&self, verdict: &mut Verdict) {
        let goes_on = self.bank.goes_on(10, SOON);
        verdict.claim(goes_on, "others are served", self.bank.figures());
    }

    /// Claims that each of these shards serves whoever asks nothing of the others.
    pub fn claim_shards_served(&self, shards: &[usize], verdict: &mut Verdict) {
        let mut probe = self.probe.borrow_mut();
        for shard in shards {
            let key = self.key(*shard);
            let sql = format!("UPDATE accounts SET balance = balance WHERE id = {key}");
            let begun = Instant::now();
            let answers = (0..10).map(|_| say(&mut probe, &sql));
            let wrong = answers.into_iter().find(|answer| !answer.is_done());
            let figure = match &wrong {
                None => format!("{:.0?}", begun.elapsed()),
                Some(answer) => format!("{answer} after {:.0?}", begun.elapsed()),
            };
            let claim = format!("shard s{} is served", shard + 1);
            verdict.claim(wrong.is_none(), &claim, figure);
        }
    }

    /// Heals all, and claims what must hold after every row.
    pub fn end(self, verdict: &mut Verdict) {
        self.front.heal();
        self.back.iter().for_each(Proxy::heal);
        let goes_on = self.bank.goes_on(20, SOON);
        verdict.claim(goes_on, "healed, the bank goes on", self.bank.figures());
        self.hold(verdict);
        let fleet = &self.ground.fleet;
        let finished = poll_until(SOON, || proof::prepared(fleet) == 0);
        let quiet = poll_until(SOON, || self.backends("xact_start IS NOT NULL") == 0);
        verdict.claim(finished && quiet, "nothing is under way", finished);
        let judgement = self.bank.judge(fleet);
        verdict.claim(judgement.is_right(), "the bank is right", &judgement);
        let figures = self.bank.figures();
        let claim = "every answer was its own, and came in time";
        let right = figures.hangs == 0 && figures.strange.is_empty();
        verdict.claim(right, claim, format!("{figures} {:?}", figures.strange));
        let mut client = self.client_at(self.router.port());
        let mut sum = say(&mut client, "SELECT sum(balance) FROM accounts");
        // A pool may rest for a moment before it tries to connect again.
        poll_until(SOON, || {
            let again = !sum.errors().is_empty();
            if again {
                sum = say(&mut client, "SELECT sum(balance) FROM accounts");
            }
            !again
        });
        drop(client);
        let right = sum.rows() == [self.bank.total().to_string()];
        verdict.claim(right, "the sum through the router is right", sum);
        self.before
            .claim_back(&self.router, fleet, bank::ROLE, SOON, verdict);
    }
}

/// A client, past the proxy before the router.
fn log_in(router: &Router, database: &str) -> Wire {
    let mut wire = Wire::login(&router.endpoint(bank::ROLE, "", database));
    wire.set_limit(SOON);
    wire
}

fn config(ports: &[Vec<u16>], setup: &Setup, place: Place) -> String {
    let Setup {
        standbys: _,
        listen,
        pool,
        narrow,
        more,
        place: _,
    } = setup;
    let mut shards = proof::shards_at(ports, "tls = \"disable\"");
    if place == Place::Names {
        for (number, port) in ports
            .iter()
            .enumerate()
            .flat_map(|(n, ports)| ports.iter().map(move |p| (n, p)))
        {
            let name = format!("s{}.test:{port}", number + 1);
            shards = shards.replace(&format!("127.0.0.1:{port}"), &name);
        }
    }
    let address = match place {
        Place::Everywhere => "0.0.0.0",
        _ => "127.0.0.1",
    };
    format!(
        "[listen]\naddress = [\"{address}\"]\nport = @port@\n{listen}\n\
         [control]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [console]\nadmin_users = [\"{USER}\"]\n\
         [pool]\nmin = 0\nidle_timeout = \"500ms\"\n{pool}\n{}{}\
         [[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         [[user]]\nname = \"{NARROW}\"\npassword = \"{PASSWORD}\"\n{narrow}\n{}\
         [[table]]\nname = \"victims\"\nkey = \"id\"\nkey_type = \"int8\"\n{more}",
        bank::user(),
        shards,
        bank::TABLES,
    )
}
