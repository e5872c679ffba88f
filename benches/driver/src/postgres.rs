//! The same documents as rows, by a driver of PostgreSQL: each client has a connection and a prepared statement, which it
//! keeps from one load to the next as MongoDB's driver keeps its own.

use crate::{Outcome, microseconds, random};
use mongodb::bson::{DateTime, Decimal128};
use mothership_driver::event::{Address, EVENTS, Event};
use mothership_driver::order::{Ask, Done, Load};
use rand::RngExt;
use rand::rngs::StdRng;
use std::error::Error;
use std::hint::black_box;
use std::time::{Instant, SystemTime};
use tokio::task::JoinSet;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row, Statement};

/// Clients that are there.
pub struct Clients {
    config: Config,
    ready: Vec<One>,
}

struct One {
    client: Client,
    find: Statement,
}

impl Clients {
    /// None yet.
    pub fn new(uri: &str, database: &str) -> Outcome<Clients> {
        let mut config: Config = uri.parse()?;
        config.dbname(database);
        Ok(Clients {
            config,
            ready: Vec::new(),
        })
    }

    /// All clients at once.
    pub async fn load(&mut self, load: Load) -> Outcome<Done> {
        if load.ask != Ask::Find {
            return Err("it reads by key and nothing else".into());
        }
        let count = usize::try_from(load.clients)?;
        while self.ready.len() < count {
            self.ready.push(One::connect(&self.config).await?);
        }
        let mut clients = JoinSet::new();
        for (number, one) in (0..load.clients).zip(self.ready.drain(..count)) {
            clients.spawn(one.find(load, random(load, number)));
        }
        let mut all = Done::default();
        while let Some(done) = clients.join_next().await {
            let (one, done) = done??;
            all.units += done.units;
            all.elapsed.extend(done.elapsed);
            self.ready.push(one);
        }
        Ok(all)
    }
}

impl One {
    async fn connect(config: &Config) -> Outcome<One> {
        let (client, connection) = config.connect(NoTls).await?;
        // What ends it the client hears as well.
        tokio::spawn(connection);
        let sql = format!("SELECT * FROM {EVENTS} WHERE id = $1");
        let find = client.prepare(&sql).await?;
        Ok(One { client, find })
    }

    /// Reads one after the other.
    async fn find(self, load: Load, mut random: StdRng) -> Outcome<(One, Done)> {
        let begun = Instant::now();
        let mut done = Done::default();
        while begun.elapsed() < load.duration {
            let id = i64::from(random.random_range(1..=load.documents));
            let statement = Instant::now();
            let row = self.client.query_one(&self.find, &[&id]).await?;
            let found = black_box(event(&row)?).id;
            done.elapsed.push(microseconds(statement));
            if found != id {
                return Err(format!("{found} was read, and not {id}").into());
            }
            done.units += 1;
        }
        Ok((self, done))
    }
}

fn event(row: &Row) -> Outcome<Event> {
    let Digits(amount) = row.try_get(3)?;
    let happened_at: SystemTime = row.try_get(5)?;
    Ok(Event {
        id: row.try_get(0)?,
        kind: row.try_get(1)?,
        n: row.try_get(2)?,
        amount,
        address: Address {
            city: row.try_get(4)?,
        },
        happened_at: DateTime::from_system_time(happened_at),
        paid: row.try_get(6)?,
        score: row.try_get(7)?,
    })
}

/// A numeric as its digits. See `numeric_send` of PostgreSQL: four numbers of 16 bits (how many groups of four digits
/// follow, the weight of the first, the sign, the digits behind the point), then the groups.
struct Digits(Decimal128);

impl<'a> FromSql<'a> for Digits {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let mut numbers = raw
            .chunks_exact(2)
            .map(|two| i16::from_be_bytes([two[0], two[1]]));
        let mut next = || numbers.next().ok_or("a numeric is cut short");
        let (count, weight, sign, _scale) = (next()?, next()?, next()?, next()?);
        let mut text = String::from(if sign == 0 { "0" } else { "-0" });
        for _ in 0..count {
            text += &format!("{:04}", next()?);
        }
        let exponent = 4 * (i32::from(weight) + 1 - i32::from(count));
        text += &format!("E{exponent}");
        Ok(Digits(text.parse()?))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::NUMERIC
    }
}
