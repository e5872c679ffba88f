//! What one probe learned of one server, and positions in its log.
//!
//! Plain data, made from the text of one row by [`Report::parse`]. Whether the
//! server may be used, and for what, is decided in `state` and `group`.

use std::fmt;
use std::time::Duration;

/// A position in the write-ahead log, in bytes.
///
/// <https://www.postgresql.org/docs/current/datatype-pg-lsn.html>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Reads PostgreSQL's form, `16/B374D848`.
    pub fn parse(text: &str) -> Option<Lsn> {
        let (high, low) = text.split_once('/')?;
        let part = |text: &str| match text.len() {
            1..=8 => u32::from_str_radix(text, 16).ok(),
            _ => None,
        };
        Some(Lsn(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }

    /// The end of the last record that may end at or below this *insert* position.
    ///
    /// `pg_current_wal_insert_lsn()` says where the next record will begin. When the last record filled its page, that
    /// is behind the header of the next page, which is written only with the next record: an idle replica replays to
    /// the page boundary and never reaches the insert position. No record ends inside of a header (one that fills its
    /// page ends, for PostgreSQL and its replicas, at the boundary), so the records that end at or below the position
    /// are those that end at or below the boundary, and it can be taken in its place. A page at the beginning of a
    /// segment has the long header. <https://www.postgresql.org/docs/current/wal-internals.html>
    pub fn end_of_last_record(self, wal: WalSizes) -> Lsn {
        let (Some(in_page), Some(in_segment)) = (
            self.0.checked_rem(wal.page),
            self.0.checked_rem(wal.segment),
        ) else {
            return self;
        };
        let header = match in_segment < wal.page {
            true => LONG_PAGE_HEADER,
            false => SHORT_PAGE_HEADER,
        };
        match in_page <= header {
            true => Lsn(self.0 - in_page),
            false => self,
        }
    }

    /// How many bytes this is behind `other`; 0 if it is not.
    pub fn behind(self, other: Lsn) -> u64 {
        other.0.saturating_sub(self.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

// `SizeOfXLogShortPHD` and `SizeOfXLogLongPHD` where data is aligned to 8 bytes. Where it is not (32-bit servers), the
// question gives 0 for the page and nothing is rounded.
const SHORT_PAGE_HEADER: u64 = 24;
const LONG_PAGE_HEADER: u64 = 40;

/// How a server's log is divided, in bytes; 0 where that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalSizes {
    /// `wal_block_size`; 0 too where page headers are not of the usual length.
    pub page: u64,
    /// `bytes_per_wal_segment`.
    pub segment: u64,
}

/// What a server says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportedRole {
    /// It is not in recovery.
    Primary {
        /// The timeline that it writes.
        timeline: u32,
        /// No record that was inserted when the question was answered ends behind this.
        written: Lsn,
    },
    /// It is in recovery.
    Replica {
        /// Every record that ends at or below this had been replayed.
        replayed: Lsn,
        /// `replayed` lies in the history of this timeline; none if that is not certain.
        timeline: Option<u32>,
        /// By the server's own clock, the age of the last commit that it has replayed. Large on an idle primary's replica
        /// too: for display, not for decisions.
        age: Option<Duration>,
    },
}

/// The answer to one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of the database cluster, equal on a primary and its replicas. Positions of different systems say nothing of each other.
    pub system: u64,
    /// Its role and position.
    pub says: ReportedRole,
    /// Transactions that begin there may not write unless they say so: `default_transaction_read_only`.
    pub read_only: bool,
}

/// An answer that is none: the server is not PostgreSQL, or newer than we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of the probe's answer cannot be read")]
pub struct Unreadable {
    /// Which one.
    pub column: &'static str,
}

impl Report {
    /// Reads a row of [`QUESTION`], column by column.
    pub fn parse<'a>(column: impl Fn(usize) -> Option<&'a str>) -> Result<Report, Unreadable> {
        let unreadable = |column| Unreadable { column };
        let number = |at, name| {
            let number = column(at).and_then(|text| text.parse::<u64>().ok());
            number.filter(|n| *n > 0).ok_or(unreadable(name))
        };
        let position = |at, name| column(at).and_then(Lsn::parse).ok_or(unreadable(name));
        let system = number(1, "system_identifier")?;
        let says = match column(0) {
            Some("f") => {
                let size = |at| column(at).and_then(|text| text.parse().ok()).unwrap_or(0);
                let wal = WalSizes {
                    page: size(5),
                    segment: size(6),
                };
                ReportedRole::Primary {
                    timeline: column(3)
                        .and_then(timeline_of_file)
                        .ok_or(unreadable("pg_walfile_name"))?,
                    written: position(2, "pg_current_wal_insert_lsn")?.end_of_last_record(wal),
                }
            }
            Some("t") => ReportedRole::Replica {
                replayed: position(2, "pg_last_wal_replay_lsn")?,
                timeline: column(4).and_then(|text| text.parse().ok()),
                age: column(7)
                    .and_then(|text| text.parse().ok())
                    .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            },
            _ => return Err(unreadable("pg_is_in_recovery")),
        };
        Ok(Report {
            system,
            says,
            read_only: column(8) == Some("on"),
        })
    }
}

