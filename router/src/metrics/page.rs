//! Writes samples in Prometheus' text format, version 0.0.4.
//!
//! In: families with label values and numbers, in any order. Out: the page. Label
//! values may come from clients, so each label takes a limited number of them and
//! whatever could break a line is escaped (R11).

use super::latency::Span;
use super::names::{FAMILIES, Family, Kind};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::time::Duration;

/// Characters of one label value.
const MAX_LABEL: usize = 128;

/// Limits of the buckets in microseconds.
const BUCKETS: [u64; 17] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000, 60_000_000,
];

/// Samples that wait to be written.
pub struct Page {
    most_labels: usize,
    labels: HashMap<&'static str, BTreeSet<String>>,
    numbers: HashMap<&'static str, BTreeMap<Vec<String>, f64>>,
    spans: HashMap<&'static str, BTreeMap<Vec<String>, Span>>,
}

impl Page {
    /// An empty page; each label may take so many values.
    pub fn new(most_labels: usize) -> Self {
        Self {
            most_labels,
            labels: HashMap::new(),
            numbers: HashMap::new(),
            spans: HashMap::new(),
        }
    }

    /// Adds a number.
    pub fn add(&mut self, family: &Family, labels: &[&str], number: f64) {
        debug_assert!(family.kind != Kind::Histogram);
        let labels = self.admit(family, labels);
        let all = self.numbers.entry(family.name).or_default();
        let known = all.entry(labels).or_insert(0.0);
        *known = match family.kind {
            Kind::Largest => known.max(number),
            _ => *known + number,
        };
    }

    /// Adds a histogram.
    pub fn add_span(&mut self, family: &Family, labels: &[&str], span: &Span) {
        debug_assert!(family.kind == Kind::Histogram);
        let labels = self.admit(family, labels);
        let all = self.spans.entry(family.name).or_default();
        all.entry(labels).or_default().add(span);
    }

    fn admit(&mut self, family: &Family, labels: &[&str]) -> Vec<String> {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let both = family.labels.iter().zip(labels);
        both.map(|(name, value)| {
            let known = self.labels.entry(name).or_default();
            let value: String = value.chars().take(MAX_LABEL).collect();
            if known.contains(&value) {
                return value;
            }
            if known.len() >= self.most_labels {
                return super::OTHER.to_owned();
            }
            known.insert(value.clone());
            value
        })
        .collect()
    }

    /// The text. Families without a sample are left out.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for family in FAMILIES {
            let numbers = self.numbers.get(family.name);
            let spans = self.spans.get(family.name);
            if numbers.is_none() && spans.is_none() {
                continue;
            }
            let (name, help, kind) = (family.name, family.help, family.kind.word());
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            for (labels, number) in numbers.into_iter().flatten() {
                put(&mut out, name, family, labels, None, *number);
            }
            for (labels, span) in spans.into_iter().flatten() {
                put_span(&mut out, family, labels, span);
            }
        }
        out
    }
}

fn put_span(out: &mut String, family: &Family, labels: &[String], span: &Span) {
    let limits = BUCKETS.map(Duration::from_micros);
    let bucket = format!("{}_bucket", family.name);
    for (limit, count) in limits.iter().zip(span.at_most(&limits)) {
        let limit = limit.as_secs_f64().to_string();
        put(out, &bucket, family, labels, Some(&limit), count as f64);
    }
    let count = span.count() as f64;
    put(out, &bucket, family, labels, Some("+Inf"), count);
    let sum = span.sum().as_secs_f64();
    put(
        out,
        &format!("{}_sum", family.name),
        family,
        labels,
        None,
        sum,
    );
    put(
        out,
        &format!("{}_count", family.name),
        family,
        labels,
        None,
        count,
    );
}

fn put(
    out: &mut String,
    name: &str,
    family: &Family,
    labels: &[String],
    limit: Option<&str>,
    number: f64,
) {
    out.push_str(name);
    let own = family
        .labels
        .iter()
        .copied()
        .zip(labels.iter().map(String::as_str));
    let mut begin = '{';
    for (label, value) in own.chain(limit.map(|limit| ("le", limit))) {
        let _ = write!(out, "{begin}{label}=\"{}\"", Escaped(value));
        begin = ',';
    }
    if begin == ',' {
        out.push('}');
    }
    let _ = writeln!(out, " {number}");
}

/// A label value that cannot end its line or its quotes.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::latency::{Latencies, LatencyKey, Spent};
    use super::super::names;
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_label_cannot_break_the_page() {
        let mut page = Page::new(10);
        let nasty = "a\"} 1\nevil{x=\"\\\r\u{7}é";
        page.add(&names::QUERIES, &["d", nasty], 1.0);
        page.add(&names::QUERIES, &["d", nasty], 2.5);
        page.add(&names::OLDEST_WAIT, &["s", "h", "d", "u"], 2.0);
        page.add(&names::OLDEST_WAIT, &["s", "h", "d", "u"], 1.0);
        page.add(&names::CORES, &[], 3.0);
        expect![[r#"
            # HELP mothership_cores Threads that serve clients.
            # TYPE mothership_cores gauge
            mothership_cores 3
            # HELP mothership_queries_total Requests answered; each ends with one ReadyForQuery.
            # TYPE mothership_queries_total counter
            mothership_queries_total{database="d",user="a\"} 1\nevil{x=\"\\��é"} 3.5
            # HELP mothership_pool_oldest_wait_seconds How long the oldest of them has waited.
            # TYPE mothership_pool_oldest_wait_seconds gauge
            mothership_pool_oldest_wait_seconds{shard="s",server="h",database="d",user="u"} 2
        "#]]
        .assert_eq(&page.text());
    }

    // See: R11
    #[test]
    fn a_flood_of_names_stays_a_short_page() {
        let mut page = Page::new(100);
        for i in 0..10_000 {
            page.add(
                &names::QUERIES,
                &["d", &format!("{i}{}", "x".repeat(1_000))],
                1.0,
            );
        }
        let text = page.text();
        assert_eq!(text.lines().count(), 2 + 101);
        assert!(text.contains("user=\"other\"} 9900\n"));
        assert!(text.len() < 101 * 250);
    }

    #[test]
    fn a_histogram_counts_upwards_to_its_total() {
        let latencies = Latencies::default();
        for micros in [40, 90, 3_000, 70_000_000] {
            let total = Duration::from_micros(micros);
            let spent = Spent {
                total,
                ..Spent::default()
            };
            latencies.record(LatencyKey::default(), spent);
        }
        let mut page = Page::new(10);
        for spans in latencies.snapshot().values() {
            page.add_span(
                &names::REQUEST_TOTAL,
                &["s1", "primary", "single"],
                &spans.total,
            );
        }
        let text = page.text();
        let labels = "shard=\"s1\",role=\"primary\",plan=\"single\"";
        for line in [
            format!("mothership_request_seconds_bucket{{{labels},le=\"0.00005\"}} 1"),
            format!("mothership_request_seconds_bucket{{{labels},le=\"0.0025\"}} 2"),
            format!("mothership_request_seconds_bucket{{{labels},le=\"60\"}} 3"),
            format!("mothership_request_seconds_bucket{{{labels},le=\"+Inf\"}} 4"),
            format!("mothership_request_seconds_sum{{{labels}}} 70.00313"),
            format!("mothership_request_seconds_count{{{labels}}} 4"),
        ] {
            assert!(text.contains(&line), "{line}\nis not in\n{text}");
        }
    }
}
