//! Runs a plan that gathers: fetches the fragments from their shards, hands them to one server, and lets it run the
//! residue.
//!
//! What is fetched is held here in its binary form until all of it is there, so its rows and bytes have limits. The
//! server of the residue is asked first what the client's own text means: its parameters and columns are what the
//! client is told, and the residue must have the same. In the extended protocol all of this happens at Bind, as
//! PostgreSQL takes its snapshot then; what is left is a portal of one server.

use super::choose::Wants;
use super::dispatch::refused;
use super::many::Merging;
use super::names::Prepared;
use super::state::{Block, Phase};
use super::step::steps;
use super::{Halt, Session};
use crate::merge::{Arrays, NotTaken};
use crate::plan::refuse::Reason;
use crate::plan::{Gather, Merge, Refusal, Role};
use mothership_proto::backend::{self, Column, tag};
use mothership_proto::frame::Frame;
use mothership_proto::frontend::{self, Bind, Parse, Target};
use mothership_proto::ledger::{Audience, Event, Owed, Step as Reply};
use mothership_proto::report::{Fields, Report, sqlstate};
use std::rc::Rc;
use std::sync::Arc;

/// The portal of the fetches, which is nobody else's.
const PORTAL: &[u8] = b"mothership_gather";

/// A plan that gathers, with the texts and shards of one run.
pub struct GatherWork {
    /// The plan.
    pub plan: Arc<Gather>,
    /// The texts of the fragments.
    pub fragments: Vec<String>,
    /// Their shards.
    pub shards: Vec<Vec<usize>>,
    /// The text that runs on their rows.
    pub residue: String,
}

/// A value of a parameter: its format, and its bytes if it is not NULL.
type Value<'v> = (i16, Option<&'v [u8]>);

/// What a server says of the client's own text.
#[derive(Default)]
struct Described {
    /// The types of its parameters, in the client's object ids.
    parameters: Vec<u8>,
    columns: Vec<Column>,
}

/// What is being asked of one server.
struct Leg {
    at: usize,
    /// The client's own text, to be parsed unless the server knows it under this name.
    describes: bool,
    fragments: Vec<usize>,
}

/// What has come of all of them.
struct Fetching {
    arrays: Vec<Arrays>,
    described: Described,
    /// What failed had begun to run.
    is_running: bool,
    rows_left: u64,
    bytes_left: usize,
    error: Option<Vec<u8>>,
    wrong: Option<Report>,
}

impl Session {
    /// Runs a simple query that gathers, up to its CommandComplete, which is returned and not written.
    pub(super) async fn query_gather(
        &mut self,
        sql: &[u8],
        work: &GatherWork,
    ) -> Result<Vec<u8>, Halt> {
        let wants = match work.plan.role {
            Role::Primary(_) => Wants::Primary,
            Role::Replica => self.wants(false, &steps(sql, self.standard_strings()), None),
        };
        let residue = self.residue_shard(work);
        let mut legs = self.attach_legs(work, residue, &wants).await?;
        let mut fetching = self.fetching(work);
        if let Some(leg) = legs
            .iter_mut()
            .find(|leg| self.servers[leg.at].shard == residue)
        {
            leg.describes = true;
            self.servers[leg.at].lease.wire.with_output(|out| {
                Parse {
                    name: b"",
                    sql,
                    types: &[],
                }
                .put(out);
                frontend::put_describe(out, Target::Statement, b"");
            });
            let ledger = &mut self.servers[leg.at].lease.ledger;
            ledger.push(Owed::Parse(0, Audience::Router));
            ledger.push(Owed::DescribeStatement(Audience::Router));
        }
        for leg in &legs {
            self.send_fragments(leg, work, (&[], &[]));
        }
        for leg in &legs {
            self.collect_leg(leg, &mut fetching).await?;
        }
        let (arrays, described) = self.fetched(fetching)?;
        let at = self.place_of(residue)?;
        self.query_residue(at, work, &arrays, &described).await
    }

