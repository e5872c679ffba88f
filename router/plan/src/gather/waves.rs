//! In which order fragments are fetched, so that small ones leave out rows of large ones.
//!
//! What the servers expect of the fragments comes in, what is fetched next goes out, until all is. Pure: who asks is
//! `session/gather/fetch.rs`.

use super::{Fragment, Keys};

/// Fewer rows than these are not worth waiting for.
const FEW: u64 = 500;
/// More keys than these are not sent.
pub const MANY: u32 = 50_000;

/// What is known of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many rows are expected.
    Open(u64),
    /// It was fetched.
    Fetched,
}

/// The fragments of one run.
#[derive(Debug)]
pub struct Waves<'f> {
    fragments: &'f [Fragment],
    states: Vec<State>,
    /// Fragments that were left out rows of.
    narrowed: Vec<bool>,
}

impl<'f> Waves<'f> {
    /// Before anything is known.
    pub fn new(fragments: &'f [Fragment]) -> Waves<'f> {
        Waves {
            fragments,
            states: fragments
                .iter()
                .map(
                    |fragment| match fragment.writes || fragment.locks.is_some() {
                        // It runs afterwards.
                        true => State::Fetched,
                        false => State::Open(u64::MAX),
                    },
                )
                .collect(),
            narrowed: vec![false; fragments.len()],
        }
    }

    /// All are there.
    pub fn are_done(&self) -> bool {
        self.states.iter().all(|state| *state == State::Fetched)
    }

    /// The fragments of which it matters how many rows they will have: there are others that may leave out rows of
    /// them, or the other way around.
    pub fn asked(&self) -> Vec<usize> {
        let leaves_out = |at: usize| {
            self.is_open(at) && (self.narrowed[at] || self.fragments[at].narrowing.filtered)
        };
        let gains = |at: usize| {
            let mut by = self.fragments[at].narrowing.by.iter();
            self.is_open(at) && by.any(|keys| leaves_out(keys.from))
        };
        if !(0..self.fragments.len()).any(gains) {
            return Vec::new();
        }
        let is_related = |at: &usize| {
            let mut by = self.fragments[*at].narrowing.by.iter();
            by.any(|keys| self.is_open(keys.from))
                || (0..self.fragments.len()).any(|other| {
                    let mut by = self.fragments[other].narrowing.by.iter();
                    self.is_open(other) && by.any(|keys| keys.from == *at)
                })
        };
        (0..self.fragments.len())
            .filter(|at| self.is_open(*at) && is_related(at))
            .collect()
    }

    /// So many rows are expected of a fragment.
    pub fn expect(&mut self, fragment: usize, rows: u64) {
        self.states[fragment] = State::Open(rows);
    }

    /// What is fetched now; after that it counts as being there.
    pub fn begin(&mut self) -> Vec<usize> {
        let waiting = self.waiting();
        let open = (0..self.fragments.len()).filter(|at| self.is_open(*at));
        let next: Vec<usize> = open.filter(|at| !waiting[*at]).collect();
        for at in &next {
            self.states[*at] = State::Fetched;
        }
        next
    }

    /// Those for whose rows it is better to know others first.
    fn waiting(&self) -> Vec<bool> {
        let count = self.fragments.len();
        let (mut waiting, mut needed) = (vec![false; count], vec![false; count]);
        let rows = |at: usize| match self.states[at] {
            State::Open(rows) => Some(rows),
            State::Fetched => None,
        };
        for (at, fragment) in self.fragments.iter().enumerate() {
            let Some(own) = rows(at).filter(|own| *own > FEW) else {
                continue;
            };
            for keys in &fragment.narrowing.by {
                let filtered = self.fragments[keys.from].narrowing.filtered;
                let fewer = rows(keys.from).is_some_and(|theirs| theirs <= own / 2);
                if fewer && (filtered || self.narrowed[keys.from]) {
                    waiting[at] = true;
                    needed[keys.from] = true;
                }
            }
        }
        // What waits gets smaller, and may then leave out rows of others; but nothing that others wait for.
        let mut more = true;
        while more {
            more = false;
            for (at, fragment) in self.fragments.iter().enumerate() {
                let by = fragment.narrowing.by.iter();
                let gains = by.map(|keys| keys.from).any(|from| waiting[from]);
                let large = rows(at).is_some_and(|own| own > FEW);
                if gains && large && !waiting[at] && !needed[at] {
                    waiting[at] = true;
                    more = true;
                }
            }
        }
        // Of a circle, the smallest goes first.
        let open = (0..count).filter(|at| self.is_open(*at));
        if open.clone().all(|at| waiting[at])
            && let Some(least) = open.min_by_key(|at| rows(*at))
        {
            waiting[least] = false;
        }
        waiting
    }

    /// Which keys leave out rows of a fragment, of those that are there; for each column the fewest. `count` knows how
    /// many there are, if they are few enough.
    pub fn narrowing(
        &mut self,
        fragment: usize,
        mut count: impl FnMut(&Keys) -> Option<u32>,
    ) -> Vec<&'f Keys> {
        let mut chosen: Vec<(&Keys, u32)> = Vec::new();
        for keys in &self.fragments[fragment].narrowing.by {
            let there = !self.is_open(keys.from);
            let leaves_out =
                self.fragments[keys.from].narrowing.filtered || self.narrowed[keys.from];
            if !there || !leaves_out {
                continue;
            }
            let Some(count) = count(keys).filter(|count| *count <= MANY) else {
                continue;
            };
            let expected = match self.states[fragment] {
                State::Open(rows) => rows,
                State::Fetched => u64::MAX,
            };
            if u64::from(count) > expected / 2 {
                continue;
            }
            match chosen
                .iter_mut()
                .find(|(known, _)| known.column == keys.column)
            {
                Some(known) if known.1 > count => *known = (keys, count),
                Some(_) => {}
                None => chosen.push((keys, count)),
            }
        }
        self.narrowed[fragment] |= !chosen.is_empty();
        chosen.into_iter().map(|(keys, _)| keys).collect()
    }

