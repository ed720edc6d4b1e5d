//! Lists the cases, in groups.

mod cancel;
mod evict;
mod exclusion;
mod idempotency;
mod limits;
mod listing;
mod liveness;
mod loss;
mod lost_replies;
mod names;
mod order;
mod round_trips;
mod security;
mod sharing;
mod sticky;
mod token_offset;
mod tokens;
mod writes;

use std::future::Future;
use std::pin::Pin;

use crate::fixture::Skip;
use crate::test_bed::TestBed;

type Ended = Result<(), Skip>;
type Run = fn(TestBed) -> Pin<Box<dyn Future<Output = Ended>>>;

/// One case: a promise that every backend keeps.
pub struct Case {
    name: &'static str,
    run: Run,
}

impl Case {
    /// Returns the name of the case, `group::case`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the group of the case.
    #[cfg(feature = "harness")]
    pub(crate) fn group(&self) -> &'static str {
        self.name.split("::").next().unwrap_or(self.name)
    }

    pub(crate) async fn on(&self, bed: TestBed) -> Ended {
        (self.run)(bed).await
    }
}

/// Returns all cases of the suite.
pub fn all() -> &'static [Case] {
    ALL
}

/// The result of a case: nothing, if every deployment can run it.
trait IntoOutcome {
    fn into_outcome(self) -> Ended;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Ended {
        Ok(())
    }
}

impl IntoOutcome for Ended {
    fn into_outcome(self) -> Ended {
        self
    }
}

macro_rules! cases {
    ($($group:ident: $($case:ident)*;)*) => {
        pub(crate) const ALL: &[Case] = &[
            $($(Case {
                name: concat!(stringify!($group), "::", stringify!($case)),
                run: |bed| Box::pin(async { $group::$case(bed).await.into_outcome() }),
            },)*)*
        ];
    };
}