/// A WAL file's name begins with its timeline in hexadecimal.
fn timeline_of_file(name: &str) -> Option<u32> {
    let timeline = name.get(..8)?;
    u32::from_str_radix(timeline, 16).ok().filter(|t| *t > 0)
}

/// Columns of the answer to [`QUESTION`].
pub const COLUMNS: usize = 9;

/// The one question of a probe. Everything in it is fully qualified, operators included (CVE-2025-12819).
///
/// - Whether the server is in recovery is asked once, first and behind `OFFSET 0`: a promotion between two askings would
///   let a function fail that works on the other side only. What is asked of a replica works just after a promotion too.
/// - The timeline of a primary is that of the file it writes; `pg_control_checkpoint()` lags behind a promotion.
/// - The timeline of a replica is read *after* its position (targets are evaluated from left to right, and a subquery that
///   depends on nothing is run when its value is first needed): timelines only move on, so the position lies in the history of the timeline that
///   is read. A replica takes up a timeline (`received_tli`) only if what it has replayed belongs to its history, and a
///   checkpoint that it has restarted from was replayed; so both are certain, and the later one says more.
///   `received_tli` is hidden (null) from roles without pg_read_all_stats; the other one is not.
/// - Sizes are parameters of the build and of initdb.
pub const QUESTION: &str = "\
SELECT s.in_recovery, \
 (SELECT c.system_identifier FROM pg_catalog.pg_control_system() AS c), \
 CASE WHEN s.in_recovery THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END, \
 CASE WHEN s.in_recovery THEN NULL ELSE pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()) END, \
 CASE WHEN s.in_recovery THEN GREATEST(\
   (SELECT w.received_tli FROM pg_catalog.pg_stat_wal_receiver AS w), \
   (SELECT k.timeline_id FROM pg_catalog.pg_control_checkpoint() AS k)) END, \
 (SELECT CASE WHEN i.max_data_alignment OPERATOR(pg_catalog.=) 8 THEN i.wal_block_size ELSE 0 END \
   FROM pg_catalog.pg_control_init() AS i), \
 (SELECT i.bytes_per_wal_segment FROM pg_catalog.pg_control_init() AS i), \
 CASE WHEN s.in_recovery THEN pg_catalog.date_part('epoch', \
   pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.pg_last_xact_replay_timestamp()) END, \
 pg_catalog.current_setting('default_transaction_read_only') \
FROM (SELECT pg_catalog.pg_is_in_recovery() AS in_recovery OFFSET 0) AS s";

#[cfg(test)]
mod tests {
    use super::*;

