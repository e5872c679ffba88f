//! EXPLAIN of a statement over several shards: each server explains its part, and the router says how they come
//! together.
//!
//! With ANALYZE every part that writes is executed once, in the transaction that the statement itself would have. Of
//! a statement that gathers, what is fetched is executed by EXPLAIN and then once more to have its rows. A statement
//! of one shard does not come here: its server's answer passes untouched.

use super::options::{Format, Options};
use crate::session::choose::Wants;
use crate::session::dispatch::{Dispatch, Many, not_utf8, refused};
use crate::session::gather::{Fetching, GatherWork, Leg, PORTAL, Value, without_position};
use crate::session::inbox::Notices;
use crate::session::servers::AttachedId;
use crate::session::state::{Phase, State};
use crate::session::turns::{Order, Turns, patiently};
use crate::session::{Attached, Halt, Servers, Session};
use crate::statements::names::{Origin, Prepared};
use crate::statements::step::{Step, steps};
use crate::topology::Topology;
use mothership_merge::plans::{Fact, Plans, ServerPlan, without_arrays};
use mothership_plan::gather::{Ending, Written};
use mothership_plan::refuse::Reason;
use mothership_plan::{Merge, Params, Plan, Refusal, report};
use mothership_proto::backend::{self, tag};
use mothership_proto::frontend::{Parse, Target};
use mothership_proto::ledger::{Audience, Event};
use mothership_shardmap::ShardId;
use mothership_sql::effect::{Statement, analyse};
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An EXPLAIN that concerns several shards.
pub(in crate::session) struct Explaining {
    options: Options,
    /// The client's whole text of it.
    text: Box<[u8]>,
    /// Where the statement begins that is explained.
    inner: usize,
    over: Over,
    /// What EXPLAIN (ROUTE) says of it.
    report: Vec<String>,
}

/// Where its parts are.
enum Over {
    Many(Many),
    Gather(Box<GatherWork>),
}

/// A text for one server that explains its part.
struct Question<'q> {
    at: AttachedId,
    title: String,
    /// The whole text.
    sql: Cow<'q, [u8]>,
    /// Behind the statement's own parameters.
    arrays: &'q [Vec<u8>],
    /// Places in it are places in the client's text.
    own: bool,
}

/// The statement's parameters: their types and values.
#[derive(Clone, Copy)]
pub(super) struct ExplainParameters<'g> {
    pub types: &'g [u8],
    pub values: &'g [Value<'g>],
}

impl Explaining {
    /// Whether something is executed that changes anything.
    pub(in crate::session) fn writes(&self) -> bool {
        self.options.analyze && self.may_write()
    }

    fn may_write(&self) -> bool {
        match &self.over {
            Over::Many(many) => many.writes,
            Over::Gather(work) => work.writes(),
        }
    }

    /// The type of the only column.
    pub(super) fn is_json(&self) -> bool {
        self.options.format == Format::Json
    }

    fn head(&self) -> &[u8] {
        &self.text[..self.inner]
    }

    fn statement(&self) -> &[u8] {
        &self.text[self.inner..]
    }

    /// The client's EXPLAIN of another text.
    fn of(&self, sql: &[u8]) -> Vec<u8> {
        [self.head(), sql].concat()
    }

    /// The shard that says what the statement's parameters are.
    pub(super) fn first_shard(&self, session: &Session) -> ShardId {
        match &self.over {
            Over::Many(many) => many
                .legs
                .first()
                .map_or(session.topology.home, |(shard, _)| *shard),
            Over::Gather(work) => session.residue_shard(work),
        }
    }
}

impl Servers {
    fn send_question(
        &mut self,
        state: &State,
        question: &Question<'_>,
        writes: bool,
        given: ExplainParameters<'_>,
    ) {
        let segment = state.phase == Phase::Segment;
        let Attached { lease, inbox, .. } = &mut self[question.at];
        inbox.in_segment |= segment;
        inbox.wrote |= writes;
        inbox.may_write |= writes;
        inbox.touched.add(None);
        let types = inbox.types_on_shard(given.types);
        let arrays = question.arrays.iter();
        let arrays = arrays.map(|array| (1, Some(array.as_slice())));
        let values: Vec<Value<'_>> = given.values.iter().copied().chain(arrays).collect();
        lease.request(Audience::Router, |send| {
            send.parse(&question.sql, &types);
            send.bind((PORTAL, b""), values.into_iter(), &[]);
            send.execute(PORTAL, 0);
            send.close(Target::Portal, PORTAL);
            send.flush_or_sync(segment);
        });
    }

