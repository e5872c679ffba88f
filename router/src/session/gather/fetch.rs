//! The fragments, fetched from their shards; what comes is held until all of it is there.

use super::residue::without_position;
use super::send::Ask;
use super::{Described, GatherWork, Value};
use crate::session::choose::Wants;
use crate::session::dispatch::refused;
use crate::session::inbox::Notices;
use crate::session::planning::values;
use crate::session::servers::AttachedId;
use crate::session::state::{Block, Phase, Unfollowed};
use crate::session::{Halt, Servers, Session};
use crate::statements::settings::Value as Setting;
use crate::topology::Topology;
use mothership_documents::snapshot;
use mothership_merge::{Arrays, KeyArray, NotTaken};
use mothership_plan::gather::together::{self, Arm};
use mothership_plan::gather::waves::{MANY, Waves, expected};
use mothership_plan::gather::{Ending, Keeper, Keys};
use mothership_plan::refuse::Reason;
use mothership_plan::{Gather, Refusal};
use mothership_proto::backend::{self, tag};
use mothership_proto::frame::Frame;
use mothership_proto::ledger::Event;
use mothership_proto::report::{Fields, Report, sqlstate};
use mothership_shardmap::ShardId;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Fewer keys than these are written as an array, which the server's planner looks at.
const FEW_KEYS: u32 = 200;

/// What is being asked of one server.
pub(in crate::session) struct Leg {
    pub at: AttachedId,
    /// What the client's own text means.
    pub describes: bool,
    /// Which fragments.
    pub fragments: Vec<usize>,
}

/// What has come of all of them.
#[derive(Default)]
pub(in crate::session) struct Fetching {
    /// What is carried out.
    plan: Option<Arc<Gather>>,
    arrays: Vec<Arrays>,
    pub described: Described,
    /// What failed had begun to run, and its columns are to be told.
    pub is_running: bool,
    /// The number of the reading, see [`snapshot`].
    reading: u64,
    rows_left: u64,
    bytes_left: usize,
    error: Option<Vec<u8>>,
    /// Why that is no answer.
    refused: Option<Refusal>,
    wrong: Option<Report>,
    /// How many rows a shard expects of a fragment.
    expected: HashMap<usize, u64>,
    /// The keys of a fragment's column; `None` if they are too many.
    keys: HashMap<(usize, usize), Option<Rc<KeyArray>>>,
    /// What each server has sent, by its place among the attached.
    pub tallies: BTreeMap<AttachedId, Tally>,
}

/// What one server has sent.
#[derive(Default)]
pub(in crate::session) struct Tally {
    pub rows: u64,
    pub bytes: u64,
    /// How long it was waited for.
    pub time: Duration,
}

/// What a server is asked of fragments.
pub(super) enum FragmentQuery {
    /// The rows of one query, or of several as one, each for all fragments that have the same text.
    Rows(Vec<Shared>),
    /// How many rows it expects.
    Expected(usize),
}

/// A query whose rows are those of each of these fragments.
pub(super) struct Shared {
    fragments: Vec<usize>,
    /// How many columns they have.
    width: usize,
}

/// The text of a fragment, with the keys that leave out rows of it.
#[derive(PartialEq)]
struct Text {
    sql: String,
    filtered: bool,
    narrowed: Vec<Narrowed>,
}

/// Of these keys one must be in a column.
#[derive(PartialEq)]
struct Narrowed {
    column: String,
    base: String,
    keys: Rc<KeyArray>,
}

impl Text {
    /// As it is sent; the keys are the parameters from `next` on.
    fn sql(&self, next: &mut usize) -> String {
        let mut sql = self.sql.clone();
        let mut filtered = self.filtered;
        for Narrowed { column, base, keys } in &self.narrowed {
            let joint = if filtered { "AND" } else { "WHERE" };
            filtered = true;
            sql += &match keys.count {
                0..FEW_KEYS => format!(" {joint} {column} = ANY (${next}::{base}[])"),
                // Planning looks at each element of an array, and not into a query.
                _ => format!(" {joint} {column} IN (SELECT unnest(${next}::{base}[]))"),
            };
            *next += 1;
        }
        sql
    }
}

