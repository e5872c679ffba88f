//! Claims that need more than a statement and its plan.

use mothership_shardmap::{Label, ShardId};

use super::*;
use crate::refuse;
use mothership_sql::places::{shows, sketched};

fn with<T>(f: impl FnOnce(&Planner<'_>, &ShardMap) -> T) -> T {
    let (catalog, map) = (catalog(), map());
    f(&Planner::new(&catalog, &map), &map)
}

fn bound(sql: &str, types: &[u32], params: &Params<'_>) -> Result<Route, Refusal> {
    with(|planner, map| {
        let context = PlanContext {
            parameter_types: types.to_vec(),
            ..PlanContext::default()
        };
        let plan = planner.plan(sql, &context);
        route(&plan, params, map, &TextContext::UTC, None).map_err(refusal)
    })
}

fn shards(sql: &str, types: &[u32], formats: &[i16], values: &[Option<&[u8]>]) -> Vec<u16> {
    let params = Params {
        formats,
        values,
        ..Params::NONE
    };
    bound(sql, types, &params)
        .unwrap()
        .shards
        .iter()
        .map(|s| s.0)
        .collect()
}

#[test]
fn shards_whose_collations_differ_do_not_say_which_text_is_the_largest() {
    let map = map();
    let asked = |catalog: Catalog| {
        let planner = Planner::new(&catalog, &map);
        match planner.plan("SELECT max(b) FROM t", &PlanContext::default()) {
            Plan::Gather(gather) => gather.fragments[0].sql.clone(),
            plan => panic!("{plan}"),
        }
    };
    assert!(asked(catalog()).contains("max("));
    let differing = Catalog {
        text_order_differs: true,
        ..catalog()
    };
    assert!(!asked(differing).contains("max("));
}

#[test]
fn a_session_may_wish_that_its_queries_are_gathered() {
    with(|planner, map| {
        let wishes = PlanContext {
            gathers: true,
            ..PlanContext::default()
        };
        for sql in [
            "SELECT * FROM t",
            "SELECT * FROM t WHERE id = 5",
            "SELECT count(*) FROM t",
            "SELECT id FROM t ORDER BY id LIMIT 3",
        ] {
            let usual = planner.plan(sql, &PlanContext::default());
            assert!(!matches!(usual, Plan::Gather(_)), "{usual}");
            let plan = planner.plan(sql, &wishes);
            assert!(matches!(plan, Plan::Gather(_)), "{plan}");
            let found = route(&plan, &Params::NONE, map, &TextContext::UTC, None).unwrap();
            assert!(found.gathered.is_some(), "{sql}");
        }
        // What has nothing to gather is planned as ever.
        let usual = planner.plan("SELECT 1", &PlanContext::default());
        assert_eq!(planner.plan("SELECT 1", &wishes), usual);
    });
}

#[test]
fn a_word_of_the_grammar_names_no_declared_table() {
    let catalog = "server_version 150004\nschema public\nschema app\n\
        table public.t\n  column id bigint not null\n  column a int\n  primary key id\n\
        table public.by\n  column id bigint not null\n  column a int\n  primary key id\n\
        table public.home\n  column id bigint not null\n  column a int\n  primary key id\n\
        table app.kinds\n  column id int not null\n  column name text\n  primary key id\n\
        function public.first stable sql SELECT a FROM home ORDER BY id LIMIT 1\n";
    let catalog = mothership_catalog::text::parse(catalog).unwrap();
    let mut builder = ShardMapBuilder::new(1);
    builder.shard("s0");
    builder.shard("s1");
    for table in ["t", "by"] {
        builder.table("public", table, hash(&[("id", KeyType::Int8)]));
    }
    builder.table("app", "*", TableDecl::Reference);
    let map = builder.build().unwrap();
    let planner = Planner::new(&catalog, &map);
    let shown = |sql: &str| planner.plan(sql, &PlanContext::default()).to_string();
    for (sql, expected) in [
        (
            "SELECT a, count(*) FROM home GROUP BY a ORDER BY a",
            "Single home",
        ),
        (
            "SELECT a FROM home UNION SELECT extract(year FROM date '2020-01-01')::int ORDER BY a",
            "Single home",
        ),
        (
            "INSERT INTO home (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 1",
            "Single home",
        ),
        (
            "INSERT INTO t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 1",
            "Split public.t",
        ),
        (
            "UPDATE home SET a = 1 WHERE EXISTS (VALUES (1))",
            "Single home",
        ),
        (
            "DELETE FROM home WHERE a BETWEEN 1 AND 2 AND a::text LIKE 'x%'",
            "Single home",
        ),
        (
            "SELECT t.a, k.name FROM t LEFT JOIN app.kinds k ON k.id = t.a WHERE t.id = 1 ORDER BY 1",
            "Single t",
        ),
        (
            "SELECT rank() OVER (PARTITION BY a ORDER BY id) FROM by WHERE id = 1",
            "Single by",
        ),
        ("SELECT a FROM home, by ORDER BY 1", "Gather"),
        (
            "SELECT a FROM app.coming ORDER BY a",
            "Refuse not-in-catalog",
        ),
        (
            "CREATE VIEW v AS SELECT a FROM home GROUP BY a ORDER BY a",
            "Ddl home",
        ),
        (
            "CREATE VIEW v AS SELECT a FROM by ORDER BY a",
            "Ddl all shards",
        ),
        (
            "CREATE VIEW v AS SELECT a FROM app.coming",
            "Ddl all shards",
        ),
        ("TRUNCATE home", "Single home"),
    ] {
        let plan = shown(sql);
        assert!(plan.starts_with(expected), "{sql}: {plan}");
    }
}

#[test]
fn a_table_may_have_the_name_of_a_keyword() {
    let catalog = "server_version 150004\nschema public\ntable public.order\n  column id bigint not null\n  primary key id\n";
    let catalog = mothership_catalog::text::parse(catalog).unwrap();
    let mut builder = ShardMapBuilder::new(1);
    builder.shard("s0");
    builder.shard("s1");
    builder.table("public", "order", hash(&[("id", KeyType::Int8)]));
    let map = builder.build().unwrap();
    let planner = Planner::new(&catalog, &map);
    let shown = |sql: &str| planner.plan(sql, &PlanContext::default()).to_string();
    for sql in [
        "SELECT id FROM \"order\" ORDER BY id",
        "SELECT id FROM public.\"order\" AS o ORDER BY o.id LIMIT 2",
        "SELECT string_agg(id::text, ',' ORDER BY id) FROM \"order\"",
    ] {
        let plan = shown(sql);
        assert!(
            plan.starts_with("Scatter") || plan.starts_with("Gather"),
            "{sql}: {plan}"
        );
    }
    // Behind a period it is a name without quotes, too.
    let sql = "SELECT 1 FROM public.order WHERE id = 1";
    let plan = shown(sql);
    assert!(
        plan.starts_with("Single order") || plan.starts_with("Refuse"),
        "{sql}: {plan}"
    );
}

#[test]
fn text_and_binary_parameters_of_every_width_are_one_key() {
    let sql = "SELECT * FROM t WHERE id = $1";
    let literal = shards("SELECT * FROM t WHERE id = 5", &[], &[], &[]);
    for (types, format, value) in [
        (&[][..], 0, &b"5"[..]),
        (&[20], 0, b" 5"),
        (&[], 1, &[0, 0, 0, 0, 0, 0, 0, 5]),
        (&[20], 1, &[0, 0, 0, 0, 0, 0, 0, 5]),
        (&[23], 1, &[0, 0, 0, 5]),
        (&[21], 1, &[0, 5]),
        (&[1700], 0, b"5.0"),
    ] {
        assert_eq!(
            shards(sql, types, &[format], &[Some(value)]),
            literal,
            "{types:?} {value:?}"
        );
    }
    // A null parameter matches no row; one shard answers that.
    assert_eq!(shards(sql, &[], &[], &[None]), [0]);
    // A float compares as float: every shard, with the merge of the plan.
    let all = bound(
        sql,
        &[701],
        &Params {
            formats: &[],
            values: &[Some(b"5")],
            ..Params::NONE
        },
    )
    .unwrap();
    assert_eq!((all.shards.len(), all.merge), (4, Some(Merge::Concat)));
    // A parameter that was not bound is not known.
    assert_eq!(bound(sql, &[], &Params::NONE).unwrap().shards.len(), 4);
}

#[test]
fn a_parameter_that_takes_its_type_elsewhere_is_no_key() {
    let five: &[Option<&[u8]>] = &[Some(b"5")];
    assert_eq!(
        shards("SELECT * FROM t WHERE f = $1 AND id = $1", &[], &[], five).len(),
        4
    );
    assert_eq!(
        shards("SELECT * FROM t WHERE id = $1 LIMIT ALL", &[], &[], five).len(),
        1
    );
    assert_eq!(
        shards("SELECT * FROM t WHERE id = $1 AND id = $1", &[], &[], five).len(),
        1
    );
}

#[test]
fn array_parameters_go_to_the_owners_of_their_elements() {
    let sql = "SELECT * FROM t WHERE id = ANY($1)";
    let listed = shards("SELECT * FROM t WHERE id IN (1, 2)", &[], &[], &[]);
    assert_eq!(shards(sql, &[], &[0], &[Some(b"{1,2}")]), listed);
    assert_eq!(shards(sql, &[1016], &[0], &[Some(b"{1,NULL,2}")]), listed);
    let mut binary = Vec::new();
    for int in [1, 0, 23, 2, 1, 4, 1, 4, 2] {
        binary.extend(i32::to_be_bytes(int));
    }
    assert_eq!(shards(sql, &[1007], &[1], &[Some(&binary)]), listed);
    assert_eq!(shards(sql, &[], &[0], &[Some(b"[2:3]={1,2}")]).len(), 4);
    assert_eq!(shards(sql, &[1022], &[0], &[Some(b"{1,2}")]).len(), 4);
}

#[test]
fn the_same_statement_gathers_or_not_by_its_values() {
    let sql = "SELECT * FROM t WHERE id = ANY($1) ORDER BY b";
    assert_eq!(shards(sql, &[], &[], &[Some(b"{5,5}")]).len(), 1);
    let two = Params {
        formats: &[],
        values: &[Some(b"{1,2}")],
        ..Params::NONE
    };
    let route = bound(sql, &[], &two).unwrap();
    assert_eq!((route.gathered.is_some(), route.shards.len()), (true, 2));
}

#[test]
fn sorted_rows_are_merged_only_with_a_limit_that_is_certain() {
    let sql = "SELECT id FROM t ORDER BY a LIMIT $1 OFFSET $2";
    let gathers = |limit, offset| {
        let params = Params {
            formats: &[],
            values: &[limit, offset],
            ..Params::NONE
        };
        bound(sql, &[], &params).unwrap().gathered.is_some()
    };
    assert!(!gathers(Some(b"10"), Some(b"0")));
    assert!(!gathers(None, None));
    assert!(gathers(Some(b"-1"), None));
    assert!(gathers(Some(b"x"), None));
    assert!(gathers(Some(b"1"), Some(b"-1")));
    assert!(gathers(Some(b"9223372036854775808"), None));
}

#[test]
fn an_update_may_keep_its_key_and_not_change_it() {
    let sql = "UPDATE t SET id = $1 WHERE id = $2";
    let route = |new: &[u8], old: &[u8]| {
        bound(
            sql,
            &[],
            &Params {
                formats: &[],
                values: &[Some(new), Some(old)],
                ..Params::NONE
            },
        )
    };
    assert_eq!(route(b"5", b"5").unwrap().shards.len(), 1);
    assert_eq!(route(b"6", b"5").unwrap_err().reason, Reason::KeyUpdate);
    let null = Params {
        formats: &[],
        values: &[None, Some(b"5")],
        ..Params::NONE
    };
    assert_eq!(
        bound(sql, &[], &null).unwrap_err().reason,
        Reason::KeyUpdate
    );
}

#[test]
fn a_divided_insert_keeps_the_clients_text_around_its_rows() {
    let sql = "INSERT INTO t (id, b) VALUES (1, 'ä(,)'), -- one\n (2, 'b''') , ( $1 ,$2) ON CONFLICT DO NOTHING";
    with(|planner, map| {
        let plan = planner.plan(sql, &PlanContext::default());
        let Plan::Split(Split {
            rows:
                SplitRows::Values {
                    rows,
                    parameter_types,
                    ..
                },
            ..
        }) = &plan
        else {
            panic!("{plan}")
        };
        assert_eq!(parameter_types, &[20, 25]);
        let texts: Vec<&str> = rows.iter().map(|r| &sql[r.span.clone()]).collect();
        assert_eq!(texts, ["(1, 'ä(,)')", "(2, 'b''')", "( $1 ,$2)"]);
        let params = Params {
            formats: &[],
            values: &[Some(b"1"), Some(b"x")],
            ..Params::NONE
        };
        let route = route(&plan, &params, map, &TextContext::UTC, None).unwrap();
        for kept in route.rows.values() {
            let part = route::part_of(sql, rows, kept).unwrap();
            let changes = route::changes_of(rows, kept.iter().copied()).unwrap();
            assert!(shows(&sketched(sql, &changes), &part), "{part}");
        }
        let parts: Vec<(ShardId, String)> = route
            .rows
            .iter()
            .map(|(shard, kept)| (*shard, route::part_of(sql, rows, kept).unwrap()))
            .collect();
        assert_eq!(
            parts,
            [
                (
                    ShardId(2),
                    "INSERT INTO t (id, b) VALUES (1, 'ä(,)'), ( $1 ,$2) ON CONFLICT DO NOTHING"
                        .to_owned()
                ),
                (
                    ShardId(3),
                    "INSERT INTO t (id, b) VALUES (2, 'b''') ON CONFLICT DO NOTHING".to_owned()
                ),
            ]
        );
    });
}

#[test]
fn parameters_of_absent_rows_must_have_a_type() {
    let values: &[Option<&[u8]>] = &[Some(b"1"), Some(b"2"), Some(b"7")];
    let params = Params {
        formats: &[],
        values,
        ..Params::NONE
    };
    let sql = "INSERT INTO t (id, a) VALUES ($1, 1), ($2, $3 + 1)";
    assert_eq!(
        bound(sql, &[], &params).unwrap_err().reason,
        Reason::ParameterType
    );
    assert_eq!(bound(sql, &[20, 20, 23], &params).unwrap().shards.len(), 2);
    // A cast says it, too.
    let sql = "INSERT INTO t (id, a, b) VALUES ($1, 1, 'x'), ($2, 2, ($3)::varchar(4)::text)";
    assert_eq!(bound(sql, &[], &params).unwrap().shards.len(), 2);
}

#[test]
fn temporary_tables_hide_sharded_ones() {
    with(|planner, map| {
        let plan = |temporary: Temporary, sql: &str| {
            let context = PlanContext {
                temporary,
                ..PlanContext::default()
            };
            planner.plan(sql, &context)
        };
        let sql = "SELECT * FROM t WHERE id = 5";
        let with = |table: &str| Temporary::Perhaps([table.to_owned()].into());
        for (temporary, begins) in [
            (with("t"), "Refuse name-unclear"),
            (Temporary::Unclear, "Refuse name-unclear"),
            (with("other"), "Single t"),
        ] {
            let found = plan(temporary, sql).to_string();
            assert!(found.starts_with(begins), "{found}");
        }
        let found = plan(with("t"), "SELECT * FROM public.t WHERE id = 5").to_string();
        assert!(found.starts_with("Single t"), "{found}");
        let _ = map;
    });
}

#[test]
fn the_search_path_decides_which_table_is_meant() {
    with(|planner, _| {
        let plan = |path: &[&str]| {
            let search_path = path.iter().map(|s| (*s).to_owned()).collect();
            planner.plan(
                "SELECT * FROM t WHERE id = 5",
                &PlanContext {
                    search_path,
                    ..PlanContext::default()
                },
            )
        };
        assert!(
            plan(&["app", "public"])
                .to_string()
                .starts_with("Single home")
        );
        assert!(plan(&["public", "app"]).to_string().starts_with("Single t"));
        assert!(plan(&[]).to_string().contains("unknown=t"));
    });
}

#[test]
fn backslashes_are_not_guessed_without_standard_conforming_strings() {
    with(|planner, _| {
        let context = PlanContext {
            standard_conforming_strings: false,
            ..PlanContext::default()
        };
        let plan = |sql: &str| planner.plan(sql, &context).to_string();
        for (sql, expected) in [
            (
                "SELECT * FROM t WHERE id = 5",
                "Single t: id = 5 role=replica",
            ),
            // The backslash takes the quote with it.
            (
                "SELECT * FROM t WHERE b = 'a\\' AND id = 5 --'",
                "Scatter t: any merge=concat role=replica",
            ),
            (
                "SELECT 'a\\'b', a FROM t WHERE id = '\\065'",
                "Single t: id = '5' role=replica",
            ),
            (
                "SELECT E'a\\'b', a FROM t WHERE id = 5",
                "Single t: id = 5 role=replica",
            ),
            (
                "SELECT '\\351', a FROM t WHERE id = 5",
                "Refuse not-understood",
            ),
            (
                "SELECT U&'a', a FROM t WHERE id = 5",
                "Refuse not-understood",
            ),
            (
                "SELECT $$\\$$, a FROM t WHERE id = 5",
                "Refuse not-understood",
            ),
        ] {
            assert_eq!(plan(sql), expected, "{sql}");
        }
        let sorted = plan(r"SELECT a FROM t WHERE b = 'a\\b\'c' ORDER BY a");
        assert!(sorted.contains(r"E'a\\b''c'"), "{sorted}");
    });
}

#[test]
fn depth_and_length_are_refused_and_never_overflow_the_stack() {
    let deep = |open: &str, close: &str, n: usize| {
        format!(
            "SELECT * FROM t WHERE id = {}5{}",
            open.repeat(n),
            close.repeat(n)
        )
    };
    let cases = [
        deep("(", ")", 10_000),
        deep("(SELECT ", ")", 10_000),
        deep("- ", "", 100_000),
        deep("NOT ", "", 100_000),
        format!(
            "SELECT * FROM t WHERE id = 5{}",
            " OR id = 6".repeat(100_000)
        ),
        format!("SELECT * FROM t WHERE id = 5{}", " + 1".repeat(100_000)),
        format!("SELECT * FROM t WHERE id = 5{}", "::int".repeat(100_000)),
        format!(
            "SELECT id FROM t{}",
            " UNION ALL SELECT id FROM t".repeat(50_000)
        ),
        format!("SELECT * FROM t{}", " JOIN t ON true".repeat(20_000)),
        format!(
            "SELECT * FROM {}t{}",
            "(SELECT * FROM ".repeat(5_000),
            ") x".repeat(5_000)
        ),
        format!("SELECT {} FROM t", "CASE WHEN true THEN ".repeat(10_000)),
    ];
    // A thread as small as a runtime's workers.
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || {
            with(|planner, _| {
                for sql in cases {
                    let plan = planner.plan(&sql, &PlanContext::default());
                    assert!(matches!(plan, Plan::Refuse(_)), "{:.60}: {plan:.200}", sql);
                }
                let long = format!("SELECT * FROM t WHERE id = 5{}", " AND a = 6".repeat(2_000));
                assert!(matches!(
                    planner.plan(&long, &PlanContext::default()),
                    Plan::Single(_)
                ));
                let subscripts = format!("SELECT a{} FROM t", "[1]".repeat(50_000));
                assert!(matches!(
                    planner.plan(&subscripts, &PlanContext::default()),
                    Plan::Scatter(_)
                ));
                let list = format!("SELECT * FROM t WHERE id IN (5{})", ", 5".repeat(20_000));
                assert!(matches!(
                    planner.plan(&list, &PlanContext::default()),
                    Plan::Scatter(_)
                ));
            });
        })
        .unwrap()
        .join()
        .unwrap();
}

