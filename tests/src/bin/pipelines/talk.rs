//! Random conversations: groups of messages of one session.

use crate::sent::{Group, Order, Results, Sent};
use crate::statement::{self, Statement};
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use std::collections::BTreeMap;

/// Makes one conversation.
pub struct Talk {
    rng: StdRng,
    /// The statements of the extended protocol that should be there by their names.
    statements: BTreeMap<String, Statement>,
    /// The same of portals.
    portals: BTreeMap<String, Statement>,
}

/// The groups of one conversation.
pub fn conversation(seed: u64) -> Vec<Group> {
    let mut talk = Talk {
        rng: StdRng::seed_from_u64(seed),
        statements: BTreeMap::new(),
        portals: BTreeMap::new(),
    };
    let groups = talk.rng.random_range(2..10);
    (0..groups).map(|_| talk.group()).collect()
}

impl Talk {
    fn group(&mut self) -> Group {
        match self.rng.random_range(0..100) {
            0..45 => self.queries(),
            45..52 => self.copy_in(),
            _ => self.pipeline(),
        }
    }

    /// A simple query of one statement or several.
    fn queries(&mut self) -> Group {
        let count = match self.rng.random_bool(0.3) {
            true => self.rng.random_range(2..5),
            false => 1,
        };
        // The router takes PREPARE and EXECUTE by themselves only.
        if count == 1 && self.rng.random_bool(0.15) {
            return vec![Sent::Query(statement::prepared(&mut self.rng))];
        }
        let texts: Vec<String> = (0..count).map(|_| self.text()).collect();
        vec![Sent::Query(texts.join("; "))]
    }

    /// The text of one statement, without parameters.
    fn text(&mut self) -> String {
        let rng = &mut self.rng;
        match rng.random_range(0..100) {
            0..45 => statement::statement(rng).inline(),
            45..70 => statement::transaction(rng).to_owned(),
            70..80 => statement::setting(rng).to_owned(),
            80..92 => statement::cursor(rng),
            92..95 => statement::copy_out(rng).to_owned(),
            _ => statement::other(rng).to_owned(),
        }
    }

    fn copy_in(&mut self) -> Group {
        let (text, lines) = statement::copy_in(&mut self.rng);
        let behind = match self.rng.random_bool(0.2) {
            true => format!("; {}", statement::statement(&mut self.rng).inline()),
            false => String::new(),
        };
        let data = self.data(lines);
        [vec![Sent::Query(text + &behind)], data].concat()
    }

    fn data(&mut self, lines: Vec<String>) -> Vec<Sent> {
        let mut sent = match self.rng.random_bool(0.5) {
            true => lines.into_iter().map(Sent::CopyData).collect(),
            false => vec![Sent::CopyData(lines.concat())],
        };
        sent.push(match self.rng.random_bool(0.15) {
            true => Sent::CopyFail,
            false => Sent::CopyDone,
        });
        sent
    }

    /// Several steps of the extended protocol before one Sync, perhaps a query between them.
    fn pipeline(&mut self) -> Group {
        let mut group = Vec::new();
        for _ in 0..self.rng.random_range(1..6) {
            match self.rng.random_range(0..100) {
                0..60 => self.run(&mut group),
                60..70 => self.run_unnamed(&mut group),
                70..86 => self.odd(&mut group),
                86..90 => {
                    let text = self.text();
                    group.push(Sent::Query(text));
                }
                90..94 => group.push(Sent::Flush),
                94..97 => group.push(Sent::Wait),
                97..99 => self.copy_within(&mut group),
                _ => group.push(Sent::Sync),
            }
        }
        group.push(Sent::Sync);
        group
    }

    fn name(&mut self) -> String {
        let names = ["", "", "", "s1", "s2"];
        (*names.choose(&mut self.rng).expect("some")).to_owned()
    }

    fn portal(&mut self) -> String {
        let names = ["", "", "", "p1", "p2"];
        (*names.choose(&mut self.rng).expect("some")).to_owned()
    }

    fn any_statement(&mut self) -> Statement {
        match self.rng.random_range(0..100) {
            0..70 => statement::statement(&mut self.rng),
            _ => Statement {
                text: self.text(),
                values: Vec::new(),
            },
        }
    }