cases! {
    exclusion: tasks_that_share_a_session_exclude_each_other processes_exclude_each_other
        contention_is_a_value a_task_waits_for_itself
        a_session_does_not_take_the_entry_of_another_for_its_own
        a_silent_holder_has_lost_before_the_next_is_granted;
    order: first_come_first_served waiters_that_leave_do_not_break_the_line
        a_waiter_behind_one_that_gives_up_still_waits_for_the_holder
        a_contender_between_two_of_one_process_is_served_between
        a_waiter_that_gives_up_leaves_the_rest_of_its_process_in_order
        a_crowd_of_two_processes_is_served_in_order waiters_whose_sessions_end_do_not_break_the_line
        a_storm_of_tries_does_not_hold_up_a_waiter;
    tokens: tokens_rise_over_sessions tokens_rise_within_a_session readers_have_tokens_of_their_own
        tokens_rise_over_a_restart_and_a_holder_keeps_its_own;
    sharing: readers_share_and_a_waiting_writer_stops_new_readers a_batch_of_readers_starts_together
        a_writer_waits_for_every_reader a_writer_that_leaves_lets_readers_in
        readers_and_writers_exclude_each_other;
    names: names_that_begin_alike_are_different_locks odd_names_work
        raw_and_native_names_are_different_locks nested_names_are_handed_over_apart;
    listing: a_queue_lists_its_entries pages_follow_each_other waiters_are_listed_in_order
        a_lock_that_nobody_uses_is_not_listed a_holder_says_since_when_and_keeps_its_place
        a_waiter_reads_what_the_entry_ahead_says;
    cancel: an_acquire_dropped_at_any_await_leaves_no_entry a_dropped_guard_frees_the_lock
        a_guard_outlives_its_runtime a_guard_dropped_by_a_panic_frees_the_lock
        unused_sessions_are_closed closing_ends_every_hold a_wait_that_times_out_leaves_no_entry
        a_timeout_at_the_instant_of_the_grant_gives_a_guard_or_nothing;
    liveness: renewal_goes_on_while_the_executor_is_blocked any_executor_will_do
        a_session_dropped_without_a_close_ends_with_its_time_to_live
        a_wait_goes_on_while_a_member_stands_still holders_survive_a_rolling_restart;
    loss: a_removed_entry_is_a_loss_for_the_holder a_removed_entry_evicts_the_waiter
        a_session_that_ended_is_lost_for_ever a_session_that_ended_is_not_made_anew
        a_waiters_session_that_ended_fails_the_wait a_removed_entry_is_never_made_anew
        a_silent_network_is_a_loss_by_the_deadline a_cut_connection_is_no_loss
        a_connection_gone_silent_is_no_loss servers_that_stand_still_for_a_moment_cost_no_lock
        servers_that_stand_still_for_too_long_cost_the_lock
        a_holder_goes_on_while_requests_are_held_back
        a_waiter_without_a_limit_outlives_an_outage;
    evict: an_evicted_holder_loses_and_the_next_is_served an_evicted_waiter_leaves_the_line
        another_incarnation_stays;
    lost_replies: an_enqueue_tried_again_finds_its_own_entry a_removal_tried_again_finds_nothing
        a_removal_may_not_know_the_entry an_old_removal_leaves_the_next_entry_alone
        closing_twice_is_closing_once the_lost_reply_of_an_acquire_makes_one_entry
        the_lost_reply_of_a_release_frees_the_lock_once a_lost_wake_up_delays_the_turn_and_no_more
        an_acquire_dropped_behind_a_silent_network_leaves_no_entry;
    sticky: a_kept_lock_is_taken_again_with_its_token whoever_queues_behind_a_kept_lock_is_served
        a_holder_is_not_disturbed_by_those_behind an_idle_lock_is_given_up
        a_kept_lock_is_given_up_when_it_is_told_so a_kept_lock_ends_with_its_process
        a_kept_lock_that_was_evicted_is_not_taken_again a_kept_lock_ends_with_its_session
        tasks_share_one_place_and_take_turns others_wait_for_no_more_turns_than_allowed
        a_task_that_gives_up_leaves_the_place_to_the_next
        a_place_that_nobody_waits_in_is_given_up;
    idempotency: every_request_of_a_session_does_the_work_of_one
        every_request_without_a_session_does_the_work_of_one
        sessions_opened_ten_times_leave_nothing_when_they_are_closed
        an_offset_raised_ten_times_is_raised_once;
    round_trips: an_acquire_and_a_release_take_one_each a_try_of_a_held_lock_takes_one
        a_release_wakes_one_waiter;
    limits: the_longest_note_is_kept_and_a_longer_one_refused
        times_to_live_out_of_bounds_are_refused a_guard_returns_the_granted_time_to_live
        bad_names_are_refused a_session_holds_many_locks a_long_queue_is_listed_whole;
    security: a_forged_token_removes_nothing no_name_leads_out_of_the_namespace
        notes_of_other_clients_are_shown_unchanged a_prefix_is_only_a_prefix;
    writes: every_client_reads_the_value_of_a_holder a_put_without_the_entry_changes_nothing
        a_stale_put_never_follows_the_next_holders a_put_given_up_midway_never_follows_a_later_one
        values_and_keys_up_to_the_limits_are_kept values_are_not_locks;
    token_offset: tokens_include_the_offset raw_locks_have_no_offset the_offset_never_falls
        the_offset_is_not_raised_under_locks_in_use a_session_from_before_knows_of_the_new_offset
        tokens_rise_while_the_offset_is_raised;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    #[test]
    fn every_case_of_every_file_is_registered_once() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cases");
        let mut written = BTreeSet::new();
        for file in fs::read_dir(folder).expect("the folder of the cases") {
            let path = file.expect("a file").path();
            let group = path.file_stem().expect("a name").to_string_lossy();
            if group == "mod" {
                continue;
            }
            let text = fs::read_to_string(&path).expect("a text");
            let cases = text.lines().filter_map(|line| {
                let rest = line.strip_prefix("pub async fn ")?;
                Some(rest.split_once('(')?.0)
            });
            let before = written.len();
            written.extend(cases.map(|case| format!("{group}::{case}")));
            assert!(written.len() > before, "{group} has no case");
        }
        let registered: BTreeSet<String> = ALL.iter().map(|case| case.name.to_owned()).collect();
        assert_eq!(written, registered);
        assert_eq!(registered.len(), ALL.len());
    }
}
