//! The cases of one world, one after another: a statement alone, or several in a
//! transaction block with savepoints.

use crate::code;
use crate::compare::show;
use crate::expr::Gen;
use crate::inject::Injector;
use crate::judge::{Truth, Verdict, refusal};
use crate::limits;
use crate::mix;
use crate::partition_ddl::Partitions;
use crate::reduce;
use crate::report::Report;
use crate::run::{self, Answer, Lost, Protocol, simple};
use crate::schema::Layout;
use crate::settings;
use crate::statement::{Effect, Statement};
use crate::world::World;
use mothership_tests::Wire;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::ops::Range;
use std::time::Instant;

/// One in so many reads is also gathered.
const ALSO_GATHERED: u64 = 3;
/// The name of that way.
const GATHERED: &str = "gathered";

/// Cases between two looks at all tables.
const BATCH: u64 = 50;

/// One world with what is counted over all of them.
pub struct Play<'p> {
    pub world: World,
    pub report: &'p mut Report,
    pub injector: Injector,
    pub seed: u64,
    /// The only case that is told of.
    pub only: Option<u64>,
    /// Every statement is one that writes.
    pub writes: bool,
    /// Tells of every statement that is refused, by PostgreSQL itself or by the router.
    pub verbose: bool,
    /// The first fault ends it.
    pub until_wrong: bool,
}

/// Whether the world can go on.
#[derive(PartialEq, Eq)]
enum Next {
    Goes,
    /// The router has refused something, and the transaction has failed on its side.
    Refused,
    /// Both sides are no longer the same.
    Spoilt,
}

