//! Asks the home shard whether the client's role may run a statement on documents, where the plan does not know it.
//!
//! The home shard explains the statement on the client's own connection, in its transaction if it has one, and so says
//! what PostgreSQL says of its rights. Whoever dispatches a guarded plan without having asked is refused.

use super::attach::give_back;
use super::dispatch::not_utf8;
use super::knowledge::Knowledge;
use super::state::{Block, Phase};
use super::{Halt, Session};
use crate::statements::names::Prepared;
use mothership_plan::{Guarded, Plan};
use mothership_proto::report::{Report, sqlstate};
use std::rc::Rc;
use std::sync::Arc;

impl Knowledge {
    /// The plan that a guarded one is about, if the home shard has been asked about this text just before.
    pub(super) fn allowed(&self, plan: Rc<Plan>, sql: &str) -> Result<Rc<Plan>, Halt> {
        let Plan::Guarded(guarded) = &*plan else {
            return Ok(plan);
        };
        match self.may_run.as_deref() == Some(sql) {
            true => Ok(Rc::new((*guarded.plan).clone())),
            false => Err(unasked().into()),
        }
    }
}

impl Session {
    /// Asks what has to be asked before the `at`-th statement is dispatched.
    ///
    /// # Errors
    /// What the home shard says against it.
    pub(super) async fn ask_rights(&mut self, statement: &Prepared, at: usize) -> Result<(), Halt> {
        self.known.may_run = None;
        // Without documents no plan is guarded, and none is to be looked up for it.
        let has_documents = self.topology.config.shards.len() > self.topology.postgres;
        if self.known.model.is_none() || !has_documents {
            return Ok(());
        }
        let Some((plan, _)) = self.plan_by_known(statement, at)? else {
            return Ok(());
        };
        let Plan::Guarded(Guarded { question, .. }) = &*plan else {
            return Ok(());
        };
        let question = Arc::clone(question);
        let home = self.topology.home;
        let in_segment = self.state.phase == Phase::Segment;
        if in_segment {
            self.flush_held().await?;
            self.settle_active().await?;
            self.join_segment(Some(home), false).await?;
        }
        let was_there = self.servers.iter().any(|server| server.shard == home);
        let there = self.attach(home).await?;
        match self.servers[there].inbox.in_segment {
            true => self.tell(there, &question).await?,
            false => {
                if let Some(body) = self.ask_plainly(there, question.as_bytes()).await? {
                    return Err(Halt::Fail(self.state.report_for_client(&body)));
                }
            }
        }
        if !was_there && !in_segment && self.state.block == Block::None && !self.is_session_mode() {
            // The statement itself may need no server of PostgreSQL.
            let there = self.servers.find(|server| server.shard == home);
            let free = there.filter(|there| !self.servers[*there].inbox.is_pinned());
            if let Some(attached) = free.and_then(|there| self.servers.remove(there)) {
                self.servers.active = None;
                give_back(attached, None, &self.core);
                self.show_working();
            }
        }
        let step = statement.steps.get(at);
        let sql = step.map_or(&*statement.sql, |step| step.span.of(&statement.sql));
        let sql = std::str::from_utf8(sql).map_err(|_| not_utf8())?;
        self.known.may_run = Some(sql.into());
        Ok(())
    }
}

fn unasked() -> Report {
    Report::error(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "the rights of this statement on documents cannot be asked for here",
    )
    .hint("Run it as a statement of its own, or grant the rights on the whole table.")
}