impl Servers {
    /// The server of a shard that was attached before.
    pub(in crate::session) fn place_of(&self, shard: ShardId) -> Result<AttachedId, Halt> {
        // Else it was lost, and the client was told.
        self.of_shard(shard).ok_or(Halt::Failed)
    }
}

impl Topology {
    pub(in crate::session) fn fetching(&self, work: &GatherWork) -> Fetching {
        let (rows_left, bytes_left) = self.fetch_limits();
        let arrays = work.plan.fragments.iter().map(|f| Arrays::new(&f.elements));
        Fetching {
            plan: Some(Arc::clone(&work.plan)),
            arrays: arrays.collect(),
            rows_left,
            bytes_left,
            reading: snapshot::next(),
            ..Fetching::default()
        }
    }

    /// The most rows and bytes of a statement.
    pub(super) fn fetch_limits(&self) -> (u64, usize) {
        let limits = &self.config.limits;
        (
            limits.gathered_rows.get().into(),
            limits.gathered_size.bytes(),
        )
    }
}

impl Session {
    /// Where the residue runs: at home if it reads tables there, where it writes, else where the transaction is, else on one of the
    /// shards, another one for each client.
    pub(in crate::session) fn residue_shard(&self, work: &GatherWork) -> ShardId {
        if work.plan.home {
            return self.topology.home;
        }
        if let Some(shard) = work.target.first() {
            return *shard;
        }
        // Of a name that is taken its server has something to say.
        if let Ending::Keep(keep) = &work.plan.ending
            && let Keeper::Cursor(name) = &keep.by
            && let Some(open) = self.state.portals.get(name.as_bytes())
            && let Some(shard) = open.shard()
        {
            return shard;
        }
        if self.state.block != Block::None
            && let Some(shard) = self.servers.postgres_here(&self.topology)
        {
            return shard;
        }
        let mut shards: Vec<ShardId> = work.shards.iter().flatten().copied().collect();
        shards.sort_unstable();
        shards.dedup();
        match shards.len() {
            0 => self.topology.home,
            count => shards[self.entry.who.number as usize % count],
        }
    }

    /// Servers for all of it, in the order of the shards.
    pub(in crate::session) async fn attach_legs(
        &mut self,
        work: &GatherWork,
        residue: ShardId,
        wants: &Wants,
    ) -> Result<Vec<Leg>, Halt> {
        self.check_texts(work)?;
        self.transaction.check_alone(&self.state, work)?;
        let mut shards: Vec<ShardId> = work.shards.iter().flatten().copied().collect();
        shards.push(residue);
        shards.sort_unstable();
        shards.dedup();
        for shard in &shards {
            let at = self.attach_to(*shard, wants.clone()).await?;
            self.check_isolation(at, shards.len()).await?;
        }
        let mut legs = Vec::with_capacity(shards.len());
        for shard in shards {
            let at = self.servers.place_of(shard)?;
            let of = work.shards.iter().enumerate();
            let fragments = of.filter(|(_, shards)| shards.contains(&shard));
            // What a function says of the rows that are fetched nobody else says.
            self.servers[at].inbox.notices = Notices::OfRows;
            legs.push(Leg {
                at,
                describes: false,
                fragments: fragments.map(|(number, _)| number).collect(),
            });
        }
        Ok(legs)
    }

    /// Rows come and go in the encoding of the client. PostgreSQL reads U+00A6 back from EUC_JP as U+FFE4.
    fn check_encoding(&self) -> Result<(), Halt> {
        let told = |name: &[u8]| self.state.told.value(name);
        let client = told(b"client_encoding");
        if client != Some(b"EUC_JP") || client == told(b"server_encoding") {
            return Ok(());
        }
        let detail =
            "client_encoding is EUC_JP, from which not every character comes back as it was";
        Err(refused(&Refusal::about(Reason::GatherDiffers, detail.to_owned())).into())
    }

    /// Arrays and constants of views are handed over as texts: a session that has them written or read otherwise than
    /// PostgreSQL does of itself might get others back.
    fn check_texts(&self, work: &GatherWork) -> Result<(), Halt> {
        match work.plan.texts {
            true => self.check_forms("values"),
            false => Ok(()),
        }
    }

