//! Events as writers and readers have them: in order, once, and within their room.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::error::{Error, Reason};
use crate::model::{Answer, Failure, LogLevel, LogLine, Usage};

fn limits(count: usize, back_pressure: BackPressure) -> EventLimits {
    EventLimits { bytes: 1 << 20, count, back_pressure }
}

fn buffer(count: usize, back_pressure: BackPressure) -> Arc<EventBuffer> {
    Arc::new(EventBuffer::alone(limits(count, back_pressure), Arc::default()))
}

fn line(text: &str) -> Event {
    let timestamp = SystemTime::UNIX_EPOCH;
    Event::Log(LogLine { level: LogLevel::Info, message: text.into(), timestamp })
}

fn ended(output: &'static [u8]) -> Ended {
    let result = Ok(Answer { output: Bytes::from_static(output), exit_code: 0 });
    let version = "1.0.0".parse().unwrap();
    Ended { version, result, output_left_out: false, usage: Usage::default(), logs_dropped: 0 }
}

/// The number of the next event, or the numbers of those that were missed.
fn told(delivery: Option<Delivery>) -> Result<u64, (u64, u64)> {
    match delivery.expect("there is something to tell") {
        Delivery::Event(event) => Ok(event.sequence),
        Delivery::Missed { first, last } => Err((first, last)),
    }
}

#[tokio::test]
async fn readers_at_any_time_are_told_the_same_from_where_they_want() {
    let events = buffer(10, BackPressure::DropOldest);
    let mut early = events.read_from(0);
    events.write(line("a")).unwrap();
    events.write(line("b")).unwrap();
    let mut again = events.read_from(1);
    events.end(ended(b"done"));
    let mut late = events.read_from(0);
    for reader in [&mut early, &mut late] {
        for number in 0..3 {
            assert_eq!(told(reader.next().await), Ok(number));
        }
        assert!(reader.next().await.is_none());
        assert!(reader.is_at_end());
    }
    assert_eq!(told(again.next().await), Ok(1));
    assert!(!again.is_at_end());
    // What nobody has said yet cannot be gone on behind.
    assert_eq!(told(events.read_from(99).now().or(again.now())), Ok(2));
}

#[tokio::test]
async fn a_reader_that_is_behind_is_told_what_it_missed() {
    let events = buffer(3, BackPressure::DropOldest);
    let mut reader = events.read_from(0);
    for number in 0..10 {
        events.write_waiting(line(&number.to_string())).await.unwrap();
    }
    assert_eq!(told(reader.now()), Err((0, 6)));
    assert_eq!((told(reader.now()), told(reader.now()), told(reader.now())), (Ok(7), Ok(8), Ok(9)));
    assert!(reader.now().is_none());
    assert_eq!(events.room.counts(), (10, 7));
}

#[tokio::test]
async fn a_writer_waits_for_a_slow_reader_once_and_no_longer_than_it_may() {
    const LONGEST: Duration = Duration::from_millis(300);
    let events = buffer(2, BackPressure::Block(LONGEST));
    let mut slow = events.read_from(0);
    let began = Instant::now();
    for number in 0..2 {
        events.write_waiting(line(&number.to_string())).await.unwrap();
    }
    assert!(began.elapsed() < LONGEST, "there is room");
    events.write_waiting(line("2")).await.unwrap();
    assert!(began.elapsed() >= LONGEST);
    // It was left behind, so that nobody waits for it: a thousand times that would be minutes.
    for _ in 0..1000 {
        events.write_waiting(line("more")).await.unwrap();
    }
    assert!(began.elapsed() < 100 * LONGEST);
    assert_eq!(told(slow.now()), Err((0, 1000)));
    drop(slow);
    let events = buffer(1, BackPressure::Block(Duration::MAX));
    let mut reader = events.read_from(0);
    events.write_waiting(line("0")).await.unwrap();
    let reading = async {
        tokio::task::yield_now().await;
        told(reader.now())
    };
    let (written, read) = tokio::join!(events.write_waiting(line("1")), reading);
    assert_eq!((written, read), (Ok(1), Ok(0)), "who reads makes room");
    let leaving = async {
        tokio::task::yield_now().await;
        drop(reader);
    };
    let (written, ()) = tokio::join!(events.write_waiting(line("2")), leaving);
    assert_eq!(written, Ok(2), "who leaves makes room");
}