/// A short statement may name a view whose definition makes a deep tree, and that view may name another.
#[test]
fn definitions_of_views_never_overflow_the_stack() {
    let terms = |n: usize| " OR (t.id = 5)".repeat(n);
    let mut views = format!(
        "{}\nview public.deep (id) as SELECT t.id FROM public.t WHERE ((t.id = 4){})",
        include_str!("catalog.txt"),
        terms(900)
    );
    let mut within = "deep".to_owned();
    for (prefix, count) in [("w", 900), ("x", 70)] {
        for at in 0..30 {
            let name = format!("{prefix}{at}");
            views.push_str(&format!(
                "\nview public.{name} (id) as SELECT t.id FROM public.t \
                 WHERE ((EXISTS (SELECT 1 FROM public.{within})){})",
                terms(count)
            ));
            within = name;
        }
        within = "t".to_owned();
    }
    let doubled = |at: usize| match at {
        0 => "t".to_owned(),
        at => format!("d{}", at - 1),
    };
    for at in 0..30 {
        views.push_str(&format!(
            "\nview public.d{at} (id) as SELECT DISTINCT a.id FROM (public.{0} a JOIN public.{0} b ON ((a.id = b.id)))",
            doubled(at)
        ));
    }
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || {
            let (catalog, map) = (text::parse(&views).unwrap(), map());
            let planner = Planner::new(&catalog, &map);
            let plan = |sql: &str| planner.plan(sql, &PlanContext::default());
            assert!(matches!(
                plan("SELECT count(*) FROM deep"),
                Plan::Scatter(_)
            ));
            let views = ["deep", "w29", "x7", "x29", "d3", "d29"];
            for view in views {
                for sql in [
                    format!("SELECT * FROM {view}"),
                    format!("SELECT count(*) FROM {view} a JOIN {view} b USING (id)"),
                    format!("INSERT INTO u (id) SELECT id FROM {view}"),
                    format!("UPDATE t SET a = 1 WHERE id IN (SELECT id FROM {view})"),
                    format!("WITH d AS (DELETE FROM t RETURNING id) SELECT * FROM {view}"),
                ] {
                    plan(&sql);
                }
            }
            for view in ["w29", "d29"] {
                let plan = plan(&format!("SELECT * FROM {view}"));
                let is_too_complex =
                    matches!(&plan, Plan::Refuse(why) if why.reason == Reason::TooComplex);
                assert!(is_too_complex, "{view}: {plan:.200}");
            }
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn nothing_declared_means_everything_at_home() {
    let mut builder = ShardMapBuilder::new(1);
    builder.shard("only");
    let (catalog, map) = (catalog(), builder.build().unwrap());
    let planner = Planner::new(&catalog, &map);
    for sql in [
        "SELECT * FROM t ORDER BY a",
        "any words at all",
        "CALL p_t()",
        "SELECT touch_all('x')",
        "INSERT INTO t DEFAULT VALUES",
        "MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE",
    ] {
        let plan = planner.plan(sql, &PlanContext::default());
        assert!(
            matches!(
                &plan,
                Plan::Single(Single {
                    target: Target::Home,
                    ..
                })
            ),
            "{sql}: {plan}"
        );
    }
}

#[test]
fn refused_md_lists_every_reason() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/refused.md");
    let made = refuse::table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(path).expect("docs/refused.md is there"),
        made
    );
    let mut codes: Vec<&str> = Reason::ALL.iter().map(|r| r.text().code).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), Reason::ALL.len(), "codes are unique");
    for reason in Reason::ALL {
        let text = reason.text();
        assert!(
            !text.message.ends_with('.') && text.hint.ends_with('.'),
            "{}",
            text.code
        );
    }
}