    /// What was fetched from each server.
    fn fetched_facts(
        &self,
        topology: &Topology,
        explaining: &Explaining,
        fetching: &Fetching,
    ) -> Vec<ServerPlan> {
        let described = fetching.tallies.iter().map(|(at, tally)| {
            let mut facts = vec![
                ("Rows".to_owned(), Fact::Count(tally.rows)),
                ("Bytes".to_owned(), Fact::Count(tally.bytes)),
            ];
            if explaining.options.times() {
                facts.push(("Time".to_owned(), time(tally.time)));
            }
            let shard = self[*at].shard;
            ServerPlan {
                title: format!("Fetched from {}", topology.shards[shard].name),
                facts,
                lines: Vec::new(),
            }
        });
        described.collect()
    }
}

impl Session {
    /// The EXPLAIN that a step is, if what it explains needs several shards or values of the router.
    ///
    /// # Errors
    /// Where the statement is refused, or cannot be explained.
    pub(in crate::session) async fn explaining(
        &mut self,
        statement: &Prepared,
        step: &Step,
        params: &Params<'_>,
    ) -> Result<Option<Explaining>, Halt> {
        let (Some(inner), Some(model)) = (step.explains, self.known.model.clone()) else {
            return Ok(None);
        };
        let text: Box<[u8]> = step.span.of(&statement.sql).into();
        let begins = inner.start - step.span.start;
        let explained = self.explained_statement(statement, &text[begins..]);
        let plan = Box::pin(self.look_for_unknown(&explained, 0)).await?;
        let is_fill = matches!(plan.as_deref(), Some(Plan::Fill(_)));
        let filled = match (is_fill, &statement.origin) {
            (true, Origin::Parse(_)) => {
                return Err(unexplained("its values are made by the router"));
            }
            (true, _) => Box::pin(self.filled_query(&explained, 0))
                .await?
                .map(|(filled, _)| filled),
            (false, _) => None,
        };
        let (explained, plan) = match filled {
            Some(filled) => (filled, None),
            None => (explained, plan),
        };
        Box::pin(self.ask_rights(&explained, 0)).await?;
        let over = match self.dispatch_planned(&explained, 0, params, plan)? {
            Dispatch::One { .. } if !is_fill => return Ok(None),
            Dispatch::Many(many) if many.locks_alone() => return Ok(None),
            Dispatch::One { shard, writes, .. } => {
                let text = Rc::from(&*explained.sql);
                Over::Many(Many::one(shard, Some(text), writes))
            }
            Dispatch::Many(many) if many.only_on.is_some() => {
                return Err(unexplained("it sets the shard key"));
            }
            Dispatch::Many(many) if many.copy_in || many.is_step_by_step() || many.password => {
                return Err(unexplained(
                    "it is no query, INSERT, UPDATE, DELETE or MERGE",
                ));
            }
            Dispatch::Many(many) => Over::Many(*many),
            Dispatch::Gather(work) => Over::Gather(work),
        };
        let options = Options::of(&text[..begins], self.standard_strings());
        if let Some(why) = why_unexplained(&over, &options) {
            return Err(unexplained(why));
        }
        let sql = std::str::from_utf8(&explained.sql).map_err(|_| not_utf8())?;
        let plan = self.plan(&explained, 0, sql, &model)?;
        let pin = self.pin(&explained, 0);
        let params = &Params {
            literals: explained.literals(),
            ..*params
        };
        let report = report(
            sql,
            &plan,
            params,
            model.map(),
            &self.state.text_context(),
            pin.as_ref(),
        );
        Ok(Some(Explaining {
            options,
            text,
            inner: begins,
            over,
            report,
        }))
    }

    /// EXPLAIN of an EXECUTE has the plan of one server.
    pub(in crate::session) fn check_explained(
        &self,
        sql: &[u8],
        work: &Dispatch,
    ) -> Result<(), Halt> {
        let statement = analyse(sql, self.standard_strings()).statement;
        match (statement, work) {
            (_, Dispatch::One { .. }) => Ok(()),
            (Statement::Explain { .. }, _) => Err(unexplained(
                "explain the prepared statement itself, and not its EXECUTE",
            )),
            _ => Ok(()),
        }
    }

    /// The statement that an EXPLAIN explains, with the same parameters.
    pub(in crate::session) fn explained_statement(
        &self,
        statement: &Prepared,
        sql: &[u8],
    ) -> Rc<Prepared> {
        match &statement.origin {
            Origin::Parse(types) => self.statement(&Parse {
                name: b"",
                sql,
                types,
            }),
            Origin::Prepare(_) | Origin::Query => self.queried(sql),
        }
    }