    fn is_open(&self, fragment: usize) -> bool {
        matches!(self.states[fragment], State::Open(_))
    }
}

/// The rows that EXPLAIN expects, by its first line.
pub fn expected(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(" rows=")?;
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::{Holders, Narrowing};
    use super::*;
    use mothership_catalog::Name;

    fn keys(column: &str, from: usize) -> Keys {
        Keys {
            column: column.to_owned(),
            base: "integer".to_owned(),
            from,
            at: 0,
        }
    }

    fn fragment(filtered: bool, by: Vec<Keys>) -> Fragment {
        Fragment {
            table: Name {
                schema: "public".to_owned(),
                name: "t".to_owned(),
            },
            sql: String::new(),
            of: Holders::All,
            elements: vec![23],
            types: vec!["integer".to_owned()],
            narrowing: Narrowing { filtered, by },
            writes: false,
            locks: None,
        }
    }

    /// Parts with a condition, their lines, and the orders of these.
    fn chain() -> Vec<Fragment> {
        vec![
            fragment(true, vec![keys("p", 1)]),
            fragment(false, vec![keys("l_part", 0), keys("l_order", 2)]),
            fragment(false, vec![keys("o", 1)]),
        ]
    }

    fn expecting<'f>(fragments: &'f [Fragment], rows: &[u64]) -> Waves<'f> {
        let mut waves = Waves::new(fragments);
        for (at, rows) in rows.iter().enumerate() {
            waves.expect(at, *rows);
        }
        waves
    }

    #[test]
    fn large_fragments_wait_for_small_ones_and_for_those_that_wait() {
        let fragments = chain();
        let mut waves = expecting(&fragments, &[20, 600_000, 150_000]);
        assert_eq!(waves.asked(), [0, 1, 2]);
        assert_eq!(waves.begin(), [0]);
        let chosen = waves.narrowing(1, |_| Some(20));
        assert_eq!(chosen, [&keys("l_part", 0)]);
        waves.expect(1, 600);
        assert_eq!(waves.begin(), [1]);
        assert_eq!(waves.narrowing(2, |_| Some(590)), [&keys("o", 1)]);
        assert_eq!(waves.begin(), [2]);
        assert!(waves.are_done());
    }

    #[test]
    fn without_a_condition_anywhere_all_is_fetched_at_once_and_nothing_is_asked() {
        let fragments = vec![
            fragment(false, vec![keys("a", 1)]),
            fragment(false, vec![keys("b", 0)]),
        ];
        let mut waves = Waves::new(&fragments);
        assert!(waves.asked().is_empty());
        assert_eq!(waves.begin(), [0, 1]);
        assert!(waves.are_done());
    }

    #[test]
    fn few_rows_are_not_waited_for() {
        let fragments = chain();
        let mut waves = expecting(&fragments, &[20, 400, 300]);
        assert_eq!(waves.begin(), [0, 1, 2]);
    }

    #[test]
    fn of_a_circle_one_goes_first() {
        let mut fragments = chain();
        fragments[0].narrowing.filtered = false;
        fragments[1].narrowing.filtered = true;
        fragments[2].narrowing.filtered = true;
        let mut waves = expecting(&fragments, &[4_000, 2_000, 1_000]);
        while !waves.are_done() {
            assert!(!waves.begin().is_empty());
        }
    }

    #[test]
    fn keys_that_leave_out_nothing_are_not_sent() {
        let fragments = chain();
        let mut waves = expecting(&fragments, &[20, 30, 150_000]);
        assert_eq!(waves.begin(), [0, 1, 2]);
        let mut waves = expecting(&fragments, &[20, 600_000, 150_000]);
        waves.begin();
        assert!(waves.narrowing(1, |_| None).is_empty(), "too many");
        assert!(waves.narrowing(1, |_| Some(400_000)).is_empty(), "no gain");
    }

    #[test]
    fn explain_says_how_many_rows_it_expects() {
        let line = "Seq Scan on t  (cost=0.00..1.05 rows=512 width=4)";
        assert_eq!(expected(line), Some(512));
        assert_eq!(expected("Result"), None);
    }
}