#[test]
fn explain_says_where_and_why() {
    let (catalog, map) = (catalog(), map());
    let explain = |sql| {
        explain(
            sql,
            &catalog,
            &map,
            &PlanContext::default(),
            &Params::NONE,
            &TextContext::UTC,
        )
    };
    let mut said = String::new();
    for sql in [
        "SELECT * FROM p WHERE id = 5",
        "SELECT * FROM t",
        "SELECT count(*), max(id) FROM t WHERE id IN (1, 2, 3)",
        "SELECT * FROM t WHERE id = $1",
        "SELECT * FROM t WHERE id = $1 ORDER BY id LIMIT 1",
        "SELECT * FROM r",
        "INSERT INTO t (id) VALUES (1), (2), (3)",
        "UPDATE t SET a = 1",
        "CREATE INDEX ON t (a)",
        "CREATE INDEX CONCURRENTLY i ON t (a)",
        "CREATE ROLE x",
        "SELECT 1",
        "",
        "SELECT * FROM t LIMIT 1",
        "SELECT * FROM t JOIN u ON t.id = u.id WHERE t.id = 1 AND u.id = 2",
    ] {
        said += &format!("> {sql}\n{}", explain(sql));
    }
    expect_test::expect_file!["explain.expect"].assert_eq(&said);
}

