//! Queries inside of expressions.

use crate::expr::{Atom, Ctx, Gen};
use crate::query::Wanted;
use crate::values::Ty;

impl Gen<'_> {
    /// What a subquery may use of the queries around: plain columns, because of a grouped
    /// query's expressions PostgreSQL knows no more down there that they are grouped by.
    pub fn seen_from_below(ctx: &Ctx) -> Vec<Atom> {
        let plain = |atom: &&Atom| {
            atom.sql
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'))
        };
        ctx.atoms
            .iter()
            .chain(&ctx.outer)
            .filter(plain)
            .cloned()
            .collect()
    }

    /// A subquery that gives one value at most.
    pub fn scalar_subquery(&mut self, ctx: &Ctx, ty: Ty) -> String {
        if !ty.ordered() {
            return self.literal(ty);
        }
        let types = [ty];
        let wanted = Wanted {
            types: Some(&types),
            named: true,
            comparable: true,
            level: ctx.level + 1,
        };
        let correlated = if self.chance(50) {
            Self::seen_from_below(ctx)
        } else {
            Vec::new()
        };
        let rel = self.query(wanted, &correlated);
        match rel.whole_order_by() {
            Some(all) => format!("({} ORDER BY {} LIMIT 1)", rel.sql, all.join(", ")),
            None => {
                let d = self.name("d");
                let text = format!("{d}.x::text COLLATE \"C\"");
                format!(
                    "(SELECT {d}.x FROM ({}) AS {d} (x) ORDER BY 1, {text} LIMIT 1)",
                    rel.sql
                )
            }
        }
    }

    /// A condition on `a` with a subquery.
    pub fn subquery_condition(&mut self, ctx: &Ctx, ty: Ty, a: &str) -> String {
        let correlated = if self.chance(60) {
            Self::seen_from_below(ctx)
        } else {
            Vec::new()
        };
        let types = [ty];
        let wanted = Wanted {
            types: Some(&types),
            named: true,
            comparable: false,
            level: ctx.level + 1,
        };
        let mut rel = self.query(wanted, &correlated);
        if rel.plain && !rel.sql.contains(" FOR ") && self.chance(12) {
            rel.sql += &self.row_lock("row lock in subquery");
        }
        match self.below(6) {
            0 => format!("EXISTS ({})", rel.sql),
            1 => format!("NOT EXISTS ({})", rel.sql),
            2 | 3 => format!("{a} IN ({})", rel.sql),
            4 => format!("{a} NOT IN ({})", rel.sql),
            _ => {
                let op = self.pick(&["= ANY", "<> ALL", "> ALL", "< ANY"]);
                format!("{a} {op} ({})", rel.sql)
            }
        }
    }
}