#[tokio::test]
async fn the_ends_of_a_stream_and_of_its_execution_take_nothing_from_a_reader_that_is_behind() {
    let events = buffer(2, BackPressure::Block(Duration::MAX));
    let mut behind = events.read_from(0);
    for number in 0..2 {
        events.write_waiting(line(&number.to_string())).await.unwrap();
    }
    events.write(Event::StreamEnd { stream: "s".into(), total_chunks: 2, whole: true }).unwrap();
    events.end(ended(b"done"));
    for number in 0..4 {
        assert_eq!(told(behind.next().await), Ok(number));
    }
    assert!(behind.next().await.is_none());
}

#[tokio::test]
async fn a_chunk_can_be_refused_in_place_of_others() {
    let events = buffer(1, BackPressure::Fail);
    let mut reader = events.read_from(0);
    events.write_waiting(line("kept")).await.unwrap();
    assert_eq!(events.write_waiting(line("refused")).await, Err(EventError::Full));
    assert_eq!(told(reader.now()), Ok(0));
    events.write_waiting(line("kept")).await.unwrap();
    assert_eq!(told(reader.now()), Ok(1));
    let large = Event::StreamData { stream: "s".into(), index: 0, chunk: vec![0; 2 << 20].into() };
    assert!(matches!(events.write_waiting(large).await, Err(EventError::TooLarge(_))));
}

#[test]
fn nothing_is_written_behind_the_end_and_large_output_is_left_out_of_it() {
    let events = buffer(4, BackPressure::Fail);
    static LARGE: [u8; 600 << 10] = [0; 600 << 10];
    events.end(ended(&LARGE));
    assert_eq!(events.write(line("late")), Err(EventError::Closed));
    let mut reader = events.read_from(0);
    let Some(Delivery::Event(event)) = reader.now() else { panic!("no end") };
    let Event::End(ended) = &event.event else { panic!("another event") };
    assert!(ended.output_left_out);
    assert!(reader.now().is_none());
}

#[test]
fn a_failure_takes_the_room_of_all_that_it_says() {
    let failure = Failure {
        reason: Reason::Trap,
        message: "m".repeat(3000),
        details: vec![("backtrace", "d".repeat(50_000))],
        retry_after: None,
    };
    let events = buffer(10, BackPressure::Fail);
    let before = events.room.bytes();
    events.end(Ended { result: Err(failure), ..ended(b"") });
    assert!(events.room.bytes() - before >= 53_000, "{}", events.room.bytes());
}

#[test]
fn a_tenants_events_make_way_for_its_own_and_not_for_those_of_others() {
    let room = RoomLimits { tenant_bytes: 100_000, total_bytes: 150_000, retention: Duration::ZERO };
    let room = Arc::new(EventRoom::new(room));
    let new = |tenant: &str| {
        let agent = "a.b".parse().unwrap();
        let limits = limits(1000, BackPressure::DropOldest);
        Arc::new(EventBuffer::new(limits, tenant.into(), agent, Arc::clone(&room)))
    };
    let say = |events: &EventBuffer| {
        events.write(line(&"x".repeat(30_000))).unwrap();
    };
    let (old, quiet) = (new("loud"), new("quiet"));
    say(&quiet);
    say(&old);
    old.end(ended(b""));
    let (loud, id) = ("loud".into(), crate::model::ExecutionId::new());
    room.keep(&loud, id, Arc::clone(&old));
    assert!(room.find(&loud, id).is_some() && room.find(&"quiet".into(), id).is_none());
    let now = new("loud");
    (0..3).for_each(|_| say(&now));
    assert!(room.find(&loud, id).is_none(), "the oldest that has ended goes first");
    let mut reader = old.read_from(0);
    assert_eq!((told(reader.now()), told(reader.now())), (Err((0, 0)), Ok(1)), "the end stays");
    drop(reader);
    (0..3).for_each(|_| say(&now));
    assert_eq!(told(now.read_from(0).now()), Err((0, 2)), "then its own");
    assert_eq!(told(quiet.read_from(0).now()), Ok(0));
    assert!(room.bytes() <= 150_000);
    drop((old, quiet, now));
    assert_eq!(room.bytes(), 0);
}

#[test]
fn what_has_ended_is_forgotten_when_it_is_old() {
    let limits = RoomLimits { retention: Duration::ZERO, ..RoomLimits::default() };
    let (room, tenant, id) = (EventRoom::new(limits), Arc::from("t"), crate::model::ExecutionId::new());
    let events = buffer(4, BackPressure::Fail);
    events.end(Ended { result: Err(Failure::from(&Error::Cancelled)), ..ended(b"") });
    room.keep(&tenant, id, Arc::clone(&events));
    std::thread::sleep(Duration::from_millis(2));
    room.sweep();
    assert!(room.find(&tenant, id).is_none());
    assert_eq!(told(events.read_from(0).now()), Ok(0), "who has the buffer still is told the end");
}