#[test]
fn parameters_are_described_by_the_keys_that_they_are_compared_with() {
    let types = |sql: &str, declared: &[u32]| {
        with(|planner, _| {
            let context = PlanContext {
                parameter_types: declared.to_vec(),
                ..PlanContext::default()
            };
            let plan = planner.plan(sql, &context);
            crate::report::parameter_types(sql, Some(&plan), declared)
        })
    };
    assert_eq!(
        types("SELECT * FROM t WHERE id = $1 AND a = $2", &[]),
        [20, 25]
    );
    assert_eq!(types("SELECT * FROM t WHERE id = $1", &[23]), [23]);
    assert_eq!(types("SELECT * FROM t WHERE id = ANY($1)", &[]), [1016]);
    assert_eq!(
        types("SELECT * FROM uid WHERE id IN ($2, $1)", &[]),
        [2950, 2950]
    );
    assert_eq!(types("INSERT INTO t (id) VALUES ($1), ($2)", &[]), [20, 20]);
    assert_eq!(types("SELECT 1", &[]), [0u32; 0]);
}

#[test]
fn constraints_of_existing_tables_that_cannot_hold_are_reported() {
    with(|planner, _| {
        let found: Vec<String> = planner
            .unenforced()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "key-type (table \"ci\")",
                "unique-without-key (constraint \"nokey_key1\" of table \"nokey\")",
            ]
        );
    });
}

