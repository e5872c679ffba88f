//! What the servers have, held against what clients were told.

use super::{BALANCE, Book, Outcome};
use crate::Fleet;
use crate::proof::on_all_in;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What does not agree: nothing of it may be there.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Acknowledged and not there.
    pub lost: Vec<i64>,
    /// There twice.
    pub doubled: Vec<i64>,
    /// There, and a client was told that it is not, or never tried.
    pub ghost: Vec<i64>,
    /// One account has it and the other has not.
    pub torn: Vec<i64>,
    /// Balances that are not what the ledger says, sums that have changed, rows on a wrong shard.
    pub sums: Vec<String>,
    /// How many transfers are there.
    pub present: usize,
}

#[derive(Default)]
struct Entry {
    paid: u32,
    got: u32,
    sum: i64,
}

pub(super) fn judge(
    book: &Book,
    accounts: &[Vec<i64>],
    fleet: &Fleet,
    database: &str,
) -> Judgement {
    let mut judgement = Judgement::default();
    let mut entries = HashMap::<i64, Entry>::new();
    let mut changes = HashMap::<i64, i64>::new();
    let ledger = on_all_in(fleet, database, "SELECT account, id, amount FROM ledger");
    for (shard, text) in ledger.iter().enumerate() {
        let own: HashSet<i64> = accounts[shard].iter().copied().collect();
        for [account, id, amount] in numbers(text) {
            if !own.contains(&account) {
                let row = format!("ledger {id} of {account} on shard {shard}");
                judgement.sums.push(row);
            }
            let entry = entries.entry(id).or_default();
            match amount < 0 {
                true => entry.paid += 1,
                false => entry.got += 1,
            }
            entry.sum += amount;
            *changes.entry(account).or_default() += amount;
        }
    }
    transfers(book, &entries, &mut judgement);
    let balances = on_all_in(fleet, database, "SELECT id, balance, 0 FROM accounts");
    let balances: BTreeMap<i64, i64> = balances
        .iter()
        .flat_map(|text| numbers(text))
        .map(|[id, balance, _]| (id, balance))
        .collect();
    for (id, balance) in &balances {
        let told = BALANCE + changes.get(id).copied().unwrap_or(0);
        if *balance != told {
            let wrong = format!("account {id} has {balance} and the ledger says {told}");
            judgement.sums.push(wrong);
        }
    }
    let (count, total) = (balances.len(), balances.values().sum::<i64>());
    let opened: usize = accounts.iter().map(Vec::len).sum();
    if count != opened || total != BALANCE * opened as i64 {
        let wrong = format!("{count} accounts of {opened} have {total} together");
        judgement.sums.push(wrong);
    }
    judgement
}

fn transfers(book: &Book, entries: &HashMap<i64, Entry>, judgement: &mut Judgement) {
    for (id, entry) in entries {
        if entry.paid > 1 || entry.got > 1 {
            judgement.doubled.push(*id);
        } else if entry.paid != entry.got || entry.sum != 0 {
            judgement.torn.push(*id);
        }
        let outcome = book.outcomes.get(id);
        if outcome.is_none_or(|outcome| *outcome == Outcome::Failed) {
            judgement.ghost.push(*id);
        }
    }
    let acknowledged = book.outcomes.iter();
    let acknowledged = acknowledged.filter(|(_, outcome)| **outcome == Outcome::Acknowledged);
    let lost = acknowledged.filter(|(id, _)| !entries.contains_key(id));
    judgement.lost = lost.map(|(id, _)| *id).collect();
    judgement.present = entries.len();
}

/// Lines of three numbers.
fn numbers(text: &str) -> impl Iterator<Item = [i64; 3]> {
    text.lines().map(|line| {
        let mut numbers = line.split('|').map(|number| number.parse().unwrap());
        std::array::from_fn(|_| numbers.next().expect("three numbers"))
    })
}

impl Judgement {
    /// Whether nothing is wrong.
    pub fn is_right(&self) -> bool {
        let Judgement {
            lost,
            doubled,
            ghost,
            torn,
            sums,
            ..
        } = self;
        lost.len() + doubled.len() + ghost.len() + torn.len() + sums.len() == 0
    }
}

impl std::fmt::Display for Judgement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "lost={} doubled={} ghost={} torn={} sums={} of {}",
            self.lost.len(),
            self.doubled.len(),
            self.ghost.len(),
            self.torn.len(),
            self.sums.len(),
            self.present
        )?;
        if self.is_right() {
            return Ok(());
        }
        let first = |ids: &[i64]| ids.iter().take(5).copied().collect::<Vec<_>>();
        write!(
            f,
            "; lost {:?}, doubled {:?}, ghost {:?}, torn {:?}, {:?}",
            first(&self.lost),
            first(&self.doubled),
            first(&self.ghost),
            first(&self.torn),
            self.sums.iter().take(5).collect::<Vec<_>>()
        )
    }
}
