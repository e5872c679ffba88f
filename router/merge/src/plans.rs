//! What EXPLAIN says of a statement over several shards: the router's own part, and those of the servers beneath it.

/// A part of the answer, from one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerPlan {
    /// What it is: a shard's share, a fragment, the residue.
    pub title: String,
    /// What the router knows of it.
    pub facts: Vec<(String, Fact)>,
    /// What the server says, line by line.
    pub lines: Vec<String>,
}

/// Something that the router knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// In words.
    Text(String),
    /// A number.
    Count(u64),
    /// So many thousandths of a millisecond.
    Time(u64),
}

impl Fact {
    fn text(&self) -> String {
        match self {
            Fact::Text(text) => text.clone(),
            Fact::Count(count) => count.to_string(),
            Fact::Time(_) => format!("{} ms", self.json()),
        }
    }

    fn json(&self) -> String {
        match self {
            Fact::Text(text) => string(text),
            Fact::Count(count) => count.to_string(),
            Fact::Time(time) => format!("{}.{:03}", time / 1000, time % 1000),
        }
    }
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plans {
    /// The kind of the router's plan.
    pub kind: String,
    /// What is to be said of it.
    pub facts: Vec<(String, Fact)>,
    /// The servers' parts.
    pub parts: Vec<ServerPlan>,
    /// How long all of it took, if that is to be told.
    pub time: Option<Fact>,
}

impl Plans {
    /// As lines, indented as PostgreSQL does.
    pub fn text(&self) -> Vec<String> {
        let mut out = vec![self.kind.clone()];
        let facts = self.facts.iter();
        out.extend(facts.map(|(name, fact)| format!("  {name}: {}", fact.text())));
        for part in &self.parts {
            let mut line = format!("  ->  {}", part.title);
            let facts = part.facts.iter();
            let facts: Vec<String> = facts
                .map(|(name, fact)| format!("{}={}", name.to_lowercase(), fact.text()))
                .collect();
            if !facts.is_empty() {
                line += &format!("  ({})", facts.join(" "));
            }
            out.push(line);
            out.extend(part.lines.iter().map(|line| format!("        {line}")));
        }
        let time = self.time.iter();
        out.extend(time.map(|time| format!("Execution Time: {}", time.text())));
        out
    }