#[test]
fn a_shard_that_has_all_rows_enforces_what_is_unique() {
    let mut builder = ShardMapBuilder::new(1);
    builder.shard("s0");
    builder.table("public", "nokey", hash(&[("id", KeyType::Int8)]));
    let map = builder.build().expect("it is well formed");
    let catalog = catalog();
    let found = Planner::new(&catalog, &map).unenforced();
    assert!(found.is_empty(), "{found:?}");
}

/// A rule that keeps on `shard`, which it calls "here".
fn keep(shard: Option<u16>, about: About) -> Pin {
    Pin {
        rule: Label::new("keep").unwrap(),
        name: Label::new("here").unwrap(),
        shard: shard.map(ShardId),
        about,
    }
}

/// Where a statement goes that a rule keeps on `shard`, or what it is told.
fn pinned(sql: &str, about: About, shard: Option<u16>, values: &[Option<&[u8]>]) -> String {
    let pin = keep(shard, about);
    let params = Params {
        values,
        ..Params::NONE
    };
    with(|planner, map| {
        let plan = planner.plan(sql, &PlanContext::default());
        match route(&plan, &params, map, &TextContext::UTC, Some(&pin)) {
            Ok(route) => {
                assert!(!route.anywhere && route.merge.is_none() && route.rows.is_empty());
                format!("{:?}", route.shards)
            }
            Err(NoRoute::Elsewhere(elsewhere)) => {
                assert_eq!(elsewhere.rule, pin.rule);
                "elsewhere".to_owned()
            }
            Err(NoRoute::Refused(refusal)) => refusal.reason.text().code.to_owned(),
        }
    })
}

