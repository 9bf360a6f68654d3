//! Schedules over several nodes, one by one: what must come out of each, whatever the messages do.
//!
//! Those that broke earlier drafts of the protocol, by number, each with its test here, or why there is none:
//!
//! | | what happens | test |
//! | --- | --- | --- |
//! | H1 | one id is tried at two nodes, and both commit | `ids::an_id_tried_at_two_nodes_takes_effect_once` |
//! | H2 | a retry resumes, and adds to what was there | `ids::a_retry_does_not_resume` |
//! | H3 | ABORTED is said while the record is under way | `ids::aborted_is_never_said_of_what_commits` |
//! | H4 | the outcome is collected, and the id runs again | `garbage::a_collected_commit_is_still_known_to_have_committed`, `garbage::an_outcome_is_forgotten_after_its_time_and_nothing_wrong_is_said` |
//! | H5 | values of a slow commit are taken for orphans | not here, where values and record are one step; other stores make ABORTED the outcome before they delete, and `commits_and_settlements_that_race_agree` in `storage::conformance` holds them to it |
//! | H6 | a session waits for a commit that was overwritten | `sessions::a_token_holds_when_the_commit_was_overwritten_by_a_node_that_is_cut_off` |
//! | H7 | all that a node knows of a key is deleted | `stale::what_is_all_that_a_node_knows_is_not_deleted` |
//! | H8 | what a transaction needs at its next node is deleted | `garbage::what_a_transaction_may_need_stays_when_it_has_gone_on_to_another_node`, `stale::what_was_read_where_nobody_heard_of_the_newer_can_be_read_on` |
//! | H9 | that a key was missing is forgotten on the way | `branches::what_was_missing_travels` |
//! | H10 | a key reads as missing that exists | `stale::a_key_whose_older_version_did_not_arrive_is_not_missing` |
//! | H11 | polling for two keys never ends | `branches::polling_for_two_keys_ends` |
//! | H12 | a forgotten key is found again as it was before | `garbage::forgotten_keys_are_found_again_everywhere` |
//! | H13 | late word of an old version hides a forgotten one | `stale::late_word_of_an_old_version_does_not_hide_a_newer_one_that_was_forgotten` |
//! | H14 | two nodes hold values of one key | `branches::of_two_branches_that_write_one_key_the_rule_picks_one`, `branches::of_two_branches_that_write_one_key_the_deeper_counts` |
//! | H15 | a write comes after the transaction has gone on | `branches::a_write_behind_the_transaction_is_not_lost_silently`, `branches::a_reader_sees_no_write_of_a_branch_that_it_has_not_merged` |
//! | H16 | a part of the transaction is committed | `branches::a_commit_asked_for_where_it_went_on_from_is_the_whole`, `branches::branches_that_are_named_are_merged`, `branches::a_named_node_brings_what_was_merged_there_since` |
//! | H17 | a lost write reads as an older value | `failures::the_upstream_dies_between_the_continue_and_the_read`, `failures::a_node_that_lost_its_part_does_not_commit_the_rest`, `failures::a_node_does_not_go_on_with_what_is_older_than_itself`, `failures::a_node_does_not_go_on_with_what_it_may_have_forgotten` |
//! | H18 | a clock far ahead drags all others along | `a_commit_from_the_future_waits_and_does_not_drag_the_clock_along` in `tests/gossip.rs` |
//! | H19 | two commits of one moment are in two orders | `sessions::commits_of_one_moment_are_in_one_order_everywhere`, `sessions::commits_of_one_moment_are_in_that_order_under_plain_names` |
//! | H20 | on Anna: orphans, half a commit, late writes of the dead | not here, where a commit is one step: `the_next_incarnation_takes_over_what_a_crash_left` and `a_commit_that_is_in_no_log_gets_into_one_before_anybody_is_told` in `storage::anna`, and the simulated Anna |
//! | H21 | what superseded a version cannot be found yet | `stale::a_node_that_was_not_waited_for_finds_the_newest_when_what_it_knew_is_gone` |
//! | H22 | a value written past the nodes changes between two reads | `branches::a_foreign_value_that_was_read_elsewhere_is_the_same_or_none` |
//! | H23 | an abort, or a limit, comes when the outcome is decided elsewhere | `ids::an_abort_after_the_record_was_sent_gets_the_outcome`, `ids::an_abort_where_the_values_were_handed_out_agrees_with_the_commit` |
//! | H24 | two transfers read one balance, and one is lost | no promise is broken: reads are atomic, and lost updates are not prevented |

mod harness;

mod branches;
mod failures;
mod garbage;
mod ids;
mod sessions;
mod stale;
