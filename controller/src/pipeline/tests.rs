//! When changes are compiled, and what is in force before and after.

use super::*;

struct Line {
    resources: watch::Sender<Option<Arc<Resources>>>,
    slices: watch::Sender<Option<Arc<Slices>>>,
    pipeline: Pipeline,
    outcome: watch::Receiver<Option<Arc<Outcome>>>,
    tasks: tokio::task::JoinSet<Result<(), PipelineError>>,
}

fn line(hold_off: HoldOff) -> Line {
    let resources = watch::Sender::new(None);
    let slices = watch::Sender::new(None);
    let pipeline = Pipeline::new(compile::Settings::default(), hold_off, Counter::default());
    let feed = Feed { resources: resources.subscribe(), slices: slices.subscribe() };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(pipeline.clone().configure(feed.clone()));
    tasks.spawn(pipeline.clone().place_endpoints(feed));
    let outcome = pipeline.outcome();
    Line { resources, slices, pipeline, outcome, tasks }
}

impl Line {
    fn change(&self) {
        self.resources.send_replace(Some(Arc::default()));
    }

    async fn generation(&mut self) -> u64 {
        self.outcome.changed().await.unwrap();
        self.outcome.borrow_and_update().as_ref().unwrap().snapshot.generation
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_in_force_before_everything_was_listed() {
    let line = line(HoldOff::CONFIGURATION);
    let ready = tokio::time::timeout(Duration::from_mins(1), line.pipeline.ready()).await;
    assert!(ready.is_err());
    line.change();
    let ready = tokio::time::timeout(Duration::from_mins(1), line.pipeline.ready()).await;
    assert!(ready.is_err(), "without endpoints");
    line.slices.send_replace(Some(Arc::default()));
    line.pipeline.ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn changes_that_come_together_are_compiled_once() {
    let mut line = line(HoldOff::CONFIGURATION);
    line.change();
    assert_eq!(line.generation().await, 1);
    let begun = Instant::now();
    for _ in 0..3 {
        line.change();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(line.generation().await, 2);
    assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
    let more = tokio::time::timeout(Duration::from_mins(1), line.outcome.changed()).await;
    assert!(more.is_err());
}

#[tokio::test(start_paused = true)]
async fn no_change_waits_longer_than_half_a_second() {
    let mut line = line(HoldOff::CONFIGURATION);
    line.change();
    line.generation().await;
    let begun = Instant::now();
    let compiled = loop {
        line.change();
        tokio::time::sleep(Duration::from_millis(10)).await;
        if line.outcome.has_changed().unwrap() {
            break begun.elapsed();
        }
    };
    assert!(compiled >= Duration::from_millis(500), "{compiled:?}");
    assert!(compiled <= Duration::from_millis(530), "{compiled:?}");
}

#[tokio::test(start_paused = true)]
async fn changes_wait_for_the_rest_but_not_beyond_the_longest() {
    let hold_off = HoldOff::CONFIGURATION;
    for (rest, expected) in [(0, 100), (300, 300), (2_000, 500)] {
        let (sender, mut channel) = watch::channel(());
        let begun = Instant::now();
        sender.send_replace(());
        let earliest = begun + Duration::from_millis(rest);
        hold_off.settle(&mut channel, None, earliest).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_millis(expected), "rest of {rest} ms");
    }
}

#[test]
fn compiling_takes_three_tenths_of_the_time_at_most() {
    let begun = Instant::now();
    let next = rested(begun, Duration::from_millis(30));
    assert_eq!(next - begun, Duration::from_millis(100));
}

#[tokio::test]
async fn every_snapshot_goes_through_without_a_hold_off() {
    let mut line = line(HoldOff::NONE);
    for expected in 1..=100 {
        line.change();
        assert_eq!(line.generation().await, expected);
    }
}

#[tokio::test]
async fn the_line_ends_with_its_source() {
    let mut line = line(HoldOff::NONE);
    let ended = {
        drop(line.resources);
        line.tasks.join_next().await.unwrap().unwrap()
    };
    assert!(matches!(ended, Err(PipelineError::Source(_))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_replaced_is_freed_when_its_last_user_has_let_go_of_it() {
    let value = Arc::new(0);
    let (used, freed) = (Arc::clone(&value), Arc::downgrade(&value));
    bury(value);
    sleep(WAKE * 10).await;
    assert_eq!(freed.strong_count(), 2, "freed by its user");
    drop(used);
    while freed.strong_count() > 0 {
        sleep(WAKE).await;
    }
}

#[tokio::test]
async fn no_snapshot_stays_until_the_next_change() {
    let mut line = line(HoldOff::NONE);
    line.change();
    line.generation().await;
    let first = Arc::downgrade(&line.outcome.borrow().as_ref().unwrap().snapshot);
    line.change();
    line.generation().await;
    while first.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
}
