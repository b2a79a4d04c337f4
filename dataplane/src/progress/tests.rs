//! How long connections may wait, and what for.

use std::{rc::Rc, sync::Arc};

use super::{
    flight::{FRAMES_A_PIECE, FRAMES_AN_ANSWER},
    *,
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_given_ten_seconds_from_its_first_byte() {
    let limits = Limits::default();
    let progress = Progress::new(Instant::now(), seconds(1800));
    tokio::time::advance(seconds(4)).await;
    progress.bytes_arrived();
    tokio::time::advance(seconds(9)).await;
    progress.bytes_arrived();
    assert!(matches!(progress.due(&limits), Due::Nothing(_)));
    tokio::time::advance(seconds(1)).await;
    assert_eq!(progress.due(&limits), Due::Close(Close::Rejected(Rejected::HeaderTimeout)));
}

#[tokio::test(start_paused = true)]
async fn a_body_behind_its_answer_is_no_slow_head_and_no_rest() {
    let (limits, counts) = (Limits::default(), Arc::default());
    let progress = Rc::new(Progress::new(Instant::now(), seconds(1800)));
    let flight = InFlight::new(&progress, &counts);
    let uploading = Uploading::new(&progress);
    drop(flight);
    progress.bytes_arrived();
    tokio::time::advance(limits.header_read + limits.keep_alive_idle).await;
    assert!(matches!(progress.due(&limits), Due::Nothing(_)) && !progress.rests(Instant::now()));
    drop(uploading);
    assert_eq!(progress.wait_ends(&limits), Instant::now() + limits.keep_alive_idle);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stalls_and_silence_after_it_are_told_apart() {
    let limits = Limits::default();
    let progress = Progress::new(Instant::now(), seconds(1800));
    let rejected = |why| Due::Close(Close::Rejected(why));
    progress.handshake_began();
    tokio::time::advance(limits.handshake).await;
    assert_eq!(progress.due(&limits), rejected(Rejected::HandshakeTimeout));
    progress.handshake_ended();
    tokio::time::advance(limits.first_byte).await;
    assert_eq!(progress.due(&limits), rejected(Rejected::FirstByteTimeout));
}

#[tokio::test(start_paused = true)]
async fn a_route_that_allows_more_keeps_its_connection_open_and_no_longer_than_its_request() {
    let (limits, counts) = (Limits::default(), Arc::default());
    let progress = Rc::new(Progress::new(Instant::now(), seconds(86_400)));
    let flight = InFlight::new(&progress, &counts);
    progress.allow(seconds(3_600));
    tokio::time::advance(seconds(3_599)).await;
    assert!(matches!(progress.due(&limits), Due::Nothing(_)));
    tokio::time::advance(seconds(1)).await;
    assert_eq!(progress.due(&limits), Due::Close(Close::Rejected(Rejected::Stalled)));
    drop(flight);
    let _next = InFlight::new(&progress, &counts);
    tokio::time::advance(limits.stall()).await;
    assert_eq!(progress.due(&limits), Due::Close(Close::Rejected(Rejected::Stalled)));
}

#[tokio::test(start_paused = true)]
async fn pings_do_not_keep_an_idle_connection_open() {
    let (limits, counts) = (Limits::default(), Arc::default());
    let progress = Rc::new(Progress::new(Instant::now(), seconds(1800)));
    progress.becomes_multiplexed();
    drop(InFlight::new(&progress, &counts));
    for _ in 0..8 {
        progress.bytes_arrived();
        tokio::time::advance(seconds(10)).await;
    }
    assert_eq!(progress.due(&limits), Due::Farewell);
    tokio::time::advance(FAREWELL).await;
    assert_eq!(progress.due(&limits), Due::Close(Close::Rested));
}

#[tokio::test(start_paused = true)]
async fn frames_that_bring_nothing_forward_are_few_and_http2_is_told_when_they_are_not() {
    let (limits, counts) = (Limits::default(), Arc::default());
    let progress = Rc::new(Progress::new(Instant::now(), seconds(1800)));
    progress.becomes_multiplexed();
    for _ in 0..10 * FRAMES {
        let flight = InFlight::new(&progress, &counts);
        progress.frames_arrived(FRAMES_AN_ANSWER);
        flight.answered();
    }
    assert_eq!(progress.cut_for(), None, "what requests bring with them is not too much");
    let flight = InFlight::new(&progress, &counts);
    (0..100).for_each(|_| flight.progressed());
    progress.frames_arrived(100 * FRAMES_A_PIECE);
    assert_eq!(progress.cut_for(), None, "nor is opening windows once all was sent");
    for _ in 0..10 * FRAMES {
        tokio::time::advance(Duration::from_secs(1) / FRAMES_A_SECOND).await;
        progress.frames_arrived(1);
    }
    assert_eq!(progress.cut_for(), None, "nor is what comes now and then");
    drop(flight);
    while progress.cut_for().is_none() {
        drop(InFlight::new(&progress, &counts));
    }
    assert_eq!(progress.due(&limits), Due::Farewell);
    assert_eq!(progress.due(&limits), Due::Close(Close::Rejected(Rejected::Flood)));
}

#[tokio::test(start_paused = true)]
async fn room_is_made_by_those_who_have_waited_longest_and_by_none_that_is_served() {
    let (open, counts) = (Open::default(), Arc::default());
    let connections: Vec<_> =
        (0..4).map(|_| Rc::new(Progress::new(Instant::now(), seconds(1800)))).collect();
    for progress in &connections {
        open.insert(progress);
    }
    let _served = InFlight::new(&connections[0], &counts);
    for progress in [&connections[2], &connections[1], &connections[3]] {
        tokio::time::advance(seconds(1)).await;
        drop(InFlight::new(progress, &counts));
    }
    let just = Rc::new(Progress::new(Instant::now(), seconds(1800)));
    open.insert(&just);
    tokio::time::advance(RESTED / 2).await;
    drop(InFlight::new(&connections[3], &counts));
    tokio::time::advance(RESTED / 2).await;
    assert_eq!(open.make_room(1), 1);
    let cut = || connections.iter().map(|one| one.cut_for().is_some()).collect::<Vec<_>>();
    assert_eq!(cut(), [false, false, true, false]);
    assert_eq!(open.make_room(5), 2);
    assert_eq!(cut(), [false, true, true, false]);
    assert_eq!(just.cut_for(), Some(Rejected::TooManyConnections));
}

#[tokio::test(start_paused = true)]
async fn buffers_are_given_back_when_nobody_asks_and_all_is_written() {
    let (limits, counts) = (Limits::default(), Arc::default());
    let progress = Rc::new(Progress::new(Instant::now(), seconds(1800)));
    drop(InFlight::new(&progress, &counts));
    assert_eq!(progress.deadline(&limits), Instant::now() + AWAKE);
    progress.blocks(true);
    tokio::time::advance(AWAKE).await;
    assert!(!progress.falls_asleep());
    progress.blocks(false);
    assert!(progress.falls_asleep());
    progress.sleeps(true);
    assert!(!progress.falls_asleep());
    assert!(progress.deadline(&limits) > Instant::now() + seconds(60));
    progress.sleeps(false);
    progress.bytes_arrived();
    tokio::time::advance(AWAKE).await;
    assert!(!progress.falls_asleep(), "a head is on its way");
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_is_asked_to_end() {
    let (limits, counts) = (Limits::default(), Arc::default());
    let progress = Rc::new(Progress::new(Instant::now(), seconds(60)));
    let flight = InFlight::new(&progress, &counts);
    assert!(!progress.is_last());
    tokio::time::advance(seconds(60)).await;
    assert!(progress.is_last());
    progress.becomes_multiplexed();
    assert_eq!(progress.due(&limits), Due::Farewell);
    drop(flight);
}
