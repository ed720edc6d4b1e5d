//! The cases, in groups.

mod cancel;
mod exclusion;
mod listing;
mod liveness;
mod loss;
mod names;
mod order;
mod sharing;
mod writes;

use std::future::Future;
use std::pin::Pin;

use crate::bench::Bench;

type Run = fn(Bench) -> Pin<Box<dyn Future<Output = ()>>>;

/// One case.
pub struct Case {
    name: &'static str,
    run: Run,
}

impl Case {
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn run(&self, bench: Bench) -> Pin<Box<dyn Future<Output = ()>>> {
        (self.run)(bench)
    }
}

macro_rules! cases {
    ($($group:ident: $($case:ident)*;)*) => {
        /// All cases of the suite.
        pub const ALL: &[Case] = &[
            $($(Case {
                name: concat!(stringify!($group), "::", stringify!($case)),
                run: |bench| Box::pin($group::$case(bench)),
            },)*)*
        ];
    };
}

cases! {
    exclusion: tasks_that_share_a_session_exclude_each_other processes_exclude_each_other contention_is_a_value;
    order: first_come_first_served waiters_that_leave_do_not_break_the_line tokens_rise_over_sessions;
    sharing: readers_share_and_a_waiting_writer_stops_new_readers a_batch_of_readers_starts_together;
    names: names_that_begin_alike_are_different_locks odd_names_work raw_and_native_names_are_different_locks;
    listing: queues_tell_who_stands_there pages_follow_each_other;
    cancel: an_acquire_dropped_at_any_await_leaves_no_entry a_dropped_guard_frees_the_lock
        a_guard_outlives_its_runtime unused_sessions_are_closed closing_ends_every_hold;
    liveness: renewal_goes_on_while_the_executor_is_blocked any_executor_will_do;
    loss: a_removed_entry_is_a_loss_for_the_holder a_removed_entry_evicts_the_waiter a_session_that_ended_is_lost_for_ever
        a_waiters_session_that_ended_fails_the_wait;
    writes: a_holder_writes_what_all_can_read a_put_without_the_entry_changes_nothing a_stale_put_never_follows_the_next_holders
        a_put_given_up_midway_never_follows_a_later_one values_and_keys_up_to_the_limits_are_kept values_are_not_locks;
}
