//! The fragments, fetched from their shards; what comes is held until all of it is there.

use super::{Described, GatherWork, PORTAL, Value};
use crate::merge::{Arrays, NotTaken};
use crate::plan::Refusal;
use crate::plan::gather::{Ending, Keeper};
use crate::plan::refuse::Reason;
use crate::session::choose::Wants;
use crate::session::dispatch::refused;
use crate::session::planning::values;
use crate::session::state::{Block, Phase};
use crate::session::{Attached, Halt, Session};
use mothership_proto::backend::{self, tag};
use mothership_proto::frame::Frame;
use mothership_proto::frontend::{self, Parse, Target};
use mothership_proto::ledger::{Audience, Event, Owed};
use mothership_proto::report::{Report, sqlstate};

/// What is being asked of one server.
pub(in crate::session) struct Leg {
    pub at: usize,
    /// What the client's own text means.
    pub describes: bool,
    /// Which fragments.
    pub fragments: Vec<usize>,
}

/// What has come of all of them.
#[derive(Default)]
pub(in crate::session) struct Fetching {
    arrays: Vec<Arrays>,
    pub described: Described,
    /// What failed had begun to run, and its columns are to be told.
    pub is_running: bool,
    rows_left: u64,
    bytes_left: usize,
    error: Option<Vec<u8>>,
    wrong: Option<Report>,
}

impl Session {
    /// Where the residue runs: at home if it reads tables there, where it writes, else where the transaction is, else on one of the
    /// shards, another one for each client.
    pub(in crate::session) fn residue_shard(&self, work: &GatherWork) -> usize {
        if work.plan.home {
            return self.topology.home;
        }
        if let Some(shard) = work.target.first() {
            return *shard;
        }
        // Of a name that is taken its server has something to say.
        if let Ending::Keep(keep) = &work.plan.ending
            && let Keeper::Cursor(name) = &keep.by
            && let Some(opened) = self.state.cursors.get(name)
        {
            return opened.shard();
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
    pub(in crate::session) async fn attach_legs(
        &mut self,
        work: &GatherWork,
        residue: usize,
        wants: &Wants,
    ) -> Result<Vec<Leg>, Halt> {
        self.check_texts(work)?;
        let mut shards: Vec<usize> = work.shards.iter().flatten().copied().collect();
        shards.push(residue);
        shards.sort_unstable();
        shards.dedup();
        for shard in &shards {
            let at = self.attach_to(*shard, wants.clone()).await?;
            self.check_isolation(at, shards.len()).await?;
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

    /// Arrays are handed over as texts: a session that has them written otherwise than PostgreSQL does of itself might
    /// get others back.
    fn check_texts(&self, work: &GatherWork) -> Result<(), Halt> {
        const FORMS: [&str; 4] = [
            "datestyle",
            "intervalstyle",
            "extra_float_digits",
            "bytea_output",
        ];
        let settings = self.state.settings.current();
        let changes = |name: &&&str| {
            settings
                .get(name)
                .is_some_and(|value| !is_exact(name, value))
        };
        match FORMS.iter().find(changes) {
            Some(name) if work.plan.texts => {
                let detail = format!("arrays are handed over as texts, and {name} is set");
                Err(refused(&Refusal::about(Reason::GatherDiffers, detail)).into())
            }
            _ => Ok(()),
        }
    }

    /// The server of a shard that was attached before.
    pub(in crate::session) fn place_of(&self, shard: usize) -> Result<usize, Halt> {
        let at = self.servers.iter().position(|s| s.shard == shard);
        // It was lost, and the client was told.
        at.ok_or(Halt::Failed)
    }

    /// The most rows and bytes of a statement.
    pub(super) fn fetch_limits(&self) -> (u64, usize) {
        let limits = &self.topology.config.limits;
        (
            limits.gathered_rows.get().into(),
            limits.gathered_size.bytes(),
        )
    }

    pub(in crate::session) fn fetching(&self, work: &GatherWork) -> Fetching {
        let (rows_left, bytes_left) = self.fetch_limits();
        let arrays = work.plan.fragments.iter().map(|f| Arrays::new(&f.elements));
        Fetching {
            arrays: arrays.collect(),
            described: Described::default(),
            is_running: false,
            rows_left,
            bytes_left,
            error: None,
            wrong: None,
        }
    }

    /// Sends one server its fragments, with the parameters of the statement.
    pub(in crate::session) fn send_fragments(
        &mut self,
        leg: &Leg,
        work: &GatherWork,
        (types, values): (&[u8], &[Value<'_>]),
    ) {
        let segment = self.state.phase == Phase::Segment;
        // One more than there may be, to notice it.
        let most = self.topology.config.limits.gathered_rows.get();
        let most = i32::try_from(most).unwrap_or(i32::MAX).saturating_add(1);
        let Attached { lease, inbox, .. } = &mut self.servers[leg.at];
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
    pub(in crate::session) async fn collect_leg(
        &mut self,
        leg: &Leg,
        fetching: &mut Fetching,
    ) -> Result<(), Halt> {
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
    pub(in crate::session) fn fetched(
        &mut self,
        fetching: Fetching,
    ) -> Result<(Vec<Vec<u8>>, Described), Halt> {
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
}

impl Fetching {
    /// How many rows and bytes may still come.
    pub(in crate::session) fn left(&self) -> (u64, usize) {
        (self.rows_left, self.bytes_left)
    }

    /// Nothing has gone wrong so far.
    pub(super) fn is_fine(&self) -> bool {
        self.error.is_none() && self.wrong.is_none()
    }

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

/// Whether values that are written under this setting are read again as the same.
fn is_exact(name: &str, value: &crate::session::settings::Value) -> bool {
    use crate::session::settings::Value;
    let words = values(value).join(",").to_ascii_lowercase();
    match name {
        "datestyle" => words.starts_with("iso"),
        "intervalstyle" => words == "postgres",
        "bytea_output" => words == "hex",
        _ => {
            let text = match value {
                Value::Text(text) => &**text,
                Value::Statement(sql) => &**sql,
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