    /// How what an EXPLAIN executes goes to its shards.
    pub(super) fn explaining_turns(&self, explaining: &Explaining) -> Turns {
        if !explaining.writes() {
            return Turns::ONE;
        }
        let sql = explaining.statement();
        match &explaining.over {
            Over::Many(many) => self.turns(sql, &steps(sql, self.standard_strings()), many),
            Over::Gather(work) => self.gathering_turns(sql, work),
        }
    }

    /// Explains it: the rows of the answer.
    pub(super) async fn explain_over(
        &mut self,
        explaining: &Explaining,
        given: ExplainParameters<'_>,
        mut turns: Turns,
    ) -> Result<Vec<String>, Halt> {
        let shared = Arc::clone(&self.core.shared);
        self.begin_attempts();
        loop {
            self.begin_attempt(turns);
            let attempt = self.explain_once(explaining, given, turns);
            let done = match explaining.writes() {
                true => patiently(&shared.stuck, attempt).await,
                false => attempt.await,
            };
            if !self.end_attempt(&mut turns, explaining.statement()).await? {
                return done;
            }
        }
    }

    async fn explain_once(
        &mut self,
        explaining: &Explaining,
        given: ExplainParameters<'_>,
        turns: Turns,
    ) -> Result<Vec<String>, Halt> {
        if explaining.writes() {
            self.transaction.begin_implicit(&mut self.state);
        }
        let begun = Instant::now();
        let parts = match &explaining.over {
            Over::Many(many) => self.explain_many(explaining, many, given, turns).await?,
            Over::Gather(work) => self.explain_gather(explaining, work, given, turns).await?,
        };
        self.servers.active = None;
        if let ([part], Over::Many(_)) = (&parts[..], &explaining.over) {
            return Ok(part.lines.clone());
        }
        let (kind, facts) = facts_of(&self.topology, explaining);
        let plans = Plans {
            kind,
            facts,
            parts,
            time: explaining.options.sums_up().then(|| time(begun.elapsed())),
        };
        match explaining.options.format {
            Format::Json => match plans.json() {
                Some(document) => Ok(vec![document]),
                None => Err(unexplained("a server's answer was not understood")),
            },
            Format::Text | Format::Other => Ok(plans.text()),
        }
    }

    /// Each shard explains its own text of the statement.
    async fn explain_many(
        &mut self,
        explaining: &Explaining,
        many: &Many,
        given: ExplainParameters<'_>,
        turns: Turns,
    ) -> Result<Vec<ServerPlan>, Halt> {
        self.open_snapshots(many).await?;
        let mut servers = Vec::new();
        for (shard, _) in &many.legs {
            let at = self.attach_to(*shard, Wants::Primary).await?;
            self.check_isolation(at, many.legs.len()).await?;
            servers.push(at);
        }
        if turns.saves() {
            self.servers.save(&self.state, many);
        }
        if explaining.writes() && many.locks_copies() {
            // Plans do not say how many rows were changed.
            self.check_copies_read()?;
            self.lock_copies(&servers).await?;
        }
        let timed = match servers.first() {
            Some(&at) => self.timed(many, explaining.statement(), at).await?,
            None => None,
        };
        let legs = timed.as_ref().map_or(&many.legs, |timed| &timed.legs);
        if let (Some(&at), true) = (servers.first(), legs.iter().any(|(_, text)| text.is_some())) {
            self.check_own_text(at, explaining).await?;
        }
        let mut questions = Vec::with_capacity(legs.len());
        for (at, (shard, text)) in servers.into_iter().zip(legs) {
            questions.push(Question {
                at,
                title: format!("Shard {}", self.topology.shards[*shard].name),
                sql: match text {
                    Some(text) => Cow::Owned(explaining.of(text)),
                    None => Cow::Borrowed(&*explaining.text),
                },
                arrays: &[],
                own: text.is_none(),
            });
        }
        let questions = (&*questions, turns.order, many.merge == Merge::First);
        self.ask_plans(explaining, questions, given).await
    }

