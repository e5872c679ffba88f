//! The residue of a query: run on one server, and held against the client's own text.

use super::copy::Shown;
use super::send::Ask;
use super::write::{is_about_text, same_columns};
use super::{Described, GatherWork, Value};
use crate::session::dispatch::refused;
use crate::session::inbox::Notices;
use crate::session::servers::AttachedId;
use crate::session::{Attached, Halt, Session};
use crate::statements::errors::placed;
use mothership_plan::refuse::Reason;
use mothership_plan::{Gather, Refusal};
use mothership_proto::backend::{self, tag};
use mothership_proto::frame::Frame;
use mothership_proto::frontend::{Bind, Target};
use mothership_proto::ledger::{Audience, Event, Step as Reply};
use mothership_proto::report::{Fields, Report};

impl Session {
    /// Runs the residue as a simple query would be: one server, results as text.
    pub(super) async fn query_residue(
        &mut self,
        at: AttachedId,
        (work, text): (&GatherWork, &str),
        (values, arrays): (&[Value<'_>], &[Vec<u8>]),
        described: &Described,
        mut shown: Shown<'_>,
    ) -> Result<Vec<u8>, Halt> {
        let attached = &mut self.servers[at];
        attached.inbox.notices = Notices::All;
        let types = attached.inbox.types_on_shard(&described.parameters);
        let arrays = arrays.iter().map(|array| (1, Some(array.as_slice())));
        let values: Vec<Value<'_>> = values.iter().copied().chain(arrays).collect();
        let keeping = work.keeping(text);
        attached.ask(&Ask {
            reading: None,
            describes: Some(text),
            sql: keeping.as_deref().unwrap_or(text),
            types: &types,
            values: &values,
            formats: &[shown.code()],
            rows: 0,
        });
        attached.lease.flush_or_sync(false);
        let mut checking = Checking::new(described);
        let mut command = Vec::new();
        self.each_message(at, |frame, reply, client| {
            checking.take(frame, reply);
            if checking.is_wrong() {
                return matches!(reply.event, Event::Ready(_));
            }
            match (reply.event, frame.tag()) {
                (_, tag::ROW_DESCRIPTION) if keeping.is_none() => {
                    shown.begin(client, &described.columns)
                }
                (_, tag::DATA_ROW) => shown.row(client, frame),
                (Event::Completed, tag::COMMAND_COMPLETE) => {
                    let said = backend::command(frame.body()).unwrap_or_default();
                    command = match keeping {
                        Some(_) => said.to_vec(),
                        None => shown.end(client, said),
                    };
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
    pub(super) async fn bind_residue(
        &mut self,
        at: AttachedId,
        bind: &Bind<'_>,
        (work, text): (&GatherWork, &str),
        values: &[Value<'_>],
        (arrays, described): (&[Vec<u8>], &Described),
    ) -> Result<(), Halt> {
        let Attached { lease, inbox, .. } = &mut self.servers[at];
        inbox.notices = Notices::All;
        let types = inbox.types_on_shard(&described.parameters);
        lease.request(Audience::Router, |send| {
            send.parse(text.as_bytes(), &types);
            send.describe(Target::Statement, b"");
            send.flush();
        });
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
        let keeping = work.keeping(text);
        let Attached { lease, inbox, .. } = &mut self.servers[at];
        let types = inbox.types_on_shard(&described.parameters);
        lease.request(Audience::Router, |send| {
            if let Some(keeping) = &keeping {
                send.parse(keeping.as_bytes(), &types);
            }
            let arrays = arrays.iter().map(|array| (1, Some(array.as_slice())));
            let values = values
                .iter()
                .copied()
                .take(work.plan.parameters)
                .chain(arrays);
            let values: Vec<Value<'_>> = values.collect();
            send.turn_to(Audience::Client);
            send.bind((bind.portal, b""), values.into_iter(), &formats);
        });
        Ok(())
    }
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
            (Event::Failed, _) if self.parsed || !is_about_text(frame.body()) => {
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
                if !same_columns(&columns, &self.described.columns) {
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
            Some(said) => Err(Wrong::Ours(wrong_statement(plan, &said))),
        }
    }
}

/// The residue is not the statement that the client has written.
pub(super) fn wrong_statement(plan: &Gather, said: &str) -> Report {
    let detail = format!("{}; {said}", plan.why.message());
    refused(&Refusal::about(Reason::GatherDiffers, detail))
}

/// An error without its place, which is in a text that the client has not written.
pub(in crate::session) fn without_position(body: &[u8]) -> Vec<u8> {
    placed(body, |_| None)
}