#[test]
fn who_speaks_little_is_heard_whatever_others_keep() {
    let limits = RoomLimits { tenant_bytes: 100_000, total_bytes: 100_000, retention: Duration::MAX };
    let room = Arc::new(EventRoom::new(limits));
    let new = || Arc::new(EventBuffer::alone(EventLimits::default(), Arc::clone(&room)));
    let (loud, quiet) = (new(), new());
    for _ in 0..9 {
        loud.write(line(&"x".repeat(10_000))).unwrap();
    }
    let mut reader = quiet.read_from(0);
    for number in 0..3 {
        assert_eq!(quiet.write(line("a few words")), Ok(number));
        assert_eq!(told(reader.now()), Ok(number));
    }
}

/// Two buffers of one tenant, with room for six lines of 10,000 bytes in all.
fn neighbours(back_pressure: BackPressure) -> (Arc<EventBuffer>, Arc<EventBuffer>) {
    let limits = RoomLimits { tenant_bytes: 65_000, total_bytes: 1 << 20, retention: Duration::MAX };
    let room = Arc::new(EventRoom::new(limits));
    let limits = EventLimits { back_pressure, ..EventLimits::default() };
    let new = || Arc::new(EventBuffer::alone(limits, Arc::clone(&room)));
    (new(), new())
}

fn long() -> Event {
    line(&"x".repeat(10_000))
}

#[tokio::test]
async fn where_the_tenants_room_is_full_a_writer_waits_for_its_own_readers() {
    let (other, events) = neighbours(BackPressure::Block(Duration::MAX));
    (0..3).for_each(|_| assert!(other.write(long()).is_ok()));
    let _others = other.read_from(0);
    let mut reader = events.read_from(0);
    for number in 0..3 {
        assert_eq!(events.write_waiting(long()).await, Ok(number));
    }
    let before = events.room.bytes();
    let waited = tokio::time::timeout(Duration::from_millis(20), events.write_waiting(long()));
    assert!(waited.await.is_err(), "it takes nothing from its reader");
    assert_eq!(events.room.bytes(), before);
    let reading = async {
        tokio::task::yield_now().await;
        told(reader.now())
    };
    let (written, read) = tokio::join!(events.write_waiting(long()), reading);
    assert_eq!((written, read), (Ok(3), Ok(0)), "who reads makes room");
    for number in 1..4 {
        assert_eq!(told(reader.now()), Ok(number));
    }
    assert_eq!(told(other.read_from(0).now()), Ok(0), "the neighbour's are kept");
    let _behind = events.read_from(1);
    let ending = async {
        tokio::task::yield_now().await;
        events.close();
    };
    let (written, ()) = tokio::join!(events.write_waiting(long()), ending);
    assert_eq!(written, Err(EventError::Closed));
}

#[tokio::test]
async fn what_nobody_reads_goes_before_what_somebody_waits_for() {
    let (unread, events) = neighbours(BackPressure::Fail);
    (0..6).for_each(|_| assert!(unread.write(long()).is_ok()));
    let mut reader = events.read_from(0);
    for number in 0..4 {
        assert_eq!(events.write_waiting(long()).await, Ok(number));
    }
    for number in 0..4 {
        assert_eq!(told(reader.now()), Ok(number));
    }
    // Of the other its last words are left.
    assert_eq!(unread.write(line("more")), Ok(6));
    let mut late = unread.read_from(0);
    assert!(matches!(told(late.now()), Err((0, 3 | 4))));
    let before = late.buffer().room.bytes();
    drop((unread, late, reader));
    assert!(events.room.bytes() < before);
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_makes_room_however_often_it_was_looked_for_in_vain() {
    let (read, events) = neighbours(BackPressure::Fail);
    let stalled = read.read_from(0);
    (0..6).for_each(|_| assert!(read.write(long()).is_ok()));
    let more = || events.write_waiting(line(&"x".repeat(20_000)));
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(30) {
        assert_eq!(more().await, Err(EventError::Full));
    }
    drop(stalled);
    let began = Instant::now();
    while more().await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(5), "nobody looks again");
    }
}