    /// The shards explain what is fetched of them, and a server what it does with it.
    async fn explain_gather(
        &mut self,
        explaining: &Explaining,
        work: &GatherWork,
        given: ExplainParameters<'_>,
        turns: Turns,
    ) -> Result<Vec<ServerPlan>, Halt> {
        let residue = self.residue_shard(work);
        let legs = self.attach_legs(work, residue, &Wants::Primary).await?;
        self.servers.save_legs(&self.state, &legs, turns);
        self.check_own_text(self.servers.place_of(residue)?, explaining)
            .await?;
        let mut parts = Vec::new();
        for number in 0..work.fragments.len() {
            let asked = (&*legs, turns.order);
            parts.extend(
                self.explain_fragment(explaining, (work, number), asked, given)
                    .await?,
            );
        }
        let mut fetching = self.topology.fetching(work);
        if explaining.options.analyze {
            let given = (given.types, given.values);
            self.fetch(&legs, work, given, &mut fetching).await?;
            parts.extend(
                self.servers
                    .fetched_facts(&self.topology, explaining, &fetching),
            );
            // An error of a fragment has no columns before it here.
            fetching.is_running = false;
        }
        let (arrays, _) = self.fetched(fetching)?;
        let mut servers = vec![self.servers.place_of(residue)?];
        if let Ending::Write(_) = &work.plan.ending {
            servers.clear();
            for shard in &work.target {
                servers.push(self.attach_saved(*shard, turns).await?);
            }
        }
        let writes = matches!(work.plan.ending, Ending::Write(_));
        let copies = matches!(work.plan.ending, Ending::Write(Written::Everywhere));
        if explaining.writes() && copies && servers.len() > 1 {
            self.check_copies_read()?;
            self.lock_copies(&servers).await?;
        }
        let text = self
            .with_times(explaining.statement(), &work.residue, writes)
            .await?;
        let question = |at: AttachedId| Question {
            at,
            title: format!(
                "Residue on {}",
                self.topology.shards[self.servers[at].shard].name
            ),
            sql: Cow::Owned(explaining.of(text.as_bytes())),
            arrays: &arrays,
            own: false,
        };
        let questions: Vec<Question<'_>> = servers.into_iter().map(question).collect();
        let questions = (&*questions, turns.order, copies);
        let mut found = self.ask_plans(explaining, questions, given).await?;
        for part in &mut found {
            if explaining.options.verbose {
                part.lines
                    .iter_mut()
                    .for_each(|line| *line = without_arrays(line));
                part.facts
                    .push(("Query".to_owned(), Fact::Text(text.to_string())));
            }
            if !explaining.options.analyze {
                let note = "planned for no rows, as nothing is fetched";
                part.facts
                    .push(("Note".to_owned(), Fact::Text(note.to_owned())));
            }
        }
        parts.extend(found);
        Ok(parts)
    }

    /// The shards explain what is fetched of them by one fragment.
    async fn explain_fragment(
        &mut self,
        explaining: &Explaining,
        (work, number): (&GatherWork, usize),
        (legs, order): (&[Leg], Order),
        given: ExplainParameters<'_>,
    ) -> Result<Vec<ServerPlan>, Halt> {
        let mut questions = Vec::new();
        let mut texts = Vec::new();
        for leg in legs.iter().filter(|leg| leg.fragments.contains(&number)) {
            let shard = self.servers[leg.at].shard;
            texts.push(work.text(number, shard));
            let name = &self.topology.shards[shard].name;
            questions.push(Question {
                at: leg.at,
                title: format!("Fragment {} on {name}", number + 1),
                sql: Cow::Owned(explaining.of(work.text(number, shard).as_bytes())),
                arrays: &[],
                own: false,
            });
        }
        let questions = (&*questions, order, false);
        let mut found = self.ask_plans(explaining, questions, given).await?;
        if explaining.options.verbose {
            for (part, text) in found.iter_mut().zip(texts) {
                part.facts
                    .push(("Query".to_owned(), Fact::Text(text.to_owned())));
            }
        }
        if !work.plan.fragments[number].narrowing.by.is_empty() {
            let note = "explained without the keys of other fragments";
            for part in &mut found {
                part.facts
                    .push(("Note".to_owned(), Fact::Text(note.to_owned())));
            }
        }
        Ok(found)
    }

    /// If something is wrong with the client's text, a server says so of it, and not of what it gets in its place. What is
    /// bound was parsed before.
    async fn check_own_text(
        &mut self,
        at: AttachedId,
        explaining: &Explaining,
    ) -> Result<(), Halt> {
        if self.state.phase != Phase::Segment {
            self.describe_text(at, &explaining.text, &[]).await?;
        }
        Ok(())
    }

