//! A digest of how a server describes a statement, by which a change of its tables is noticed.

use mothership_proto::backend::{self, tag};
use mothership_proto::frame::Frame;
use std::hash::{BuildHasher, Hasher};

/// A digest of the description of a statement: types, names, order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Digest(u128);

impl Digest {
    /// Adds ParameterDescription, RowDescription or NoData. OIDs of tables and of users'
    /// types differ between shards and say nothing about the shape of a row.
    pub(super) fn add(&mut self, frame: Frame<'_>) {
        let mut shape = vec![frame.tag()];
        if frame.tag() == tag::ROW_DESCRIPTION {
            for column in backend::columns(frame.body()).unwrap_or_default() {
                shape.extend_from_slice(&column.name);
                shape.push(0);
                shape.extend_from_slice(&shared_oid(column.type_oid).to_be_bytes());
                shape.extend_from_slice(&column.modifier.to_be_bytes());
            }
        } else {
            let oids = frame.body().get(2..).unwrap_or_default().chunks_exact(4);
            for oid in oids {
                let oid = u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]]);
                shape.extend_from_slice(&shared_oid(oid).to_be_bytes());
            }
        }
        let half = |seed: u64| {
            let mut hasher = foldhash::quality::FixedState::with_seed(seed).build_hasher();
            hasher.write_u128(self.0);
            hasher.write(&shape);
            hasher.finish()
        };
        self.0 = u128::from(half(1)) << 64 | u128::from(half(2));
    }

    pub(super) fn take(&mut self) -> u128 {
        std::mem::take(self).0
    }
}

/// The OID of a built-in type; users' types are all one.
fn shared_oid(oid: u32) -> u32 {
    const FIRST_OF_USERS: u32 = 16_384;
    oid.min(FIRST_OF_USERS)
}