    /// The same at Bind: afterwards the portal is there on the server of the shard that is returned.
    pub(super) async fn bind_gather(
        &mut self,
        bind: &Bind<'_>,
        statement: &Rc<Prepared>,
        work: &GatherWork,
    ) -> Result<usize, Halt> {
        if self
            .held
            .as_ref()
            .is_some_and(|(name, _)| **name != *bind.statement)
        {
            self.flush_held().await?;
        }
        self.settle_active().await?;
        let alone = self.is_alone_in_segment(bind.portal);
        let wants = match work.plan.role {
            Role::Replica if alone => self.wants(false, &statement.steps, None),
            _ => Wants::Primary,
        };
        let residue = self.residue_shard(work);
        let mut legs = self.attach_legs(work, residue, &wants).await?;
        match self.held.take() {
            Some((name, held)) if *name == *bind.statement => {
                self.parse_on(residue, &name, &held).await?;
                self.settle_active().await?;
            }
            other => self.held = other,
        }
        let at = self.place_of(residue)?;
        let name = self.on_server(at, bind.statement, statement).await?;
        let mut fetching = self.fetching(work);
        let asks = Leg {
            at,
            describes: true,
            fragments: Vec::new(),
        };
        self.servers[at].inbox.in_segment = true;
        self.servers[at].lease.wire.with_output(|out| {
            frontend::put_describe(out, Target::Statement, name.as_bytes());
            out.extend_from_slice(frontend::FLUSH);
        });
        let owed = Owed::DescribeStatement(Audience::Router);
        self.servers[at].lease.ledger.push(owed);
        self.collect_leg(&asks, &mut fetching).await?;
        let values: Vec<Value<'_>> = bind.values().collect();
        if fetching.error.is_none() {
            if fetching.described.parameters.len() != values.len() * 4 {
                return Err(self.wrong_count(bind, fetching.described.parameters.len() / 4));
            }
            legs.retain(|leg| !leg.fragments.is_empty());
            for leg in &legs {
                self.send_fragments(leg, work, (&fetching.described.parameters, &values));
            }
            for leg in &legs {
                self.collect_leg(leg, &mut fetching).await?;
            }
        }
        let (arrays, described) = self.fetched(fetching)?;
        self.active = Some(at);
        self.bind_residue(at, bind, work, &values, &arrays, &described)
            .await?;
        Ok(residue)
    }

    /// PostgreSQL's own words.
    fn wrong_count(&mut self, bind: &Bind<'_>, needed: usize) -> Halt {
        let name = String::from_utf8_lossy(bind.statement);
        let given = bind.len();
        Report::error(
            sqlstate::PROTOCOL_VIOLATION,
            format!(
                "bind message supplies {given} parameters, but prepared statement \"{name}\" requires {needed}"
            ),
        )
        .into()
    }

    /// Where the residue runs: at home if it reads tables there, else where the transaction is, else on one of the
    /// shards, another one for each client.
    fn residue_shard(&self, work: &GatherWork) -> usize {
        if work.plan.home {
            return self.topology.home;
        }
        if self.state.block != Block::None
            && let Some(attached) = self.servers.first()
        {
            return attached.shard;
        }
        let mut shards: Vec<usize> = work.shards.iter().flatten().copied().collect();
        shards.sort_unstable();
        shards.dedup();
        match shards.len() {
            0 => self.topology.home,
            count => shards[self.number as usize % count],
        }
    }

    /// Servers for all of it, in the order of the shards.
    async fn attach_legs(
        &mut self,
        work: &GatherWork,
        residue: usize,
        wants: &Wants,
    ) -> Result<Vec<Leg>, Halt> {
        let mut shards: Vec<usize> = work.shards.iter().flatten().copied().collect();
        shards.push(residue);
        shards.sort_unstable();
        shards.dedup();
        for shard in &shards {
            self.attach_to(*shard, wants.clone()).await?;
        }
        let mut legs = Vec::with_capacity(shards.len());
        for shard in shards {
            let at = self.place_of(shard)?;
            let of = work.shards.iter().enumerate();
            let fragments = of.filter(|(_, shards)| shards.contains(&shard));
            self.servers[at].inbox.first_leg = false;
            legs.push(Leg {
                at,
                describes: false,
                fragments: fragments.map(|(number, _)| number).collect(),
            });
        }
        Ok(legs)
    }

    /// The server of a shard that was attached before.
    fn place_of(&self, shard: usize) -> Result<usize, Halt> {
        let at = self.servers.iter().position(|s| s.shard == shard);
        // It was lost, and the client was told.
        at.ok_or(Halt::Failed)
    }