    /// Asks several servers in the order of locks, and takes their answers.
    async fn ask_plans(
        &mut self,
        explaining: &Explaining,
        (questions, order, copies): (&[Question<'_>], Order, bool),
        given: ExplainParameters<'_>,
    ) -> Result<Vec<ServerPlan>, Halt> {
        let begun = Instant::now();
        let segment = self.state.phase == Phase::Segment;
        let shard = |question: &Question<'_>| self.servers[question.at].shard;
        let shards: Vec<ShardId> = questions.iter().map(shard).collect();
        let mut parts: Vec<Option<ServerPlan>> = questions.iter().map(|_| None).collect();
        for batch in self.topology.batches_of(&shards, order, copies) {
            for &leg in &batch {
                let question = &questions[leg];
                self.servers[question.at].inbox.notices = Notices::of_same(leg);
                self.servers
                    .send_question(&self.state, question, explaining.writes(), given);
            }
            let mut failed: Option<Vec<u8>> = None;
            for leg in batch {
                let question = &questions[leg];
                let mut lines = Vec::new();
                self.each_message(question.at, |frame, reply, _| {
                    match (reply.event, frame.tag()) {
                        (Event::Failed, _) => {
                            failed.get_or_insert_with(|| match question.own {
                                true => frame.body().to_vec(),
                                false => without_position(frame.body()),
                            });
                            return segment;
                        }
                        (_, tag::DATA_ROW) => {
                            let values = backend::row_values(frame.body()).unwrap_or_default();
                            let line = values.first().copied().flatten().unwrap_or_default();
                            let line = String::from_utf8_lossy(line);
                            lines.extend(line.split('\n').map(str::to_owned));
                        }
                        (_, tag::CLOSE_COMPLETE) => return segment,
                        _ => {}
                    }
                    matches!(reply.event, Event::Ready(_))
                })
                .await?;
                let mut facts = Vec::new();
                if explaining.options.times() {
                    facts.push(("Time".to_owned(), time(begun.elapsed())));
                }
                parts[leg] = Some(ServerPlan {
                    title: question.title.clone(),
                    facts,
                    lines,
                });
            }
            if let Some(body) = failed {
                return Err(self.failed_with(&body));
            }
        }
        Ok(parts.into_iter().flatten().collect())
    }
}

fn time(elapsed: Duration) -> Fact {
    Fact::Time(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
}

/// Why a statement over several shards is not explained so.
fn why_unexplained(over: &Over, options: &Options) -> Option<&'static str> {
    if options.format == Format::Other {
        return Some("over several shards it is told as text or JSON");
    }
    let locks = match over {
        Over::Many(many) => many
            .sorted()
            .is_some_and(|flow| flow.rows_to_lock().is_some()),
        Over::Gather(work) => !work.locked.is_empty(),
    };
    if !options.analyze {
        return None;
    }
    if locks {
        // Each shard would lock as many as are wanted of all.
        return Some(
            "rows of several shards are locked one by one; without ANALYZE it is explained",
        );
    }
    let Over::Gather(work) = over else {
        return None;
    };
    if work.writes_first() {
        return Some("a write within WITH would be done twice; without ANALYZE it is explained");
    }
    let stores = matches!(work.plan.ending, Ending::Store(_) | Ending::Change(_));
    stores.then_some("rows of its query are written one by one; without ANALYZE it is explained")
}

fn unexplained(why: &str) -> Halt {
    refused(&Refusal::about(Reason::Explain, why)).into()
}

/// The router's own part, as EXPLAIN (ROUTE) has it; the texts of the parts come with them.
fn facts_of(topology: &Topology, explaining: &Explaining) -> (String, Vec<(String, Fact)>) {
    let mut kind = "Several shards".to_owned();
    let mut facts = Vec::new();
    for line in &explaining.report {
        match line.split_once(": ") {
            Some(("Plan", what)) => kind = what.to_owned(),
            Some(("Fragment" | "Rows are stored by their keys", _)) | None => {}
            Some((name, _)) if name.starts_with("Residue") => {}
            Some((name, value)) => facts.push((name.to_owned(), Fact::Text(value.to_owned()))),
        }
    }
    let shards = &topology.shards;
    let asked = |shard: ShardId| match &explaining.over {
        Over::Many(many) => many.legs.iter().any(|(leg, _)| *leg == shard),
        Over::Gather(work) => work.shards.iter().flatten().any(|leg| *leg == shard),
    };
    let pruned: Vec<&str> = shards
        .by_id()
        .filter(|(shard, _)| !asked(*shard))
        .map(|(_, shard)| shard.name.as_str())
        .collect();
    if !pruned.is_empty() {
        facts.push(("Pruned".to_owned(), Fact::Text(pruned.join(", "))));
    }
    (kind, facts)
}