#[tokio::test]
async fn a_tenant_that_says_little_is_heard_where_others_fill_the_room_even_if_they_are_read() {
    let limits = RoomLimits { tenant_bytes: 100_000, total_bytes: 200_000, retention: Duration::MAX };
    let room = Arc::new(EventRoom::new(limits));
    let new = |tenant: &str| {
        let (agent, limits) = ("a.b".parse().unwrap(), limits_of(BackPressure::Block(Duration::MAX)));
        Arc::new(EventBuffer::new(limits, tenant.into(), agent, Arc::clone(&room)))
    };
    let (first, second, third) = (new("first"), new("second"), new("third"));
    let stalled = [first.read_from(0), second.read_from(0)];
    for events in [&first, &second] {
        (0..9).for_each(|_| assert!(events.write(long()).is_ok()));
    }
    let mut reader = third.read_from(0);
    for number in 0..4 {
        assert_eq!(third.write_waiting(long()).await, Ok(number));
        assert_eq!(told(reader.now()), Ok(number));
    }
    assert!(room.bytes() <= 200_000);
    let missed = stalled.map(|mut reader| told(reader.now()));
    assert!(missed.iter().any(Result::is_err), "those who have most have lost some: {missed:?}");
}

#[tokio::test]
async fn what_has_ended_and_is_being_read_goes_last() {
    let limits = RoomLimits { tenant_bytes: 65_000, total_bytes: 1 << 20, retention: Duration::MAX };
    let room = Arc::new(EventRoom::new(limits));
    let new = || Arc::new(EventBuffer::alone(limits_of(BackPressure::DropOldest), Arc::clone(&room)));
    let (read, unread) = (new(), new());
    for (events, count) in [(&read, 2), (&unread, 3)] {
        (0..count).for_each(|_| assert!(events.write(long()).is_ok()));
        events.end(ended(b""));
        room.keep(&Arc::default(), crate::model::ExecutionId::new(), Arc::clone(events));
    }
    let mut reader = read.read_from(0);
    let now = new();
    for number in 0..8 {
        assert_eq!(now.write_waiting(long()).await, Ok(number));
    }
    assert_eq!((told(reader.now()), told(reader.now()), told(reader.now())), (Ok(0), Ok(1), Ok(2)));
    assert_eq!(told(unread.read_from(0).now()), Err((0, 2)));
}

fn limits_of(back_pressure: BackPressure) -> EventLimits {
    EventLimits { back_pressure, ..EventLimits::default() }
}

#[tokio::test]
async fn where_the_tenants_room_is_full_what_is_configured_for_slow_readers_holds() {
    const LONGEST: Duration = Duration::from_millis(100);
    for back_pressure in [BackPressure::Fail, BackPressure::DropOldest, BackPressure::Block(LONGEST)] {
        let (_other, events) = neighbours(back_pressure);
        let mut slow = events.read_from(0);
        for number in 0..6 {
            assert_eq!(events.write_waiting(long()).await, Ok(number));
        }
        let began = Instant::now();
        let written = events.write_waiting(long()).await;
        let (expected, waits, first) = match back_pressure {
            BackPressure::Fail => (Err(EventError::Full), false, Ok(0)),
            BackPressure::DropOldest => (Ok(6), false, Err((0, 0))),
            BackPressure::Block(_) => (Ok(6), true, Err((0, 0))),
        };
        assert_eq!((written, began.elapsed() >= LONGEST), (expected, waits), "{back_pressure:?}");
        assert_eq!(told(slow.now()), first, "{back_pressure:?}");
    }
}

#[tokio::test]
async fn a_writer_that_goes_away_while_it_waits_leaves_nothing_counted() {
    let events = buffer(1, BackPressure::Block(Duration::MAX));
    let _stalled = events.read_from(0);
    events.write_waiting(line("0")).await.unwrap();
    let before = events.room.bytes();
    let waited = tokio::time::timeout(Duration::from_millis(20), events.write_waiting(line("1")));
    assert!(waited.await.is_err());
    assert_eq!(events.room.bytes(), before);
}

#[tokio::test]
async fn nothing_is_taken_for_written_that_is_not() {
    let events = buffer(1, BackPressure::Block(Duration::MAX));
    let _stalled = events.read_from(0);
    assert_eq!(events.write_waiting(line("0")).await, Ok(0));
    let ending = async {
        tokio::task::yield_now().await;
        events.end(ended(b""));
    };
    let (written, ()) = tokio::join!(events.write_waiting(line("1")), ending);
    assert_eq!(written, Err(EventError::Closed));
}