    /// As one document of the form that PostgreSQL gives: the router's plan has those of the servers below it. `None` if
    /// a server has said something that is no such document.
    pub fn json(&self) -> Option<String> {
        let mut plan = vec![member("Node Type", &string(&self.kind))];
        plan.extend(
            self.facts
                .iter()
                .map(|(name, fact)| member(name, &fact.json())),
        );
        let parts: Option<Vec<String>> = self.parts.iter().map(ServerPlan::json).collect();
        plan.push(member("Plans", &list(&parts?)));
        let mut all = vec![member("Plan", &object(&plan))];
        all.extend(
            self.time
                .iter()
                .map(|time| member("Execution Time", &time.json())),
        );
        Some(list(&[object(&all)]))
    }
}

impl ServerPlan {
    fn json(&self) -> Option<String> {
        let mut node = vec![member("Node Type", &string(&self.title))];
        node.extend(
            self.facts
                .iter()
                .map(|(name, fact)| member(name, &fact.json())),
        );
        if self.lines.is_empty() {
            return Some(object(&node));
        }
        let said = self.lines.join("\n");
        let said = said.trim().strip_prefix('[')?.strip_suffix(']')?;
        let mut plans = Vec::new();
        for (name, value) in members(said.trim())? {
            match name {
                "Plan" => plans.push(outdented(value)),
                name => node.push(format!("\"{name}\": {}", outdented(value))),
            }
        }
        node.push(member("Plans", &list(&plans)));
        Some(object(&node))
    }
}

/// The members of an object, their names without quotes and their values as they are written.
fn members(object: &str) -> Option<Vec<(&str, &str)>> {
    let inner = object.strip_prefix('{')?.strip_suffix('}')?;
    let mut found = Vec::new();
    let mut rest = inner.trim_start();
    while !rest.is_empty() {
        let name_end = 1 + rest.strip_prefix('"')?.find('"')?;
        let name = &rest[1..name_end];
        let value = rest[name_end + 1..]
            .trim_start()
            .strip_prefix(':')?
            .trim_start();
        let end = value_end(value);
        found.push((name, value[..end].trim_end()));
        rest = value[end..].trim_start_matches(',').trim_start();
    }
    Some(found)
}

/// Where a value ends: at a comma outside of everything, or with the text.
fn value_end(text: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0_u32, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

/// A value of several lines with its last line at the margin.
fn outdented(value: &str) -> String {
    let margin = value
        .lines()
        .last()
        .map_or(0, |line| line.len() - line.trim_start_matches(' ').len());
    let lines = value.lines().enumerate().map(|(at, line)| match at {
        0 => line,
        _ => line.get(margin..).unwrap_or(line),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn member(name: &str, value: &str) -> String {
    format!("{}: {value}", string(name))
}

fn object(members: &[String]) -> String {
    enclosed('{', members, '}')
}

fn list(items: &[String]) -> String {
    enclosed('[', items, ']')
}

fn enclosed(open: char, items: &[String], close: char) -> String {
    if items.is_empty() {
        return format!("{open}{close}");
    }
    // A string of JSON has no line feed of its own.
    let items: Vec<String> = items
        .iter()
        .map(|item| format!("  {}", item.replace('\n', "\n  ")))
        .collect();
    format!("{open}\n{}\n{close}", items.join(",\n"))
}

fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A line of a server without the values of the arrays that were handed over: EXPLAIN VERBOSE would show them all.
pub fn without_arrays(line: &str) -> String {
    const BEFORE: &str = "unnest('";
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(BEFORE) {
        let (before, value) = rest.split_at(at + BEFORE.len());
        out.push_str(before);
        // To the quote that is not doubled.
        let mut end = 0;
        rest = loop {
            let Some(quote) = value[end..].find('\'') else {
                break "";
            };
            end += quote;
            match value[end + 1..].starts_with('\'') {
                true => end += 2,
                false => break &value[end..],
            }
        };
        out.push_str("...");
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn plans(lines: &[&str]) -> Plans {
        Plans {
            kind: "Scatter".to_owned(),
            facts: vec![("Shards".to_owned(), Fact::Text("s1, \"s2\"".to_owned()))],
            parts: vec![ServerPlan {
                title: "Shard s1".to_owned(),
                facts: vec![
                    ("Rows".to_owned(), Fact::Count(3)),
                    ("Time".to_owned(), Fact::Time(1_020)),
                ],
                lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            }],
            time: Some(Fact::Time(12_345)),
        }
    }

    #[test]
    fn the_plans_of_servers_are_indented_beneath_the_routers() {
        let text = plans(&["Seq Scan on t", "  Filter: (a > 1)"])
            .text()
            .join("\n");
        expect![[r#"
            Scatter
              Shards: s1, "s2"
              ->  Shard s1  (rows=3 time=1.020 ms)
                    Seq Scan on t
                      Filter: (a > 1)
            Execution Time: 12.345 ms"#]]
        .assert_eq(&text);
    }

    #[test]
    fn documents_of_servers_become_one() {
        let said = [
            "[",
            "  {",
            "    \"Plan\": {",
            "      \"Node Type\": \"Seq Scan\",",
            "      \"Filter\": \"(b = '{\\\"x]'::text)\",",
            "      \"Plans\": [",
            "        {",
            "          \"Node Type\": \"Result\"",
            "        }",
            "      ]",
            "    },",
            "    \"Planning Time\": 0.10,",
            "    \"Triggers\": [",
            "    ]",
            "  }",
            "]",
        ];
        expect![[r#"
            [
              {
                "Plan": {
                  "Node Type": "Scatter",
                  "Shards": "s1, \"s2\"",
                  "Plans": [
                    {
                      "Node Type": "Shard s1",
                      "Rows": 3,
                      "Time": 1.020,
                      "Planning Time": 0.10,
                      "Triggers": [
                      ],
                      "Plans": [
                        {
                          "Node Type": "Seq Scan",
                          "Filter": "(b = '{\"x]'::text)",
                          "Plans": [
                            {
                              "Node Type": "Result"
                            }
                          ]
                        }
                      ]
                    }
                  ]
                },
                "Execution Time": 12.345
              }
            ]"#]]
        .assert_eq(&plans(&said).json().expect("it is a document"));
        assert_eq!(plans(&["Seq Scan on t"]).json(), None);
    }

    #[test]
    fn arrays_are_not_shown() {
        let line = "Output: unnest('{1,2}'::bigint[]), unnest('{''a'',\"b''\"}'::text[]), 'x'";
        let shown = without_arrays(line);
        assert_eq!(
            shown,
            "Output: unnest('...'::bigint[]), unnest('...'::text[]), 'x'"
        );
        assert_eq!(without_arrays("unnest('abc"), "unnest('...");
    }
}
