//! Object ids of users' types and relations, which differ from shard to shard.
//!
//! A client asks the catalog once, at home, and then believes the object ids that it
//! was told. So every shard speaks of home's: what comes from it is translated
//! ([`Oids::at_home`]), and so is what a client declares to it ([`Oids::on_shard`]).
//! Values are not looked into: an array, record or range of users' types carries the
//! shard's own object ids in its binary form.

use super::Catalog;
use foldhash::HashMap;
use mothership_proto::backend::tag;
use mothership_proto::frame::{Frame, HEADER};

/// What differs between one shard and the home shard.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Oids {
    types_at_home: HashMap<u32, u32>,
    types_on_shard: HashMap<u32, u32>,
    tables_at_home: HashMap<u32, u32>,
}

impl Oids {
    /// The differences; `None` if there is none, so that nothing is to be translated.
    /// What only one of the two has is left as it is.
    pub fn between(shard: &Catalog, home: &Catalog) -> Option<Self> {
        let mut oids = Self::default();
        let mut differ = false;
        for (name, here) in &shard.types {
            let Some(there) = home.types.get(name) else {
                continue;
            };
            for (a, b) in [(here.oid, there.oid), (here.array_oid, there.array_oid)] {
                differ |= a != b;
                oids.types_at_home.insert(a, b);
                oids.types_on_shard.insert(b, a);
            }
        }
        for (name, here) in &shard.relations {
            if let Some(there) = home.relations.get(name) {
                differ |= here.oid != there.oid;
                oids.tables_at_home.insert(here.oid, there.oid);
            }
        }
        differ.then_some(oids)
    }

    /// A message of the shard as home would send it; `None` if nothing of it changes.
    pub fn at_home(&self, frame: Frame<'_>) -> Option<Vec<u8>> {
        let translated = matches!(
            frame.tag(),
            tag::ROW_DESCRIPTION | tag::PARAMETER_DESCRIPTION
        );
        translated.then(|| {
            let mut out = Vec::with_capacity(frame.bytes.len());
            self.put_at_home(frame, &mut out);
            out
        })
    }

    /// Appends a message of the shard as home would send it.
    pub fn put_at_home(&self, frame: Frame<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(frame.bytes);
        let body = &mut out[start + HEADER..];
        let done = match frame.tag() {
            tag::ROW_DESCRIPTION => self.translate_columns(body),
            tag::PARAMETER_DESCRIPTION => self.translate_parameters(body),
            _ => Some(()),
        };
        if done.is_none() {
            // What is malformed is somebody else's to report.
            out.truncate(start);
            out.extend_from_slice(frame.bytes);
        }
    }

    /// Of each column: its name, ended by a zero byte, four bytes of its table, two of its number there, four of its
    /// type, and eight more.
    fn translate_columns(&self, body: &mut [u8]) -> Option<()> {
        let (count, mut rest) = body.split_first_chunk_mut::<2>()?;
        for _ in 0..u16::from_be_bytes(*count) {
            let name = memchr::memchr(0, rest)?;
            let (column, others) = rest[name + 1..].split_at_mut_checked(18)?;
            put_translated(&self.tables_at_home, &mut column[..4]);
            put_translated(&self.types_at_home, &mut column[6..10]);
            rest = others;
        }
        Some(())
    }

    fn translate_parameters(&self, body: &mut [u8]) -> Option<()> {
        let (_, oids) = body.split_at_mut_checked(2)?;
        oids.chunks_exact_mut(4)
            .for_each(|oid| put_translated(&self.types_at_home, oid));
        Some(())
    }

    /// Parameter types of a Parse (four bytes each, as on the wire), as the shard calls them.
    pub fn on_shard(&self, types: &[u8]) -> Vec<u8> {
        translated(&self.types_on_shard, types).collect()
    }
}

/// Translates four bytes in their place.
fn put_translated(map: &HashMap<u32, u32>, bytes: &mut [u8]) {
    if let Ok(oid) = <[u8; 4]>::try_from(&*bytes) {
        let own = translate(map, u32::from_be_bytes(oid));
        bytes.copy_from_slice(&own.to_be_bytes());
    }
}

fn translate(map: &HashMap<u32, u32>, oid: u32) -> u32 {
    map.get(&oid).copied().unwrap_or(oid)
}

fn translated<'a>(map: &'a HashMap<u32, u32>, oids: &'a [u8]) -> impl Iterator<Item = u8> + 'a {
    oids.chunks_exact(4)
        .flat_map(|b| translate(map, u32::from_be_bytes([b[0], b[1], b[2], b[3]])).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::{Name, Relation, TypeInfo, TypeKind};
    use super::*;
    use mothership_proto::backend::{self, Column};

    fn catalog(mood: u32, table: u32) -> Catalog {
        let mut catalog = Catalog::default();
        let info = |oid| TypeInfo {
            oid,
            array_oid: oid + 1,
            kind: TypeKind::Other,
        };
        catalog
            .types
            .insert(Name::new("public", "mood"), info(mood));
        let mut relation = Relation::table(Name::new("public", "t"));
        relation.oid = table;
        catalog.relations.insert(relation.name.clone(), relation);
        catalog
    }

    #[test]
    fn equal_object_ids_need_no_translation() {
        let same = catalog(20_000, 20_010);
        assert_eq!(Oids::between(&same, &same), None);
    }

    #[test]
    fn a_shard_speaks_of_homes_types_and_tables() {
        // Their numbers overlap: home's type has the number of the shard's array.
        let oids =
            Oids::between(&catalog(20_000, 20_010), &catalog(20_001, 20_000)).expect("they differ");
        let mut column = Column::of("a", 20_000, 4);
        column.table = 20_010;
        let columns = [column, Column::of("b", 20_001, -1), Column::of("c", 23, 4)];
        let mut message = Vec::new();
        backend::put_columns(&mut message, &columns);
        let told = oids.at_home(Frame { bytes: &message }).expect("it changes");
        let told = backend::columns(&told[5..]).expect("it is well formed");
        let seen: Vec<_> = told.iter().map(|c| (c.type_oid, c.table)).collect();
        assert_eq!(seen, [(20_001, 20_000), (20_002, 0), (23, 0)]);

        let declared: Vec<u8> = [20_001_u32, 20_002, 23, 0]
            .into_iter()
            .flat_map(u32::to_be_bytes)
            .collect();
        let on_shard = oids.on_shard(&declared);
        let mut parameters = vec![b't', 0, 0, 0, 22, 0, 4];
        parameters.extend_from_slice(&on_shard);
        let told = oids
            .at_home(Frame { bytes: &parameters })
            .expect("it changes");
        assert_eq!(told[..7], [b't', 0, 0, 0, 22, 0, 4]);
        assert_eq!(told[7..], declared);
        assert_ne!(on_shard, declared);
    }
}