    /// Parse, Bind and Execute, with what may stand between them. A name that is in use is closed before.
    fn run(&mut self, group: &mut Group) {
        let (name, portal) = (self.name(), self.portal());
        let known = self.statements.get(&name).cloned();
        let of = match known {
            Some(known) if self.rng.random_bool(0.5) => known,
            _ => {
                let of = self.any_statement();
                if !name.is_empty() && self.rng.random_bool(0.9) {
                    group.push(Sent::CloseStatement(name.clone()));
                }
                group.push(Sent::Parse {
                    name: name.clone(),
                    sql: of.text.clone(),
                });
                self.statements.insert(name.clone(), of.clone());
                of
            }
        };
        if self.rng.random_bool(0.2) {
            group.push(Sent::DescribeStatement(name.clone()));
        }
        if !portal.is_empty() {
            group.push(Sent::ClosePortal(portal.clone()));
        }
        let values = self.values(&of);
        group.push(Sent::Bind {
            portal: portal.clone(),
            statement: name,
            values,
            results: match self.rng.random_bool(0.1) {
                true => Results::Binary,
                false => Results::Text,
            },
        });
        self.portals.insert(portal.clone(), of.clone());
        if self.rng.random_bool(0.4) {
            group.push(Sent::DescribePortal(portal.clone()));
        }
        self.execute(&portal, &of, group);
        // What has no rows cannot be run again.
        if of.text.starts_with("SELECT") && self.rng.random_bool(0.3) {
            self.execute(&portal, &of, group);
        }
        if self.rng.random_bool(0.15) {
            group.push(Sent::ClosePortal(portal));
        }
    }

    fn values(&mut self, of: &Statement) -> Vec<Option<String>> {
        let mut values: Vec<Option<String>> = of.values.iter().cloned().map(Some).collect();
        if self.rng.random_bool(0.06) && !values.is_empty() {
            values[0] = match self.rng.random_range(0..3) {
                0 => Some("x".to_owned()),
                1 => None,
                _ => Some("99999999999999999999".to_owned()),
            };
        }
        if self.rng.random_bool(0.02) {
            values.push(Some("1".to_owned()));
        }
        values
    }

    /// Rows are taken in parts only where their order is told.
    fn execute(&mut self, portal: &str, of: &Statement, group: &mut Group) {
        let order = of.order();
        let rows = match order {
            Order::Told if self.rng.random_bool(0.3) => 1,
            _ => 0,
        };
        group.push(Sent::Execute {
            portal: portal.to_owned(),
            rows,
            order,
        });
    }

    /// As most drivers do it.
    fn run_unnamed(&mut self, group: &mut Group) {
        let sql = self.text();
        let order = Order::of(&sql);
        let name = String::new;
        let of = Statement {
            text: sql.clone(),
            values: Vec::new(),
        };
        self.statements.insert(name(), of.clone());
        self.portals.insert(name(), of);
        group.extend([
            Sent::Parse { name: name(), sql },
            Sent::Bind {
                portal: name(),
                statement: name(),
                values: Vec::new(),
                results: Results::Text,
            },
            Sent::Execute {
                portal: name(),
                rows: 0,
                order,
            },
        ]);
    }

    /// One step by itself, which fails where its name is not known.
    fn odd(&mut self, group: &mut Group) {
        let missing = self.rng.random_bool(0.3);
        let (name, portal) = match missing {
            true => ("none".to_owned(), "none".to_owned()),
            false => (self.name(), self.portal()),
        };
        let sent = match self.rng.random_range(0..8) {
            0 => Sent::DescribeStatement(name),
            1 => Sent::DescribePortal(portal),
            2 => Sent::CloseStatement(name),
            3 => Sent::ClosePortal(portal),
            4 => {
                let of = self.any_statement();
                self.statements.insert(name.clone(), of.clone());
                Sent::Parse { name, sql: of.text }
            }
            5 => {
                let of = self.statements.get(&name).cloned();
                let of = of.unwrap_or_else(|| statement::read(&mut self.rng));
                let values = self.values(&of);
                self.portals.insert(portal.clone(), of);
                Sent::Bind {
                    portal,
                    statement: name,
                    values,
                    results: Results::Text,
                }
            }
            _ => {
                let of = self.portals.get(&portal).cloned();
                let of = of.unwrap_or_else(|| statement::read(&mut self.rng));
                if !of.text.starts_with("SELECT") {
                    return;
                }
                self.execute(&portal, &of, group);
                return;
            }
        };
        group.push(sent);
    }

    fn copy_within(&mut self, group: &mut Group) {
        let (sql, lines) = statement::copy_in(&mut self.rng);
        let name = String::new;
        group.extend([
            Sent::Parse { name: name(), sql },
            Sent::Bind {
                portal: name(),
                statement: name(),
                values: Vec::new(),
                results: Results::Text,
            },
            Sent::Execute {
                portal: name(),
                rows: 0,
                order: Order::Told,
            },
        ]);
        group.extend(self.data(lines));
        // A second run of it would wait for more data.
        group.push(Sent::Parse {
            name: name(),
            sql: "SELECT 2".to_owned(),
        });
        self.statements.remove("");
        self.portals.remove("");
    }
}
