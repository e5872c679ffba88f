//! The table and the closing line of one layout.

use crate::answer::Verdict;
use crate::run::Outcome;

/// Prints both; returns how many answers were wrong.
pub fn print(outcomes: &[Outcome], seed: u64) -> usize {
    println!(
        "{:>5} {:>6} {:>9} {:>9} {:>10} {:>10} {:>7} {:<15} verdict",
        "query", "rows", "plan", "moved", "plain ms", "router ms", "ratio", "least..most"
    );
    for outcome in outcomes {
        println!("{}", line(outcome));
    }
    let count = |is: fn(&Verdict) -> bool| outcomes.iter().filter(|o| is(&o.verdict)).count();
    let equal = count(|verdict| matches!(verdict, Verdict::Equal));
    let refused = count(|verdict| matches!(verdict, Verdict::Refused(_)));
    let wrong = count(|verdict| matches!(verdict, Verdict::Wrong(_)));
    let ratios: Vec<f64> = outcomes.iter().filter_map(ratio).collect();
    let (mean, worst) = match ratios.is_empty() {
        true => ("-".to_owned(), "-".to_owned()),
        false => (
            format!("{:.2}", geometric_mean(&ratios)),
            format!("{:.2}", ratios.iter().copied().fold(0.0, f64::max)),
        ),
    };
    println!(
        "tpch: queries={} equal={equal} refused={refused} wrong={wrong} geomean={mean} worst={worst} seed={seed}",
        outcomes.len()
    );
    wrong
}

fn line(outcome: &Outcome) -> String {
    let times = |of: fn(&(f64, f64)) -> f64| {
        let times: Vec<f64> = outcome.times.iter().map(of).collect();
        match times.is_empty() {
            true => "-".to_owned(),
            false => format!("{:.1}", median(&times) * 1_000.0),
        }
    };
    let (ratio, spread) = match ratio(outcome) {
        None => ("-".to_owned(), "-".to_owned()),
        Some(ratio) => {
            let all = ratios(outcome);
            let least = all.iter().copied().fold(f64::INFINITY, f64::min);
            let most = all.iter().copied().fold(0.0, f64::max);
            (format!("{ratio:.2}"), format!("{least:.2}..{most:.2}"))
        }
    };
    let verdict = match &outcome.verdict {
        Verdict::Equal => "equal".to_owned(),
        Verdict::Refused(why) => format!("refused: {why}"),
        Verdict::Wrong(how) => format!("WRONG: {how}"),
    };
    format!(
        "{:>5} {:>6} {:>9} {:>9} {:>10} {:>10} {ratio:>7} {spread:<15} {verdict}",
        format!("Q{}", outcome.number),
        outcome.rows,
        outcome.plan,
        outcome.moved,
        times(|(plain, _)| *plain),
        times(|(_, router)| *router),
    )
}

/// The router's time by that of plain PostgreSQL, of each round.
fn ratios(outcome: &Outcome) -> Vec<f64> {
    let of = |(plain, router): &(f64, f64)| router / plain;
    outcome.times.iter().map(of).collect()
}

/// Their median. What is not answered right has none.
fn ratio(outcome: &Outcome) -> Option<f64> {
    let fine = matches!(outcome.verdict, Verdict::Equal) && !outcome.times.is_empty();
    fine.then(|| median(&ratios(outcome)))
}

fn median(of: &[f64]) -> f64 {
    let mut of = of.to_vec();
    of.sort_by(f64::total_cmp);
    match of.len() % 2 {
        1 => of[of.len() / 2],
        _ => (of[of.len() / 2 - 1] + of[of.len() / 2]) / 2.0,
    }
}

fn geometric_mean(of: &[f64]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "there are 22 at most")]
    let count = of.len() as f64;
    (of.iter().map(|ratio| ratio.ln()).sum::<f64>() / count).exp()
}