    /// The same of other values.
    pub(in crate::session) fn check_forms(&self, what: &str) -> Result<(), Halt> {
        const FORMS: [&str; 6] = [
            "array_nulls",
            "bytea_output",
            "datestyle",
            "extra_float_digits",
            "intervalstyle",
            "xmloption",
        ];
        // What code has set out of sight is on one server, and nobody knows what it is.
        if self.state.marks.unfollowed != Unfollowed::Nothing {
            let detail = format!("{what} are handed over as texts, and code may have set how");
            return Err(refused(&Refusal::about(Reason::GatherDiffers, detail)).into());
        }
        let settings = self.state.in_force();
        let begins = self.login.beginning.begins.as_ref();
        let changes = |name: &&&str| match settings.get(name) {
            Some(value) => !is_exact(name, value),
            // What a role, a database or the server's configuration says.
            None => {
                let value = begins.and_then(|begins| begins.value(name));
                value.is_some_and(|value| !is_exact(name, &Setting::Text(value.into())))
            }
        };
        match FORMS.iter().find(changes) {
            Some(name) => {
                let detail = format!("{what} are handed over as texts, and {name} is set");
                Err(refused(&Refusal::about(Reason::GatherDiffers, detail)).into())
            }
            None => Ok(()),
        }
    }