    const WAL: WalSizes = WalSizes {
        page: 8192,
        segment: 16 << 20,
    };

    #[test]
    fn positions_are_read_as_postgresql_prints_them() {
        let cases = [
            ("0/0", Some(0)),
            ("16/B374D848", Some(0x16_B374_D848)),
            ("FFFFFFFF/FFFFFFFF", Some(u64::MAX)),
            ("1/", None),
            ("/1", None),
            ("1", None),
            ("1/2/3", None),
            ("1/123456789", None),
            ("-1/0", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Lsn::parse(text), expected.map(Lsn), "{text}");
        }
        assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
    }

    #[test]
    fn an_insert_position_just_behind_a_page_header_is_the_page_boundary() {
        let segment = 5 * WAL.segment;
        let cases = [
            // Behind the short header; a record may end at 32 (a continuation of 8 bytes).
            (segment + 8192 + 24, segment + 8192),
            (segment + 8192 + 32, segment + 8192 + 32),
            (segment + 8192 + 40, segment + 8192 + 40),
            (segment + 8192, segment + 8192),
            (segment + 8184, segment + 8184),
            // Behind the long header of a segment's first page.
            (segment + 40, segment),
            (segment + 24, segment),
            (segment + 48, segment + 48),
            (0, 0),
        ];
        for (insert, expected) in cases {
            assert_eq!(
                Lsn(insert).end_of_last_record(WAL),
                Lsn(expected),
                "{insert}"
            );
        }
        let unknown = WalSizes {
            page: 0,
            segment: 0,
        };
        assert_eq!(Lsn(77).end_of_last_record(unknown), Lsn(77));
    }

    #[test]
    fn a_row_becomes_a_report_or_says_which_column_is_wrong() {
        type Row = [Option<&'static str>; COLUMNS];
        let sizes = (Some("8192"), Some("16777216"));
        let primary: Row = [
            Some("f"),
            Some("7"),
            Some("0/3000028"),
            Some("0000000A0000000000000003"),
            None,
            sizes.0,
            sizes.1,
            None,
            Some("off"),
        ];
        let replica: Row = [
            Some("t"),
            Some("7"),
            Some("0/3000000"),
            None,
            Some("10"),
            sizes.0,
            sizes.1,
            Some("1.5"),
            Some("on"),
        ];
        let parse = |row: Row| Report::parse(|at| row[at]);
        assert_eq!(
            parse(primary),
            Ok(Report {
                system: 7,
                says: ReportedRole::Primary {
                    timeline: 10,
                    written: Lsn(0x300_0000)
                },
                read_only: false,
            })
        );
        assert_eq!(
            parse(replica),
            Ok(Report {
                system: 7,
                says: ReportedRole::Replica {
                    replayed: Lsn(0x300_0000),
                    timeline: Some(10),
                    age: Some(Duration::from_millis(1500))
                },
                read_only: true,
            })
        );
        let wrong = |row: Row, at: usize, text| {
            let mut row = row;
            row[at] = text;
            parse(row).map_err(|e| e.column)
        };
        assert_eq!(wrong(primary, 0, None), Err("pg_is_in_recovery"));
        assert_eq!(wrong(primary, 1, Some("0")), Err("system_identifier"));
        assert_eq!(
            wrong(primary, 2, Some("x")),
            Err("pg_current_wal_insert_lsn")
        );
        assert_eq!(wrong(primary, 3, Some("ö")), Err("pg_walfile_name"));
        assert_eq!(wrong(replica, 2, None), Err("pg_last_wal_replay_lsn"));
        let hidden = parse({
            let mut row = replica;
            row[4] = None;
            row[7] = Some("-3");
            row
        });
        let Ok(Report {
            says: ReportedRole::Replica { timeline, age, .. },
            ..
        }) = hidden
        else {
            panic!("{hidden:?}");
        };
        assert_eq!((timeline, age), (None, None));
    }
}