    fn fetching(&self, work: &GatherWork) -> Fetching {
        let limits = &self.topology.config.limits;
        let arrays = work.plan.fragments.iter().map(|f| Arrays::new(&f.elements));
        Fetching {
            arrays: arrays.collect(),
            described: Described::default(),
            is_running: false,
            rows_left: limits.gathered_rows.get().into(),
            bytes_left: limits.gathered_size.bytes(),
            error: None,
            wrong: None,
        }
    }

    /// Sends one server its fragments, with the parameters of the statement.
    fn send_fragments(
        &mut self,
        leg: &Leg,
        work: &GatherWork,
        (types, values): (&[u8], &[Value<'_>]),
    ) {
        let segment = self.state.phase == Phase::Segment;
        // One more than there may be, to notice it.
        let most = self.topology.config.limits.gathered_rows.get();
        let most = i32::try_from(most).unwrap_or(i32::MAX).saturating_add(1);
        let super::Attached { lease, inbox, .. } = &mut self.servers[leg.at];
        inbox.in_segment |= segment;
        inbox.touched.add(None);
        lease.notes.unnamed = None;
        let types = inbox.types_on_shard(types);
        for fragment in &leg.fragments {
            let sql = work.fragments[*fragment].as_bytes();
            lease.wire.with_output(|out| {
                Parse {
                    name: b"",
                    sql,
                    types: &types,
                }
                .put(out);
                frontend::put_bind(out, (PORTAL, b""), values.iter().copied(), &[1]);
                frontend::put_execute(out, PORTAL, most);
                frontend::put_close(out, Target::Portal, PORTAL);
            });
            for owed in [
                Owed::Parse(0, Audience::Router),
                Owed::Bind(Audience::Router),
                Owed::Execute(Audience::Router),
                Owed::Close(Audience::Router),
            ] {
                lease.ledger.push(owed);
            }
        }
        if segment {
            lease.wire.send(frontend::FLUSH);
        } else {
            lease.wire.send(frontend::SYNC);
            lease.ledger.push(Owed::Sync(Audience::Router));
        }
    }

    /// Takes what one server says, to its end.
    async fn collect_leg(&mut self, leg: &Leg, fetching: &mut Fetching) -> Result<(), Halt> {
        let segment = self.state.phase == Phase::Segment;
        let mut describes = leg.describes;
        let mut runs = false;
        let mut fragments = leg.fragments.iter();
        let mut fragment = fragments.next();
        if segment && !describes && fragment.is_none() {
            return Ok(());
        }
        self.each_message(leg.at, |frame, reply, _| {
            match (reply.event, frame.tag()) {
                (Event::Ready(_), _) => return true,
                (Event::Failed, _) => {
                    if fetching.error.is_none() {
                        fetching.error = Some(frame.body().to_vec());
                        fetching.is_running = runs;
                    }
                    return segment;
                }
                (_, tag::PARSE_COMPLETE) => runs = false,
                (_, tag::BIND_COMPLETE) => runs = true,
                (_, tag::DATA_ROW) => fetching.row(fragment, frame.body()),
                (_, tag::PARAMETER_DESCRIPTION) => {
                    fetching.described.parameters =
                        frame.body().get(2..).unwrap_or_default().to_vec();
                }
                (_, tag::ROW_DESCRIPTION) => {
                    fetching.columns(frame);
                    describes = false;
                }
                (_, tag::NO_DATA) => describes = false,
                (_, tag::CLOSE_COMPLETE) => fragment = fragments.next(),
                _ => {}
            }
            segment && !describes && fragment.is_none()
        })
        .await
    }

    /// All that was fetched, or what went wrong.
    fn fetched(&mut self, fetching: Fetching) -> Result<(Vec<Vec<u8>>, Described), Halt> {
        if let Some(body) = fetching.error {
            // PostgreSQL would have said this much before.
            if fetching.is_running && self.state.phase == Phase::Segment {
                self.client.send(backend::BIND_COMPLETE);
            } else if fetching.is_running {
                let columns = &fetching.described.columns;
                self.client
                    .with_output(|out| backend::put_columns(out, columns));
            }
            return Err(self.failed_with(&body));
        }
        if let Some(report) = fetching.wrong {
            return Err(report.into());
        }
        let arrays = fetching.arrays.into_iter().flat_map(Arrays::finish);
        Ok((arrays.collect(), fetching.described))
    }

    /// A server's error is the client's.
    fn failed_with(&mut self, body: &[u8]) -> Halt {
        if self.state.phase == Phase::Segment {
            return self.failed_in_segment(body);
        }
        let mut merging = Merging::new(&Merge::Concat, 1);
        merging.error = Some(body.to_vec());
        match self.finish_many(merging) {
            Err(halt) => halt,
            Ok(_) => Halt::Failed,
        }
    }

    /// Runs the residue as a simple query would be: one server, results as text.
    async fn query_residue(
        &mut self,
        at: usize,
        work: &GatherWork,
        arrays: &[Vec<u8>],
        described: &Described,
    ) -> Result<Vec<u8>, Halt> {
        let super::Attached { lease, inbox, .. } = &mut self.servers[at];
        inbox.first_leg = true;
        lease.wire.with_output(|out| {
            let sql = work.residue.as_bytes();
            Parse {
                name: b"",
                sql,
                types: &[],
            }
            .put(out);
            frontend::put_describe(out, Target::Statement, b"");
            let values = arrays.iter().map(|array| (1, Some(array.as_slice())));
            frontend::put_bind(out, (PORTAL, b""), values, &[0]);
            frontend::put_execute(out, PORTAL, 0);
            frontend::put_close(out, Target::Portal, PORTAL);
            out.extend_from_slice(frontend::SYNC);
        });
        for owed in [
            Owed::Parse(0, Audience::Router),
            Owed::DescribeStatement(Audience::Router),
            Owed::Bind(Audience::Router),
            Owed::Execute(Audience::Router),
            Owed::Close(Audience::Router),
            Owed::Sync(Audience::Router),
        ] {
            lease.ledger.push(owed);
        }
        let mut checking = Checking::new(described);
        let mut command = Vec::new();
        self.each_message(at, |frame, reply, client| {
            checking.take(frame, reply);
            if checking.is_wrong() {
                return matches!(reply.event, Event::Ready(_));
            }
            match (reply.event, frame.tag()) {
                (_, tag::ROW_DESCRIPTION) => {
                    client.with_output(|out| backend::put_columns(out, &described.columns));
                }
                (_, tag::DATA_ROW) => client.send(frame.bytes),
                (Event::Completed, tag::COMMAND_COMPLETE) => {
                    command = backend::command(frame.body()).unwrap_or_default().to_vec();
                }
                _ => {}
            }
            matches!(reply.event, Event::Ready(_))
        })
        .await?;
        match checking.outcome(&work.plan) {
            Ok(()) => Ok(command),
            Err(Wrong::Server(body)) => Err(self.failed_with(&body)),
            Err(Wrong::Ours(report)) => Err(report.into()),
        }
    }

    /// Makes the client's portal of the residue.
    async fn bind_residue(
        &mut self,
        at: usize,
        bind: &Bind<'_>,
        work: &GatherWork,
        values: &[Value<'_>],
        arrays: &[Vec<u8>],
        described: &Described,
    ) -> Result<(), Halt> {
        let super::Attached { lease, inbox, .. } = &mut self.servers[at];
        inbox.first_leg = true;
        let types = inbox.types_on_shard(&described.parameters);
        lease.notes.unnamed = None;
        lease.wire.with_output(|out| {
            let sql = work.residue.as_bytes();
            Parse {
                name: b"",
                sql,
                types: &types,
            }
            .put(out);
            frontend::put_describe(out, Target::Statement, b"");
            out.extend_from_slice(frontend::FLUSH);
        });
        lease.ledger.push(Owed::Parse(0, Audience::Router));
        lease.ledger.push(Owed::DescribeStatement(Audience::Router));
        let mut checking = Checking::new(described);
        self.each_message(at, |frame, reply, _| {
            checking.take(frame, reply);
            let described = matches!(frame.tag(), tag::ROW_DESCRIPTION | tag::NO_DATA);
            described || reply.event == Event::Failed
        })
        .await?;
        match checking.outcome(&work.plan) {
            Ok(()) => {}
            Err(Wrong::Server(body)) => return Err(self.failed_with(&body)),
            Err(Wrong::Ours(report)) => return Err(report.into()),
        }
        let formats: Vec<i16> = bind.result_formats().collect();
        let lease = &mut self.servers[at].lease;
        lease.wire.with_output(|out| {
            let arrays = arrays.iter().map(|array| (1, Some(array.as_slice())));
            let values = values
                .iter()
                .copied()
                .take(work.plan.parameters)
                .chain(arrays);
            let values: Vec<Value<'_>> = values.collect();
            frontend::put_bind(out, (bind.portal, b""), values.into_iter(), &formats);
        });
        lease.ledger.push(Owed::Bind(Audience::Client));
        Ok(())
    }
}

impl Fetching {
    fn row(&mut self, fragment: Option<&usize>, body: &[u8]) {
        if self.error.is_some() || self.wrong.is_some() {
            return;
        }
        let Some(arrays) = fragment.and_then(|fragment| self.arrays.get_mut(*fragment)) else {
            return;
        };
        match arrays.add(body) {
            Ok(bytes) => match (
                self.rows_left.checked_sub(1),
                self.bytes_left.checked_sub(bytes),
            ) {
                (Some(rows), Some(bytes)) => (self.rows_left, self.bytes_left) = (rows, bytes),
                (None, _) => self.wrong = Some(too_much("rows", "limits.gathered_rows")),
                (_, None) => self.wrong = Some(too_much("bytes", "limits.gathered_size")),
            },
            Err(NotTaken::Full) => self.wrong = Some(too_much("rows", "limits.gathered_rows")),
            Err(error @ NotTaken::Malformed) => {
                self.wrong = Some(Report::error(sqlstate::INTERNAL_ERROR, error.to_string()));
            }
        }
        if self.wrong.is_some() {
            // Nobody will ask for them.
            self.arrays
                .iter_mut()
                .for_each(|arrays| *arrays = Arrays::new(&[]));
        }
    }

    fn columns(&mut self, frame: Frame<'_>) {
        match backend::columns(frame.body()) {
            Ok(columns) => self.described.columns = columns,
            Err(_) => {
                let message = "server sent a malformed message";
                self.wrong = Some(Report::error(sqlstate::INTERNAL_ERROR, message));
            }
        }
    }
}

fn too_much(what: &str, setting: &str) -> Report {
    Report::error(
        sqlstate::PROGRAM_LIMIT_EXCEEDED,
        format!("statement needs more {what} of several shards at once than are allowed"),
    )
    .hint(format!(
        "Restrict it by conditions on single tables, or raise the setting {setting}."
    ))
}

/// Holds the residue against what the client's own text means.
struct Checking<'d> {
    described: &'d Described,
    parsed: bool,
    failed: Option<Vec<u8>>,
    differs: Option<String>,
}

enum Wrong {
    Server(Vec<u8>),
    Ours(Report),
}

impl<'d> Checking<'d> {
    fn new(described: &'d Described) -> Self {
        Checking {
            described,
            parsed: false,
            failed: None,
            differs: None,
        }
    }

    fn take(&mut self, frame: Frame<'_>, reply: Reply) {
        match (reply.event, frame.tag()) {
            (Event::Failed, _) if self.parsed => {
                self.failed
                    .get_or_insert_with(|| without_position(frame.body()));
            }
            (Event::Failed, _) => {
                // The client's own text was fine.
                let fields = Fields::read(frame.body());
                let said = String::from_utf8_lossy(fields.message.unwrap_or_default());
                self.differs.get_or_insert_with(|| said.into_owned());
            }
            (Event::Parsed(_), _) => self.parsed = true,
            (_, tag::ROW_DESCRIPTION) => {
                let columns = backend::columns(frame.body()).unwrap_or_default();
                let same = |(a, b): (&Column, &Column)| {
                    a.name == b.name && a.type_oid == b.type_oid && a.modifier == b.modifier
                };
                let wanted = &self.described.columns;
                if columns.len() != wanted.len() || !columns.iter().zip(wanted).all(same) {
                    self.differs = Some("its columns would have other names or types".to_owned());
                }
            }
            _ => {}
        }
    }

    fn is_wrong(&self) -> bool {
        self.failed.is_some() || self.differs.is_some()
    }

    fn outcome(self, plan: &Gather) -> Result<(), Wrong> {
        if let Some(body) = self.failed {
            return Err(Wrong::Server(body));
        }
        match self.differs {
            None => Ok(()),
            Some(said) => {
                let detail = format!("{}; {said}", plan.why.message());
                let refusal = Refusal::about(Reason::GatherDiffers, detail);
                Err(Wrong::Ours(refused(&refusal)))
            }
        }
    }
}

/// An error without its place, which is in a text that the client has not written.
fn without_position(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    for field in body.split_inclusive(|byte| *byte == 0) {
        if field.first() != Some(&b'P') {
            out.extend_from_slice(field);
        }
    }
    out
}
