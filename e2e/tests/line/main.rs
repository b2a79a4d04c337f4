//! The whole line on a real API server: manifests, `whygate run`, clients at their own addresses,
//! and what a user reads with kubectl afterwards.
//!
//! One API server and one program serve all tests; each test has a namespace and a host of its own.

mod certificate;
mod changes;
mod garbage;
mod refusals;
mod status;
mod world;

use certificate::a_deleted_certificate_is_served_on_until_a_restart_and_opens_nothing;
use changes::{
    a_change_is_in_force_on_the_next_request_after_it_is_programmed,
    a_misspelled_field_applied_with_kubectl_closes_and_is_named_with_its_neighbour,
    a_secret_with_keys_that_is_deleted_renamed_or_never_created_never_opens,
    deleting_a_policy_that_the_route_requires_closes_it,
};
use garbage::garbage_on_any_port_neither_ends_nor_blocks_the_program;
use refusals::{
    refusals_of_each_kind_stand_in_describe_with_their_exact_count,
    the_first_refusal_of_a_new_group_is_an_event_within_a_second,
};
use status::{
    columns_tell_what_became_of_policies_plans_and_subscriptions,
    own_status_writes_and_events_compile_nothing,
    the_published_address_stands_in_the_status_of_the_ingress,
};

e2e::suite!(
    needs: [Program, Kubernetes],
    tests: [
        refusals_of_each_kind_stand_in_describe_with_their_exact_count,
        the_first_refusal_of_a_new_group_is_an_event_within_a_second,
        columns_tell_what_became_of_policies_plans_and_subscriptions,
        the_published_address_stands_in_the_status_of_the_ingress,
        a_change_is_in_force_on_the_next_request_after_it_is_programmed,
        a_secret_with_keys_that_is_deleted_renamed_or_never_created_never_opens,
        deleting_a_policy_that_the_route_requires_closes_it,
        a_misspelled_field_applied_with_kubectl_closes_and_is_named_with_its_neighbour,
        a_deleted_certificate_is_served_on_until_a_restart_and_opens_nothing,
        garbage_on_any_port_neither_ends_nor_blocks_the_program,
        own_status_writes_and_events_compile_nothing,
    ],
);