#[test]
fn a_pinned_statement_goes_to_its_shard_or_nowhere() {
    use About::{NoTables, Rows, Session};
    let five = with(|planner, map| {
        let plan = planner.plan("SELECT * FROM t WHERE id = 5", &PlanContext::default());
        let route = route(&plan, &Params::NONE, map, &TextContext::UTC, None).unwrap();
        route.shards.single().unwrap().0
    });
    let other = (five + 1) % 4;
    assert_ne!(other, 0, "a shard that is neither that of the key nor home");
    let (at_five, at_other) = (format!("{{{five}}}"), format!("{{{other}}}"));
    for (sql, about, of_five, of_other, of_home) in [
        // What no row decides goes to the shard of the rule.
        ("SELECT 1", NoTables, &*at_five, &*at_other, "{0}"),
        ("SELECT * FROM r", Rows, &at_five, &at_other, "{0}"),
        // The session has no shard.
        ("SET work_mem = '1MB'", Session, "{0}", "{0}", "{0}"),
        // Rows are where they are.
        ("SELECT * FROM s", Rows, "elsewhere", "elsewhere", "{0}"),
        ("SELECT nextval('x')", Rows, "elsewhere", "elsewhere", "{0}"),
        (
            "CREATE TABLE n (a int)",
            Rows,
            "elsewhere",
            "elsewhere",
            "{0}",
        ),
        (
            "SELECT * FROM t WHERE id = 5",
            Rows,
            &at_five,
            "elsewhere",
            "elsewhere",
        ),
        (
            "SELECT count(*) FROM t WHERE id = 5",
            Rows,
            &at_five,
            "elsewhere",
            "elsewhere",
        ),
        (
            "UPDATE t SET b = 'x' WHERE id = 5",
            Rows,
            &at_five,
            "elsewhere",
            "elsewhere",
        ),
        (
            "INSERT INTO t (id) VALUES (5)",
            Rows,
            &at_five,
            "elsewhere",
            "elsewhere",
        ),
        // Several shards are never that of the rule.
        (
            "SELECT * FROM t",
            Rows,
            "elsewhere",
            "elsewhere",
            "elsewhere",
        ),
        (
            "SELECT * FROM t WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8)",
            Rows,
            "elsewhere",
            "elsewhere",
            "elsewhere",
        ),
        (
            "INSERT INTO t (id) VALUES (1), (2), (3), (4), (5), (6)",
            Rows,
            "elsewhere",
            "elsewhere",
            "elsewhere",
        ),
        (
            "UPDATE t SET id = 5 WHERE a = 1",
            Rows,
            "elsewhere",
            "elsewhere",
            "elsewhere",
        ),
        (
            "COPY t FROM STDIN",
            Rows,
            "elsewhere",
            "elsewhere",
            "elsewhere",
        ),
        (
            "UPDATE r SET b = 'x'",
            Rows,
            "elsewhere",
            "elsewhere",
            "elsewhere",
        ),
        (
            "ALTER TABLE t ADD n int",
            Rows,
            "elsewhere",
            "elsewhere",
            "elsewhere",
        ),
        // The planner's own reasons come first.
        (
            "SELECT * FROM t ORDER BY a LIMIT 1 FOR UPDATE NOWAIT",
            Rows,
            "locking-over-shards",
            "locking-over-shards",
            "locking-over-shards",
        ),
        // Tokens may call a statement what the plan does not.
        (
            "SELECT * FROM t",
            NoTables,
            "elsewhere",
            "elsewhere",
            "elsewhere",
        ),
        (
            "SELECT * FROM t WHERE id = 5",
            NoTables,
            &at_five,
            "elsewhere",
            "elsewhere",
        ),
    ] {
        assert_eq!(pinned(sql, about, Some(five), &[]), of_five, "{sql}");
        assert_eq!(pinned(sql, about, Some(other), &[]), of_other, "{sql}");
        assert_eq!(pinned(sql, about, Some(0), &[]), of_home, "{sql}");
        // A shard that is not there has nothing; a session needs none.
        let of_none = match about {
            Session => "{0}",
            _ if of_home.contains("over-shards") => of_home,
            _ => "elsewhere",
        };
        assert_eq!(pinned(sql, about, None, &[]), of_none, "{sql}");
    }
}