    /// Fetches all fragments, in the order of `Waves`. `given` are the types and values of the statement's parameters.
    pub(in crate::session) async fn fetch(
        &mut self,
        legs: &[Leg],
        work: &GatherWork,
        given: (&[u8], &[Value<'_>]),
        fetching: &mut Fetching,
    ) -> Result<(), Halt> {
        self.check_encoding()?;
        let mut waves = Waves::new(&work.plan.fragments);
        let mut describes = legs.iter().any(|leg| leg.describes);
        while !waves.are_done() || describes {
            let texts = fetching.texts(work, &mut waves);
            let asked = waves.asked();
            if !asked.is_empty() {
                self.exchange(
                    legs,
                    work,
                    given,
                    (&texts, &asked, describes),
                    true,
                    fetching,
                )
                .await?;
                describes = false;
                if !fetching.is_fine() {
                    return Ok(());
                }
                for fragment in asked {
                    let shards = work.shards[fragment].len().try_into().unwrap_or(u64::MAX);
                    let rows = fetching.expected.remove(&fragment);
                    waves.expect(fragment, rows.unwrap_or(u64::MAX).saturating_mul(shards));
                }
            }
            let next = waves.begin();
            self.exchange(
                legs,
                work,
                given,
                (&texts, &next, describes),
                false,
                fetching,
            )
            .await?;
            describes = false;
            if !fetching.is_fine() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends each server its fragments, or, if they are only to be `explained`, one of them, and takes the answers.
    async fn exchange(
        &mut self,
        legs: &[Leg],
        work: &GatherWork,
        (types, values): (&[u8], &[Value<'_>]),
        (texts, fragments, describes): (&[Text], &[usize], bool),
        explained: bool,
        fetching: &mut Fetching,
    ) -> Result<(), Halt> {
        let segment = self.state.phase == Phase::Segment;
        // One more than there may be, to notice it.
        let most = self.topology.config.limits.gathered_rows.get();
        let most = i32::try_from(most).unwrap_or(i32::MAX).saturating_add(1);
        let mut open = Vec::new();
        let mut told: Vec<usize> = Vec::new();
        for leg in legs {
            let apart = !self.topology.is_postgres(self.servers[leg.at].shard);
            let own = fragments.iter().filter(|at| leg.fragments.contains(at));
            let asked = match explained {
                true => {
                    let new = own.copied().filter(|at| !told.contains(at));
                    let new: Vec<usize> = new.collect();
                    told.extend(&new);
                    new.into_iter().map(FragmentQuery::Expected).collect()
                }
                false => asked_of(work, texts, own.copied(), apart),
            };
            if asked.is_empty() && !(describes && leg.describes) {
                continue;
            }
            let attached = &mut self.servers[leg.at];
            attached.inbox.in_segment |= segment;
            attached.inbox.touched.add(None);
            let types = attached.inbox.types_on_shard(types);
            for asked in &asked {
                let mut next = values.len() + 1;
                let (sql, formats, rows) = match asked {
                    FragmentQuery::Rows(shared) => {
                        (text_of(work, texts, shared, &mut next), &[1], most)
                    }
                    FragmentQuery::Expected(fragment) => {
                        let sql = texts[*fragment].sql(&mut next);
                        (format!("EXPLAIN {sql}"), &[0], 1)
                    }
                };
                let keys = asked.fragments().flat_map(|at| &texts[at].narrowed);
                let keys = keys.map(|narrowed| (1, Some(&*narrowed.keys.array)));
                let values: Vec<Value<'_>> = values.iter().copied().chain(keys).collect();
                attached.ask(&Ask {
                    reading: (apart && leg.fragments.len() > 1).then_some(fetching.reading),
                    sql: &sql,
                    types: &types,
                    values: &values,
                    describes: None,
                    formats,
                    rows,
                });
            }
            attached.lease.flush_or_sync(segment);
            open.push((leg, asked));
        }
        for (leg, asked) in open {
            let leg = Leg {
                at: leg.at,
                describes: leg.describes && describes,
                fragments: Vec::new(),
            };
            let (begun, before) = (Instant::now(), fetching.left());
            self.collect_leg(&leg, &asked, fetching).await?;
            let after = fetching.left();
            let tally = fetching.tallies.entry(leg.at).or_default();
            tally.rows += before.0.saturating_sub(after.0);
            tally.bytes += before.1.saturating_sub(after.1) as u64;
            tally.time += begun.elapsed();
        }
        Ok(())
    }

    /// Takes what one server says, to its end.
    pub(super) async fn collect_leg(
        &mut self,
        leg: &Leg,
        asked: &[FragmentQuery],
        fetching: &mut Fetching,
    ) -> Result<(), Halt> {
        let segment = self.state.phase == Phase::Segment;
        let mut describes = leg.describes;
        let mut runs = false;
        let mut all = asked.iter();
        let mut now = all.next();
        if segment && !describes && now.is_none() {
            return Ok(());
        }
        self.each_message(leg.at, |frame, reply, _| {
            match (reply.event, frame.tag()) {
                (Event::Ready(_), _) => return true,
                (Event::Failed, _) => {
                    if describes {
                        // About the client's own text, which PostgreSQL reads before anything runs.
                        fetching.error = Some(frame.body().to_vec());
                        fetching.is_running = false;
                    } else if fetching.error.is_none() {
                        let said = Fields::read(frame.body());
                        let plan = fetching.plan.as_ref();
                        fetching.refused =
                            plan.and_then(|plan| plan.hidden_right(said.code, said.message));
                        fetching.error = Some(without_position(frame.body()));
                        // What EXPLAIN says fails when it is planned.
                        fetching.is_running =
                            runs && !matches!(now, Some(FragmentQuery::Expected(_)));
                    }
                    return segment;
                }
                (_, tag::PARSE_COMPLETE) => runs = false,
                (_, tag::BIND_COMPLETE) => runs = true,
                (_, tag::DATA_ROW) => fetching.row(now, frame.body()),
                (_, tag::PARAMETER_DESCRIPTION) => {
                    fetching.described.parameters =
                        frame.body().get(2..).unwrap_or_default().to_vec();
                }
                (_, tag::ROW_DESCRIPTION) => {
                    fetching.columns(frame);
                    describes = false;
                }
                (_, tag::NO_DATA) => describes = false,
                (_, tag::CLOSE_COMPLETE) => now = all.next(),
                _ => {}
            }
            segment && !describes && now.is_none()
        })
        .await
    }

    /// All that was fetched, or what went wrong.
    pub(in crate::session) fn fetched(
        &mut self,
        fetching: Fetching,
    ) -> Result<(Vec<Vec<u8>>, Described), Halt> {
        let ending = fetching.plan.as_ref().map(|plan| &plan.ending);
        // What RETURNING gives is only told when all of it is done.
        let tells_columns = matches!(ending, Some(Ending::Answer));
        if let Some(refusal) = fetching.refused {
            return Err(refused(&refusal).into());
        }
        if let Some(body) = fetching.error {
            // PostgreSQL would have said this much before.
            if fetching.is_running && self.state.phase == Phase::Segment {
                self.client.send(backend::BIND_COMPLETE);
            } else if fetching.is_running && tells_columns {
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
}

impl Fetching {
    /// How many rows and bytes may still come.
    fn left(&self) -> (u64, usize) {
        (self.rows_left, self.bytes_left)
    }

    /// Nothing has gone wrong so far.
    pub(super) fn is_fine(&self) -> bool {
        self.error.is_none() && self.wrong.is_none()
    }

    /// The texts of the fragments, with the keys that leave out rows of those that are not there yet.
    fn texts(&mut self, work: &GatherWork, waves: &mut Waves<'_>) -> Vec<Text> {
        let Fetching { arrays, keys, .. } = self;
        let mut known = |wanted: &Keys| {
            let place = (wanted.from, wanted.at);
            let found = keys.entry(place).or_insert_with(|| {
                let keys = arrays[wanted.from].keys(wanted.at, MANY);
                keys.map(Rc::new)
            });
            found.clone()
        };
        let text = |(at, sql): (usize, &String)| {
            let chosen = waves.narrowing(at, |keys| Some(known(keys)?.count));
            let narrowed = chosen.into_iter().filter_map(|wanted| {
                Some(Narrowed {
                    column: wanted.column.clone(),
                    base: wanted.base.clone(),
                    keys: known(wanted)?,
                })
            });
            Text {
                sql: sql.clone(),
                filtered: work.plan.fragments[at].narrowing.filtered,
                narrowed: narrowed.collect(),
            }
        };
        work.fragments.iter().enumerate().map(text).collect()
    }

    fn row(&mut self, asked: Option<&FragmentQuery>, body: &[u8]) {
        if !self.is_fine() {
            return;
        }
        match asked {
            None => {}
            Some(FragmentQuery::Expected(fragment)) => {
                let line = backend::row_values(body).unwrap_or_default();
                let line = line.first().copied().flatten().unwrap_or_default();
                let rows = expected(&String::from_utf8_lossy(line));
                // The first line is the one that counts.
                self.expected
                    .entry(*fragment)
                    .or_insert(rows.unwrap_or(u64::MAX));
            }
            Some(FragmentQuery::Rows(shared)) => match shared.as_slice() {
                [one] => {
                    for fragment in &one.fragments {
                        self.add(*fragment, body);
                    }
                }
                several => match together::part(several.iter().map(|s| s.width), body) {
                    Some((at, values)) => {
                        for fragment in &several[at].fragments {
                            self.added(*fragment, |arrays| arrays.add_values(values));
                        }
                    }
                    None => self.malformed(),
                },
            },
        }
    }

    pub(super) fn malformed(&mut self) {
        let message = "server sent a malformed message";
        self.wrong = Some(Report::error(sqlstate::INTERNAL_ERROR, message));
    }

    /// A write within WITH failed on a server.
    pub(super) fn failed(&mut self, body: &[u8]) {
        self.error.get_or_insert_with(|| without_position(body));
    }

    /// What the router itself found wrong, if anything.
    pub(super) fn fails_with(&mut self, wrong: Option<Report>) {
        self.wrong = self.wrong.take().or(wrong);
    }

    pub(super) fn add(&mut self, fragment: usize, body: &[u8]) {
        self.added(fragment, |arrays| arrays.add(body));
    }

    /// Has a row of a fragment `add`ed, as long as nothing is wrong and there is room.
    fn added(&mut self, fragment: usize, add: impl FnOnce(&mut Arrays) -> Result<usize, NotTaken>) {
        if !self.is_fine() {
            return;
        }
        match add(&mut self.arrays[fragment]) {
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
            Err(_) => self.malformed(),
        }
    }
}

impl FragmentQuery {
    /// One for each text.
    fn fragments(&self) -> impl Iterator<Item = usize> {
        let (shared, expected) = match self {
            FragmentQuery::Rows(shared) => (shared.as_slice(), None),
            FragmentQuery::Expected(fragment) => (&[][..], Some(*fragment)),
        };
        shared.iter().map(|s| s.fragments[0]).chain(expected)
    }
}

/// What a server is asked for the rows of fragments: one query, so that they are read by one snapshot, or one for each
/// fragment where they are `apart`, as MongoDB's are, which reads them by one snapshot all the same.
fn asked_of(
    work: &GatherWork,
    texts: &[Text],
    fragments: impl Iterator<Item = usize>,
    apart: bool,
) -> Vec<FragmentQuery> {
    let mut all: Vec<Shared> = Vec::new();
    for fragment in fragments {
        // Equal texts have equal rows.
        let same = |shared: &&mut Shared| {
            let first = shared.fragments[0];
            texts[first] == texts[fragment] && work.shards[first] == work.shards[fragment]
        };
        match all.iter_mut().find(same) {
            Some(shared) => shared.fragments.push(fragment),
            None => all.push(Shared {
                fragments: vec![fragment],
                width: work.plan.fragments[fragment].types.len(),
            }),
        }
    }
    if all.is_empty() {
        return Vec::new();
    }
    match !apart && together::fits(all.iter().map(|shared| shared.width).sum()) {
        true => vec![FragmentQuery::Rows(all)],
        false => all
            .into_iter()
            .map(|one| FragmentQuery::Rows(vec![one]))
            .collect(),
    }
}

fn text_of(work: &GatherWork, texts: &[Text], shared: &[Shared], next: &mut usize) -> String {
    let arms = shared.iter().map(|shared| {
        let fragment = &work.plan.fragments[shared.fragments[0]];
        Arm {
            sql: texts[shared.fragments[0]].sql(next),
            elements: &fragment.elements,
            types: &fragment.types,
        }
    });
    let mut arms: Vec<Arm<'_>> = arms.collect();
    match arms.as_mut_slice() {
        [one] => std::mem::take(&mut one.sql),
        several => together::query(several),
    }
}

/// Whether values that are written under this setting are read again as the same.
fn is_exact(name: &str, value: &Setting) -> bool {
    let words = values(value).join(",").to_ascii_lowercase();
    match name {
        "datestyle" => words.starts_with("iso"),
        "intervalstyle" => words == "postgres",
        "bytea_output" => words == "hex",
        "xmloption" => words == "content",
        "array_nulls" => ["on", "true", "yes"].contains(&&*words),
        _ => {
            let text = match value {
                Setting::Text(text) => &**text,
                Setting::Statement(sql) => &**sql,
            };
            let text = text.trim_end_matches(|c: char| !c.is_ascii_digit());
            let start = text
                .rfind(|c: char| !c.is_ascii_digit())
                .map_or(0, |at| at + 1);
            let digits = text[start..].parse::<u8>();
            digits.is_ok_and(|digits| digits > 0) && !text[..start].ends_with('-')
        }
    }
}

pub(super) fn too_much(what: &str, setting: &str) -> Report {
    Report::error(
        sqlstate::PROGRAM_LIMIT_EXCEEDED,
        format!("statement needs more {what} of several shards at once than are allowed"),
    )
    .hint(format!(
        "Restrict it by conditions on single tables, or raise the setting {setting}."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_again_only_under_some_settings() {
        for (name, value, exact) in [
            ("array_nulls", "off", false),
            ("array_nulls", "on", true),
            ("bytea_output", "escape", false),
            ("datestyle", "ISO, DMY", true),
            ("datestyle", "German", false),
            ("extra_float_digits", "-3", false),
            ("extra_float_digits", "0", false),
            ("extra_float_digits", "3", true),
            ("intervalstyle", "iso_8601", false),
            ("xmloption", "document", false),
        ] {
            let text = Setting::Text(value.into());
            assert_eq!(is_exact(name, &text), exact, "{name} {value}");
            let said = Setting::Statement(format!("SET {name} = {value}"));
            assert_eq!(is_exact(name, &said), exact, "{name} {value}");
        }
    }
}