impl Play<'_> {
    /// Plays these cases.
    pub fn run(mut self, cases: Range<u64>) {
        let made = u64::try_from(self.world.schema.random_views.len()).unwrap();
        self.report.views(made, &self.world.refused_views);
        for fault in std::mem::take(&mut self.world.faults) {
            self.fault("rows", cases.start, &fault);
        }
        for number in cases {
            if self.case(number) == Next::Spoilt || self.is_over() {
                break;
            }
            if number % BATCH == BATCH - 1 && self.look(number) == Next::Spoilt {
                break;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.until_wrong && self.report.wrong > 0
    }

    fn fault(&mut self, kind: &'static str, number: u64, fault: &str) {
        println!(
            "WRONG {kind} seed={} case={number} {}\n  {fault}",
            self.seed,
            self.place()
        );
        self.report.fault(kind);
    }

    /// The views that a text reads, each on a line.
    fn definitions(&self, text: &str) -> String {
        let found = self.world.schema.definitions(text);
        found.iter().map(|view| format!("\n  {view}")).collect()
    }

    fn place(&self) -> String {
        format!(
            "layout={} shards={}",
            self.world.layout.name(),
            self.world.shards
        )
    }

    /// All tables are compared, and nothing may be left behind.
    fn look(&mut self, number: u64) -> Next {
        let tables: Vec<String> = self
            .world
            .schema
            .tables
            .iter()
            .map(|table| table.name().to_owned())
            .collect();
        let mut next = Next::Goes;
        let begun = Instant::now();
        for fault in self.world.differing(&tables) {
            self.fault("state", number, &fault);
            next = Next::Spoilt;
        }
        self.report.spent("comparing tables", begun);
        let begun = Instant::now();
        for fault in self.world.leftovers() {
            self.fault("leftover", number, &fault);
        }
        self.report.spent("leftovers", begun);
        next
    }

    fn case(&mut self, number: u64) -> Next {
        let mut rng = StdRng::seed_from_u64(mix(self.seed, number, 2));
        let kind = match self.writes {
            true => 70,
            false => rng.random_range(0..100),
        };
        let mut chance = StdRng::seed_from_u64(mix(self.seed, number, 9));
        if chance.random_bool(0.3) {
            self.world.swap();
        }
        if chance.random_bool(0.15)
            && self.set(number, &settings::some(&mut chance)) == Next::Spoilt
        {
            return Next::Spoilt;
        }
        let mut names = StdRng::seed_from_u64(mix(self.seed, number, 13));
        if !self.world.schema.alike.is_empty()
            && names.random_bool(0.05)
            && self.set(number, &settings::path(&mut names)) == Next::Spoilt
        {
            return Next::Spoilt;
        }
        if self.world.has_other_names() {
            self.report.hidden += 1;
        }
        let mut begins = StdRng::seed_from_u64(mix(self.seed, number, 11));
        // There are settings by which documents are not read.
        if self.world.layout != Layout::Mongodb && begins.random_bool(0.02) {
            let default = settings::default(&mut begins);
            let fault = self.world.begin_with(begins.random_bool(0.5), &default);
            self.report.defaults += 1;
            if let Some(fault) = fault {
                self.fault("default", number, &fault);
                return Next::Spoilt;
            }
        }
        if begins.random_bool(0.04)
            && let Some(partitions) = self.world.schema.partitions.clone()
            && self.change_partitions(number, partitions, &mut begins) == Next::Spoilt
        {
            return Next::Spoilt;
        }
        match kind {
            0..4 => self.parts(number, protocol(&mut rng, true)),
            4..70 => {
                let statement = self.generate(number, 0, false);
                let protocol = protocol(&mut rng, true);
                let next = match may_go_fast(protocol) && rng.random_bool(0.5) {
                    true => self.read_again(number, &statement, protocol),
                    false => self.read(number, &statement, protocol),
                };
                if next == Next::Spoilt {
                    return next;
                }
                if chance.random_bool(0.15) {
                    return self.read_by_other(number, statement, protocol);
                }
                if statement.values.is_empty() || rng.random_bool(0.7) {
                    return next;
                }
                let again = statement.with_other_values(&mut rng);
                self.read(number, &again, protocol)
            }
            70..86 => {
                let statement = self.generate(number, 0, true);
                let protocol = protocol(&mut rng, false);
                match chance.random_bool(0.06) {
                    true => self.write(number, &code::within_do(statement), Protocol::Simple),
                    false => self.write(number, &statement, protocol),
                }
            }
            _ => self.block(number, &mut rng),
        }
    }

    /// On the one PostgreSQL.
    fn on_one(&mut self, protocol: Protocol, statement: &Statement) -> Result<Answer, Lost> {
        let begun = Instant::now();
        let answer = run::run(&mut self.world.o, protocol, statement);
        self.report.spent("PostgreSQL", begun);
        answer
    }

    /// Through the router.
    fn routed(&mut self, protocol: Protocol, statement: &Statement) -> Result<Answer, Lost> {
        let begun = Instant::now();
        let answer = run::run(&mut self.world.r, protocol, statement);
        self.report.spent("the router", begun);
        answer
    }

    fn generate(&self, number: u64, step: u64, write: bool) -> Statement {
        let generator = Gen::new(mix(self.seed, number, 3 + step), &self.world.schema);
        match write {
            true => generator.write(),
            false => generator.statement(),
        }
    }

    fn read(&mut self, number: u64, statement: &Statement, protocol: Protocol) -> Next {
        let o = self.on_one(protocol, statement);
        if o.as_ref().is_ok_and(is_late) {
            // The router would take as long, and both answers say nothing.
            *self.report.slow.entry("PostgreSQL").or_default() += 1;
            return Next::Goes;
        }
        let r = self.routed(protocol, statement);
        if number.is_multiple_of(4)
            && let Some(plan) = self.world.plan(&statement.inline())
        {
            *self.report.plans.entry(plan).or_default() += 1;
        }
        if !number.is_multiple_of(ALSO_GATHERED) {
            return self.judge(number, statement, protocol, "alone", o, r);
        }
        match self.judge(number, statement, protocol, "alone", o.clone(), r) {
            Next::Goes => self.read_gathered(number, statement, protocol, o),
            next => next,
        }
    }

    /// The same once more by the plan that thinks least: one server computes it of the rows that the shards bring.
    fn read_gathered(
        &mut self,
        number: u64,
        statement: &Statement,
        protocol: Protocol,
        o: Result<Answer, Lost>,
    ) -> Next {
        let wish =
            |wire: &mut Wire, plan: &str| simple(wire, &format!("SET mothership.plan = {plan}"));
        if wish(&mut self.world.r, "gather").is_err() {
            self.world.reconnect();
        }
        let r = self.routed(protocol, statement);
        let next = self.judge(number, statement, protocol, GATHERED, o, r);
        if wish(&mut self.world.r, "auto").is_err() {
            self.world.reconnect();
        }
        next
    }

    /// Another client asks the same, with its own settings: what both share on a server must be as each of them means it.
    fn read_by_other(&mut self, number: u64, mut statement: Statement, protocol: Protocol) -> Next {
        statement.features.insert("asked by two clients");
        self.world.swap();
        let next = self.read(number, &statement, protocol);
        self.world.swap();
        next
    }

    /// The client changes a setting on both sides.
    fn set(&mut self, number: u64, sql: &str) -> Next {
        let r = simple(&mut self.world.r, sql);
        if let Ok(answer) = &r
            && let Some(reason) = refusal(None, answer)
        {
            *self.report.reasons.entry(reason).or_default() += 1;
            return Next::Goes;
        }
        let o = simple(&mut self.world.o, sql);
        let said = |answer: &Answer| {
            let code = answer.error.as_ref().map(|(code, _)| code.clone());
            (code, answer.rows.clone(), answer.tags.clone())
        };
        match (&o, &r) {
            (Ok(o), Ok(r)) if said(o) == said(r) => {
                if o.error.is_none() {
                    self.world.settings.push(sql.to_owned());
                }
                self.report.settings += 1;
                Next::Goes
            }
            _ => {
                self.fault("setting", number, &format!("{sql}\n  o: {o:?}\n  r: {r:?}"));
                Next::Spoilt
            }
        }
    }

    /// Partitions of a sharded table change on both sides, or in a block that is undone.
    fn change_partitions(&mut self, number: u64, partitions: Partitions, rng: &mut StdRng) -> Next {
        let (sql, after) = partitions.change(rng);
        let undone = rng.random_bool(0.2);
        let text = match undone {
            true => format!("BEGIN; {sql}; ROLLBACK"),
            false => sql,
        };
        let r = simple(&mut self.world.r, &text);
        if let Ok(answer) = &r
            && let Some(reason) = refusal(None, answer)
        {
            let _ = simple(&mut self.world.r, "ROLLBACK");
            *self.report.reasons.entry(reason).or_default() += 1;
            return Next::Goes;
        }
        let o = simple(&mut self.world.o, &text);
        let told = |answer: &Answer| (answer.error.clone().map(|(code, _)| code), answer.status);
        let same = matches!((&o, &r), (Ok(o), Ok(r)) if told(o) == told(r));
        if !same {
            self.fault(
                "partition",
                number,
                &format!("{text}\n  o: {o:?}\n  r: {r:?}"),
            );
            return Next::Spoilt;
        }
        self.report.partitions += 1;
        if undone {
            // An error has left the block open.
            let _ = simple(&mut self.world.o, "ROLLBACK");
            let _ = simple(&mut self.world.r, "ROLLBACK");
        }
        if !undone && o.is_ok_and(|answer| answer.error.is_none()) {
            self.world.schema.partitions = Some(after);
        }
        match self.look(number) {
            Next::Spoilt => Next::Spoilt,
            Next::Goes | Next::Refused => Next::Goes,
        }
    }

    /// How many rows there are, and how many by a predicate, by its negation and without an answer to it.
    fn parts(&mut self, number: u64, protocol: Protocol) -> Next {
        let parts = Gen::new(mix(self.seed, number, 3), &self.world.schema).parts();
        let mut counts = Vec::new();
        for part in &parts {
            let counted = self.routed(Protocol::Simple, part);
            counts.push(counted.ok().and_then(|answer| count(&answer)));
            if self.read(number, part, protocol) == Next::Spoilt {
                return Next::Spoilt;
            }
        }
        if let [Some(all), Some(yes), Some(no), Some(unknown)] = counts[..]
            && all != yes + no + unknown
        {
            let texts = parts.map(|part| part.inline()).join("\n  ");
            let fault = format!("{all} rows are {yes}, {no} and {unknown}\n  {texts}");
            self.fault("parts", number, &fault);
        }
        Next::Goes
    }

    /// Through the router twice before it counts: what is asked again may go another way than what is new.
    fn read_again(&mut self, number: u64, statement: &Statement, protocol: Protocol) -> Next {
        for _ in 0..2 {
            match self.routed(protocol, statement) {
                Ok(answer) if answer.error.is_none() => {}
                // It is told by the one that counts.
                Ok(_) | Err(_) => break,
            }
        }
        self.read(number, statement, protocol)
    }

    /// The router first: what it refuses is not done by PostgreSQL either.
    fn write(&mut self, number: u64, statement: &Statement, protocol: Protocol) -> Next {
        let r = self.routed(protocol, statement);
        let documents = self.world.layout == Layout::Mongodb;
        let is_refused = |answer: &Answer| {
            refusal(None, answer).is_some() || (documents && limits::limit(answer).is_some())
        };
        let refused = matches!(&r, Ok(answer) if is_refused(answer));
        let o = match refused {
            false => self.on_one(protocol, statement),
            true => {
                let _ = simple(&mut self.world.o, "BEGIN");
                let o = self.on_one(protocol, statement);
                let _ = simple(&mut self.world.o, "ROLLBACK");
                let _ = simple(&mut self.world.o, "DEALLOCATE ALL");
                // As it would have been outside.
                o.map(|answer| Answer {
                    status: 'I',
                    ..answer
                })
            }
        };
        if self.judge(number, statement, protocol, "alone", o, r) == Next::Spoilt {
            return Next::Spoilt;
        }
        self.compare_tables(number, std::slice::from_ref(statement))
    }

    fn compare_tables(&mut self, number: u64, statements: &[Statement]) -> Next {
        let mut tables = Vec::new();
        for statement in statements {
            if let Effect::Writes(written) = &statement.effect {
                tables.extend(written.clone());
            }
        }
        tables.sort();
        tables.dedup();
        let mut next = Next::Goes;
        let begun = Instant::now();
        for fault in self.world.differing(&tables) {
            let texts: Vec<String> = statements.iter().map(Statement::inline).collect();
            self.fault(
                "state",
                number,
                &format!("{fault}\n  after: {}", texts.join("\n         ")),
            );
            next = Next::Spoilt;
        }
        self.report.spent("comparing tables", begun);
        next
    }

    /// BEGIN, some statements, savepoints, COMMIT or ROLLBACK.
    fn block(&mut self, number: u64, rng: &mut StdRng) -> Next {
        let begin = [
            "BEGIN",
            "BEGIN",
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            "BEGIN READ WRITE",
        ]
        .choose(rng)
        .unwrap();
        if self.both(number, begin) != Next::Goes {
            return Next::Spoilt;
        }
        let mut done = Vec::new();
        for step in 0..rng.random_range(2..5) {
            let savepoint = rng.random_bool(0.3);
            if savepoint {
                match self.both(number, "SAVEPOINT s") {
                    Next::Goes => {}
                    Next::Refused => break,
                    Next::Spoilt => return Next::Spoilt,
                }
            }
            let write = rng.random_bool(0.5);
            let statement = self.generate(number, step, write);
            let protocol = protocol(rng, !write);
            let r = self.routed(protocol, &statement);
            // So that PostgreSQL can be asked again.
            let o = self.on_one(protocol, &statement);
            let failed = matches!(&o, Ok(answer) if answer.status == 'E');
            let documents = self.world.layout == Layout::Mongodb;
            let is_refused = |answer: &Answer| {
                let limited = documents && limits::limit(answer).is_some();
                limited || refusal(o.as_ref().ok(), answer).is_some()
            };
            let refused = matches!(&r, Ok(answer) if is_refused(answer));
            if self.judge(number, &statement, protocol, "block", o, r) == Next::Spoilt {
                return Next::Spoilt;
            }
            done.push(statement);
            if refused || (failed && !savepoint) {
                break;
            }
            if savepoint && (failed || rng.random_bool(0.4)) {
                match self.both(number, "ROLLBACK TO SAVEPOINT s") {
                    Next::Goes => {}
                    Next::Refused => break,
                    Next::Spoilt => return Next::Spoilt,
                }
            }
        }
        // A refusal has failed the transaction on one side only.
        let refused = self.status() == ('T', 'E');
        let end = if refused || rng.random_bool(0.3) {
            "ROLLBACK"
        } else {
            "COMMIT"
        };
        if self.both(number, end) != Next::Goes {
            return Next::Spoilt;
        }
        let _ = (deallocate(&mut self.world.o), deallocate(&mut self.world.r));
        self.compare_tables(number, &done)
    }

    /// The state of the transaction of each side.
    fn status(&mut self) -> (char, char) {
        let of = |wire: &mut Wire| simple(wire, "").map_or('?', |answer| answer.status);
        (of(&mut self.world.o), of(&mut self.world.r))
    }

    /// What concerns the transaction itself is the same for both.
    fn both(&mut self, number: u64, sql: &str) -> Next {
        let (o, r) = (
            simple(&mut self.world.o, sql),
            simple(&mut self.world.r, sql),
        );
        let same = match (&o, &r) {
            // A transaction that the router has refused something in has failed on that side only.
            (Ok(o), Ok(r)) if sql == "ROLLBACK" => o.status == r.status,
            (Ok(o), Ok(r)) => o.tags == r.tags && o.status == r.status,
            _ => false,
        };
        if same {
            return Next::Goes;
        }
        if let (Layout::Mongodb, Ok(answer)) = (self.world.layout, &r)
            && let Some(limit) = limits::limit(answer)
        {
            self.report.limit(limit);
            return Next::Refused;
        }
        let said = |answer: &Result<Answer, Lost>| {
            answer
                .as_ref()
                .map_or_else(|lost| format!("{lost:?}"), show)
        };
        self.fault(
            "transaction",
            number,
            &format!("{sql}\n  o: {}\n  r: {}", said(&o), said(&r)),
        );
        Next::Spoilt
    }

    fn judge(
        &mut self,
        number: u64,
        statement: &Statement,
        protocol: Protocol,
        tx: &str,
        o: Result<Answer, Lost>,
        mut r: Result<Answer, Lost>,
    ) -> Next {
        let o =
            o.unwrap_or_else(|lost| panic!("PostgreSQL itself: {lost:?}: {}", statement.inline()));
        let slow = match (&o, &r) {
            (o, _) if is_late(o) => Some("PostgreSQL"),
            (_, Ok(r)) if is_late(r) => Some("the router"),
            _ => None,
        };
        if let Some(side) = slow {
            *self.report.slow.entry(side).or_default() += 1;
            // A write or a transaction has failed on one side only.
            return match tx == "block" || statement.effect != Effect::Reads {
                true => Next::Spoilt,
                false => Next::Goes,
            };
        }
        let mut injected = false;
        if let Ok(answer) = &mut r
            && statement.effect == Effect::Reads
        {
            injected = self.injector.falsify(answer, statement);
        }
        let World {
            o: wire,
            layout,
            schema,
            o_types,
            r_types,
            ..
        } = &mut self.world;
        let mut truth = Truth {
            o: wire,
            schema,
            documents: *layout == Layout::Mongodb,
            o_types,
            r_types,
        };
        let begun = Instant::now();
        let verdict = truth.judge(statement, protocol, &o, &r);
        self.report.spent("judging", begun);
        let lost = r.is_err();
        if injected {
            let found = matches!(verdict, Verdict::Wrong { .. });
            self.report.injected += 1;
            self.report.found += u64::from(found);
            if !found {
                println!(
                    "NOT FOUND seed={} case={number} {}\n  {}",
                    self.seed,
                    self.place(),
                    statement.inline()
                );
            }
            return Next::Goes;
        }
        let foreign = r
            .as_ref()
            .is_ok_and(|answer| self.world.r_types.is_foreign(answer));
        self.report.foreign += u64::from(foreign);
        let error = o
            .error
            .as_ref()
            .map(|(code, message)| format!("{code} {}", shortened(message)));
        let way = format!("{tx} {protocol:?}");
        match tx {
            GATHERED => self.report.count_gathered(&verdict),
            _ => self.report.count(
                statement,
                self.world.layout.name(),
                way,
                error.as_deref(),
                &verdict,
            ),
        }
        if self.verbose
            && let Some(error) = &error
        {
            println!("{error}: {}", statement.inline());
        }
        if self.verbose
            && let Verdict::Refused(reason) = &verdict
        {
            println!(
                "refused, {reason}: case={number} {}{}",
                statement.inline(),
                self.definitions(&statement.inline())
            );
        }
        if self.only == Some(number) {
            println!("settings: {:?}", self.world.settings);
            println!(
                "case={number} {tx} {protocol:?}\n  {}\n  o: {}",
                statement.inline(),
                show(&o)
            );
            println!(
                "  r: {}\n  {verdict:?}",
                r.as_ref().map(show).unwrap_or_default()
            );
        }
        let Verdict::Wrong { kind, detail } = verdict else {
            return Next::Goes;
        };
        println!(
            "WRONG {kind} seed={} case={number} {} {tx} {protocol:?}\n  settings: {:?}",
            self.seed,
            self.place(),
            self.world.settings
        );
        println!(
            "  {}{}\n  {detail}\n  o: {}\n  r: {}",
            statement.inline(),
            self.definitions(&statement.inline()),
            show(&o),
            r.as_ref()
                .map(show)
                .unwrap_or_else(|lost| format!("{lost:?}"))
        );
        if lost {
            // A transaction that was open on it is gone.
            let _ = simple(&mut self.world.o, "ROLLBACK");
            self.world.reconnect();
            return if tx == "block" {
                Next::Spoilt
            } else {
                Next::Goes
            };
        }
        let rows_alike = matches!(kind, "tag" | "shape" | "columns" | "parameters");
        if tx == "block" || statement.effect != Effect::Reads {
            // Whether rows were changed alike is seen by looking at them.
            return if tx == "block" && !rows_alike {
                Next::Spoilt
            } else {
                Next::Goes
            };
        }
        if self.is_over() {
            return Next::Goes;
        }
        let least = reduce::reduce(&mut self.world, statement, protocol, kind);
        println!("  reduced: {}", least.inline());
        Next::Goes
    }
}

/// The number that an answer is.
fn count(answer: &Answer) -> Option<u64> {
    let value = answer.rows.first()?.first()?.as_deref()?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Whether what is sent like this may go the router's fast path.
fn may_go_fast(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Simple | Protocol::Whole)
}

/// Whether it ended at the time limit of statements.
fn is_late(answer: &Answer) -> bool {
    matches!(&answer.error, Some((code, _)) if code == "57014")
}

fn deallocate(wire: &mut Wire) -> Result<Answer, Lost> {
    simple(wire, "DEALLOCATE ALL")
}

/// Without names and values, so that the same errors are counted together.
fn shortened(message: &str) -> String {
    let mut out = String::new();
    let mut quoted = false;
    for c in message.chars() {
        quoted ^= c == '"';
        if !quoted {
            out.push(c);
        }
    }
    out.truncate(out.char_indices().nth(70).map_or(out.len(), |(at, _)| at));
    out
}

fn protocol(rng: &mut StdRng, reads: bool) -> Protocol {
    match rng.random_range(0..20) {
        0..6 => Protocol::Simple,
        6 => Protocol::Text(0),
        7 => Protocol::Untyped(0),
        8 | 9 => Protocol::Whole,
        10..13 => Protocol::Binary(0),
        13 => Protocol::Prepare,
        14 => Protocol::PrepareUntyped,
        15 | 16 if reads => Protocol::Copy,
        15 => Protocol::Text(1),
        16 => Protocol::Binary(7),
        17 if rng.random_bool(0.5) => Protocol::Untyped(7),
        17 => Protocol::Text(7),
        18 if rng.random_bool(0.5) => Protocol::Part(2),
        18 => Protocol::Binary(1),
        _ => Protocol::Text(1),
    }
}
