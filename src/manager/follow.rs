//! Follows the commit logs in the store, from their end on.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::server::{Command, Handle};
use crate::runtime::trouble::Trouble;
use crate::storage::{LogPosition, LogScope, Storage};

/// How often the logs are looked at: twice in the time that a commit has for being told, but within these.
const FOLLOW_EACH: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_secs(1);

/// Follows until the runtime ends. What was in the logs before is read once and forgotten page by page: the
/// nodes have read it, or will when they start.
pub(super) async fn follow(store: Arc<dyn Storage>, manager: Handle, bound: Duration) {
    let each = (bound / 2).clamp(*FOLLOW_EACH.start(), *FOLLOW_EACH.end());
    let mut trouble = Trouble::new("cannot look for commits that nobody told of");
    let (mut position, mut has_begun) = (LogPosition::default(), false);
    loop {
        let mut is_end = true;
        let page = store.commits_since(&position, LogScope::All).await;
        if let Some(page) = trouble.note(page) {
            (position, is_end) = (page.next, page.end);
            if !has_begun && is_end {
                has_begun = true;
                manager.send(Command::Following);
            } else if has_begun && !page.commits.is_empty() {
                manager.send(Command::Logged(page.commits));
            }
        }
        if is_end {
            sleep(each).await;
        }
    }
}
