//! Notices that two sidecars go by the same name on one store: each would take the other's log for one
//! left by a dead predecessor.

use parking_lot::Mutex;

use super::super::StorageError;
use super::kv::KeyValue;
use super::names::{self, LogName};
use super::objects::lww;
use crate::anna::lattice::Lattice;

/// The claim of one incarnation to its node's name.
#[derive(Debug, Default)]
pub(super) struct Lease {
    claim: Mutex<Claim>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Claim {
    #[default]
    NotMade,
    Made,
    /// Somebody else made one afterwards.
    Contested,
}

impl Lease {
    /// Repeats the claim. Answers whether the store still had it.
    ///
    /// # Errors
    /// [`StorageError::Refused`] if another process makes it, too, and from then on always.
    pub(super) async fn renew(
        &self,
        kv: &impl KeyValue,
        log: &LogName,
    ) -> Result<bool, StorageError> {
        let name = names::lease(&log.node);
        // If another call makes the first claim meanwhile, it is no wonder that this one finds none.
        let was_made = *self.claim.lock() != Claim::NotMade;
        let held = lww(kv.get_newest(&name).await?)?;
        let by_other = held.as_ref().is_some_and(|(_, who)| *who != log.incarnation.as_bytes());
        if by_other && *self.claim.lock() == Claim::Made {
            *self.claim.lock() = Claim::Contested;
        }
        let was_there = held.is_some();
        // Also when it is contested, so that both sides notice.
        let timestamp = held.map_or(0, |(timestamp, _)| timestamp) + 1;
        let value = log.incarnation.clone().into();
        kv.put(&name, Lattice::Lww { timestamp, value }).await?;
        let claim = &mut *self.claim.lock();
        if *claim == Claim::Contested {
            return Err(StorageError::Refused(format!(
                "another sidecar goes by the name {} on this store; give each an --ip or \
                 --port-offset of its own",
                log.node
            )));
        }
        let was_kept = !was_made || was_there;
        *claim = Claim::Made;
        Ok(was_kept)
    }
}
