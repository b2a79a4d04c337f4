//! The other side of the real program: where requests go, and how that side is spoken to.
#![expect(clippy::unwrap_used, reason = "the first surprise ends the test")]

mod names;
mod spoken;

use std::time::Duration;

use names::{
    a_forbidden_address_closes_its_route_and_a_finding_names_it,
    a_name_is_asked_for_again_when_its_time_is_up, a_name_that_does_not_exist_is_told,
    a_service_that_is_a_name_is_not_served_unless_a_flag_says_so,
};

use spoken::{
    a_call_of_grpc_goes_through_with_its_trailers, a_websocket_goes_through_both_ways,
    an_upstream_over_tls_is_verified_by_the_authorities_of_its_ingress,
};

e2e::suite!(
    needs: [Program],
    tests: [
        a_service_that_is_a_name_is_not_served_unless_a_flag_says_so,
        a_name_is_asked_for_again_when_its_time_is_up,
        a_forbidden_address_closes_its_route_and_a_finding_names_it,
        a_name_that_does_not_exist_is_told,
        a_websocket_goes_through_both_ways,
        a_call_of_grpc_goes_through_with_its_trailers,
        an_upstream_over_tls_is_verified_by_the_authorities_of_its_ingress,
    ],
);

/// Longest time until something asynchronous has happened.
const LONG: Duration = Duration::from_secs(20);