#[test]
fn the_key_of_a_bind_decides_whether_a_pinned_statement_belongs_there() {
    let sql = "SELECT * FROM t WHERE id = $1";
    let (mut here, mut there) = (0, 0);
    for key in 0..40 {
        let text = key.to_string();
        let values: &[Option<&[u8]>] = &[Some(text.as_bytes())];
        let belongs = shards(sql, &[], &[], values);
        match pinned(sql, About::Rows, Some(2), values).as_str() {
            "{2}" => {
                assert_eq!(belongs, [2]);
                here += 1;
            }
            told => {
                assert_eq!(told, "elsewhere");
                assert_ne!(belongs, [2]);
                there += 1;
            }
        }
    }
    assert!(here > 0 && there > 0);
    // A key that cannot be read may be of every shard, home among them.
    for shard in 0..4 {
        assert_eq!(pinned(sql, About::Rows, Some(shard), &[]), "elsewhere");
    }
}

#[test]
fn what_is_not_planned_is_at_home_or_refused() {
    let home = ShardId(1);
    let of = |shard, about| {
        pin::unplanned(home, Some(&keep(Some(shard), about)))
            .ok()
            .map(|s| s.0)
    };
    assert_eq!(pin::unplanned(home, None), Ok(home));
    assert_eq!((of(1, About::Rows), of(2, About::Rows)), (Some(1), None));
    assert_eq!(
        (of(1, About::NoTables), of(2, About::NoTables)),
        (Some(1), Some(2))
    );
    assert_eq!(
        (of(1, About::Session), of(2, About::Session)),
        (Some(1), Some(1))
    );
}

