//! The cases that a fixture cannot run because of its kind, for
//! [`Suite::skips`](crate::Suite::skips).

/// The cases that need more than one server.
pub const ONE_MEMBER: &[&str] = &[
    "liveness::a_wait_goes_on_while_a_member_stands_still",
    "liveness::holders_survive_a_rolling_restart",
];

/// The cases that need a network, or a server that can be stopped. A coordinator in the same
/// process has neither.
pub const IN_PROCESS: &[&str] = &[
    "exclusion::a_silent_holder_has_lost_before_the_next_is_granted",
    "tokens::tokens_rise_over_a_restart_and_a_holder_keeps_its_own",
    "liveness::a_wait_goes_on_while_a_member_stands_still",
    "liveness::holders_survive_a_rolling_restart",
    "loss::a_silent_network_is_a_loss_by_the_deadline",
    "loss::a_cut_connection_is_no_loss",
    "loss::a_connection_gone_silent_is_no_loss",
    "loss::a_holder_goes_on_while_requests_are_held_back",
    "loss::servers_that_stand_still_for_a_moment_cost_no_lock",
    "loss::servers_that_stand_still_for_too_long_cost_the_lock",
    "loss::a_waiter_without_a_limit_outlives_an_outage",
    "lost_replies::the_lost_reply_of_an_acquire_makes_one_entry",
    "lost_replies::the_lost_reply_of_a_release_frees_the_lock_once",
    "lost_replies::a_lost_wake_up_delays_the_turn_and_no_more",
    "lost_replies::an_acquire_dropped_behind_a_silent_network_leaves_no_entry",
    "round_trips::an_acquire_and_a_release_take_one_each",
    "round_trips::a_try_of_a_held_lock_takes_one",
    "round_trips::a_release_wakes_one_waiter",
];
