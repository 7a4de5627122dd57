//! Binds a session to the identity that opened it: part of the session's id is a digest of the rest and of the identity,
//! so that any coordinator can tell whose it is without the database, and no identity can use another's.

use common::rng;
use proto::SessionId;
use uuid::Uuid;

use super::Identity;

/// Bits of an id that hold the digest.
const TAG_BITS: u32 = 34;
const TAG_MASK: u128 = (1 << TAG_BITS) - 1;
/// Where a version 7 UUID has its 12 and, above the digest, 28 bits of chance: 40 for the sessions of one millisecond.
const CHANCE_MASK: u128 = (0xfff << 64) | (0xfff_ffff << TAG_BITS);

/// Makes the id of a session that belongs to `identity`.
pub(crate) fn bind(fresh: SessionId, identity: &Identity) -> SessionId {
    // A generator may count within a millisecond in the bits that the digest takes.
    let chance = u128::from(rng::next_u64());
    let spread = ((chance & 0xfff) << 64) | (((chance >> 12) & 0xfff_ffff) << TAG_BITS);
    let bits = (fresh.0.as_u128() & !CHANCE_MASK) | spread;
    SessionId(Uuid::from_u128((bits & !TAG_MASK) | tag(bits, identity)))
}

/// Whether a session was opened by `identity`.
pub(crate) fn is_bound(session: SessionId, identity: &Identity) -> bool {
    let bits = session.0.as_u128();
    bits & TAG_MASK == tag(bits, identity)
}

fn tag(bits: u128, identity: &Identity) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(bits >> TAG_BITS).to_be_bytes());
    hasher.update(format!("{}:{}", identity.role, identity.name).as_bytes());
    let digest = hasher.finalize();
    let mut head = [0; 8];
    head.copy_from_slice(&digest.as_bytes()[..8]);
    u128::from(u64::from_be_bytes(head)) & TAG_MASK
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::access::Role;

    fn identity(name: &str, role: Role) -> Identity {
        Identity { name: name.to_owned(), role }
    }

    #[test]
    fn a_session_is_its_openers_alone() {
        let (own, other) = (identity("w1", Role::Worker), identity("w2", Role::Worker));
        for _ in 0..100 {
            let session = bind(SessionId::generate(), &own);
            assert!(is_bound(session, &own));
            assert!(!is_bound(session, &other) && !is_bound(session, &identity("w1", Role::Admin)));
            assert_eq!(session.0.get_version_num(), 7);
        }
    }

    #[test]
    fn sessions_opened_in_one_moment_are_different() {
        let own = identity("w", Role::Worker);
        let sessions: BTreeSet<SessionId> = (0..1_000).map(|_| bind(SessionId::generate(), &own)).collect();
        assert_eq!(sessions.len(), 1_000);
    }
}