/// The lines about a statement that a rule keeps on shard 2.
fn told(sql: &str, about: About, values: &[Option<&[u8]>]) -> String {
    let pin = keep(Some(2), about);
    let params = Params {
        values,
        ..Params::NONE
    };
    with(|planner, map| {
        let plan = planner.plan(sql, &PlanContext::default());
        report::report(sql, &plan, &params, map, &TextContext::UTC, Some(&pin)).join("\n")
    })
}

#[test]
fn what_is_said_of_a_pinned_statement_is_where_it_goes() {
    let begins = |told: String, with: &str| assert!(told.starts_with(with), "{told}");
    let refused = "Plan: Refuse\nReason: rule\nSQLSTATE: 0A000\n\
        Message: statement does not belong to shard \"here\"\n\
        Detail: Rule \"keep\" of the router keeps it there, but its rows are, or may be, elsewhere.\nHint: ";
    begins(
        told("SELECT 1", About::NoTables, &[]),
        "Plan: Single\nShards: s2\n",
    );
    begins(
        told("SELECT * FROM r", About::Rows, &[]),
        "Plan: Single\nShards: s2\n",
    );
    begins(told("SELECT * FROM s", About::Rows, &[]), refused);
    begins(told("SELECT * FROM t", About::Rows, &[]), refused);
    // A parameter that leads to no shard leaves nothing open.
    begins(
        told("SELECT * FROM t WHERE b = $1", About::Rows, &[]),
        refused,
    );
    begins(
        told("SELECT * FROM s WHERE a = $1", About::Rows, &[]),
        refused,
    );
    let sql = "SELECT * FROM t WHERE id = $1";
    let open = told(sql, About::Rows, &[]);
    begins(
        open.clone(),
        "Plan: Single\nShards: the one of s0, s1, s2, s3 that the parameters lead to\n",
    );
    assert!(
        open.ends_with("\nOtherwise: refused as rule (SQLSTATE 0A000)"),
        "{open}"
    );
    for key in 0..20 {
        let text = key.to_string();
        let values: &[Option<&[u8]>] = &[Some(text.as_bytes())];
        let expected = match shards(sql, &[], &[], values).as_slice() {
            [2] => "Plan: Single\nShards: s2\n",
            _ => refused,
        };
        begins(told(sql, About::Rows, values), expected);
    }
}

#[test]
fn what_is_said_without_declared_tables_is_where_it_goes() {
    let said = |pin: Option<&Pin>| report::undeclared((ShardId(0), "s0"), pin).join("\n");
    let keep = |about| said(Some(&keep(Some(2), about)));
    let home = "Plan: Single\nShards: s0\n\
        Server: primary (no tables are declared, so every statement goes to the home shard)";
    assert_eq!(said(None), home);
    assert_eq!(keep(About::Session), home);
    assert_eq!(
        keep(About::NoTables),
        "Plan: Single\nShards: here\nServer: primary (no tables are declared, so a rule keeps it on this shard)"
    );
    assert!(keep(About::Rows).starts_with("Plan: Refuse\nReason: rule\n"));
}
