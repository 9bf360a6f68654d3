//! SIGHUP: the list of peers in the configuration file is read again. Nothing else changes without a
//! restart.

use std::collections::BTreeSet;

use tokio::signal::unix::Signal;

use super::config::{Given, Settings};
use super::members::{Members, Source};

/// Reads the file again whenever the signal comes. `settings` is what was in effect at the start;
/// `members` is none if no sockets for other nodes were bound then.
pub(super) async fn on_signal(
    mut signal: Signal,
    given: Given,
    mut settings: Settings,
    members: Option<Members>,
) {
    while signal.recv().await.is_some() {
        let new = match given.load() {
            Ok(new) => new,
            Err(error) => {
                tracing::error!("SIGHUP: the peers stay as they were: {error}");
                continue;
            }
        };
        let others = changed(&settings, &new);
        if !others.is_empty() {
            tracing::warn!("SIGHUP: a restart is needed for what changed besides peer: {others:?}");
        }
        let (before, after): (BTreeSet<_>, BTreeSet<_>) =
            (settings.peers().into_iter().collect(), new.peers().into_iter().collect());
        if before == after {
            tracing::warn!("SIGHUP: the peers are the same as before");
            continue;
        }
        let Some(members) = &members else {
            tracing::error!(
                "SIGHUP: a restart is needed for the first peers, as no sockets are bound for them"
            );
            continue;
        };
        let (come, gone): (Vec<_>, Vec<_>) =
            (after.difference(&before).collect(), before.difference(&after).collect());
        tracing::warn!(?come, ?gone, peers = after.len(), "SIGHUP: the peers have changed");
        members.set(Source::Named, after);
        settings.peer = new.peer;
    }
}

/// The names of options that differ, but for the list of peers.
fn changed(old: &Settings, new: &Settings) -> Vec<String> {
    let table = |settings: &Settings| toml::Table::try_from(settings).unwrap_or_default();
    let (old, new) = (table(old), table(new));
    let differs = |name: &&String| *name != "peer" && old.get(*name) != new.get(*name);
    new.keys().filter(differs).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::config::Options;
    use super::*;

    #[test]
    fn what_changed_is_named() {
        let with = |given: Options| Settings::load(given, None).unwrap();
        let old = with(Options::default());
        let new = with(Options {
            peer: Some("10.0.0.1".into()),
            txn_max: Some(7),
            keys_max: Some(65_536),
            ..Options::default()
        });
        assert_eq!(changed(&old, &new), ["txn-max"]);
    }
}
