//! The car in Python on a real Kafka: alone, by the records that it reads and writes; and as a spoke of the trips.

#[path = "python/process.rs"]
mod process;
#[path = "python/requests.rs"]
mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use nave::serde_json::{Value, json};

use crate::process::{Car, Trips, broker};
use crate::requests::{Conversation, Request, call, header};

/// One test at a time: a call of a trip has two seconds, and each test uses all cores.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn prefix(test: &str) -> String {
    format!("{test}{}", std::process::id())
}

/// A client of the REST interface.
struct Client<'a> {
    url: &'a str,
    agent: ureq::Agent,
}

impl<'a> Client<'a> {
    fn new(trips: &'a Trips) -> Self {
        let patient =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(90)));
        Self { url: &trips.url, agent: patient.build().into() }
    }

    /// Asks for a trip; the same `key` again asks for the same trip. `prefer` says whether to wait for its answer.
    fn ask(&self, key: &str, town: &str, prefer: &str) -> (u16, Value) {
        let url = format!("{}/v1/topologies/trips/workflows/trip/{key}", self.url);
        let request = self.agent.post(url).header("Idempotency-Key", key).header("Prefer", prefer);
        let mut response = request.send(json!({"to": town}).to_string()).expect("it answers");
        let body = response.body_mut().read_to_string().expect("text");
        (response.status().as_u16(), nave::serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// The answer to a trip, once there is one.
    fn answer(&self, key: &str, town: &str) -> (u16, Value) {
        self.ask(key, town, "wait=60")
    }
}

#[test]
fn a_car_from_python_makes_a_trip_and_where_none_is_left_the_room_is_given_back() {
    let _alone = alone();
    let prefix = prefix("rome");
    let trips = Trips::start(&prefix);
    let _car = Car::start(&format!("{prefix}.spoke.car"));
    let client = Client::new(&trips);

    let booked = (200, json!({"to": "Rome", "price": 900}));
    assert_eq!(client.answer("monday", "Rome"), booked, "600 of the hotel, and 300 of the car in Python");
    assert_eq!(client.answer("tuesday", "Rome"), booked);
    for key in ["friday", "saturday"] {
        let (status, told) = client.answer(key, "Rome");
        let why = "book a car in Rome: refused (sold_out: no car is left in Rome), sent once";
        assert_eq!((status, &told["detail"]), (409, &json!(why)), "{told}");
        assert_eq!(told["left"], json!([]), "the room is given back: of three it is the last each time");
    }
}

#[test]
fn trips_in_flight_when_the_car_is_killed_end_with_a_car_or_without_as_they_say() {
    const TRIPS: usize = 1_000;
    let _alone = alone();
    let prefix = prefix("many");
    let trips = Trips::start(&prefix);
    let mut car = Car::start(&format!("{prefix}.spoke.car"));
    let client = Client::new(&trips);
    let (key, town) = (|n: usize| format!("trip-{n}"), |n: usize| format!("town-{n}"));

    // Nobody waits for an answer here, so that trips pile up. The car is killed when half of them are under way.
    std::thread::scope(|scope| {
        let (accepted, under_way) = mpsc::sync_channel(TRIPS);
        for first in 0..8 {
            let (accepted, client) = (accepted.clone(), &client);
            scope.spawn(move || {
                for n in (first..TRIPS).step_by(8) {
                    let (status, body) = client.ask(&key(n), &town(n), "respond-async");
                    assert_eq!(status, 202, "{body}");
                    accepted.send(()).ok();
                }
            });
        }
        drop(accepted);
        assert_eq!(under_way.iter().take(TRIPS / 2).count(), TRIPS / 2);
        car.replace();
    });

    // A call has two seconds. On a busy machine some end without an answer, and their trips are undone, or say what is left.
    let (mut booked, mut in_doubt, mut why) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    for n in 0..TRIPS {
        let (status, body) = client.answer(&key(n), &town(n));
        if status == 200 {
            booked.insert(key(n));
            continue;
        }
        if body["left"] != json!([]) {
            in_doubt.insert(key(n));
        }
        let reason = body["detail"].as_str().unwrap_or_default().replace(&town(n), "TOWN");
        *why.entry(reason).or_insert(0) += 1;
    }
    println!("{} of {TRIPS} trips are booked, {} are in doubt; the others: {why:?}", booked.len(), in_doubt.len());
    let taken: BTreeSet<String> = car.taken().into_iter().collect();
    assert_eq!(booked.difference(&taken).next(), None, "each trip that was promised a car has one");
    let unexpected = taken.difference(&booked).find(|trip| !in_doubt.contains(*trip));
    assert_eq!(unexpected, None, "no other trip has one");
    assert!(!why.keys().any(|reason| reason.contains("sold_out")), "each town has two cars: {why:?}");
}

#[test]
fn a_thousand_requests_at_once_are_all_carried_out_once_although_the_car_is_killed() {
    const CALLS: u32 = 1_000;
    let _alone = alone();
    let mut conversation = Conversation::new(&broker(), &prefix("killed"));
    let mut car = Car::start(&conversation.topic);
    // Two cars are in each town: for the trip `n` and the trip `n + CALLS`.
    let book = |n: u32| Request::new("book", &format!("town-{}", n % CALLS), n);
    conversation.send((0..CALLS).map(book));
    conversation.until(1_000);
    conversation.send((CALLS..2 * CALLS).map(book));
    conversation.until(1_001);
    car.replace();
    conversation.until(2_000);
    // A car that forgot what it gave out before it was killed has none left for a request that it reads again.
    let price = ("nave.reply".to_owned(), json!({"price": 300}));
    let said = conversation.said();
    let other: Vec<_> = said.iter().filter(|(_, said)| **said != price).collect();
    assert!(other.is_empty(), "{} of {} are no reply, like {:?}", other.len(), said.len(), other[0]);
    assert_eq!(car.taken().len(), 2_000);

    let again = book(7).with("ce_id", "op-7/1/2/car/2").with("ce_attempt", "2");
    conversation.send([again, Request::new("book", "town-7", 2_000)]);
    conversation.until_answered(2_000);
    assert_eq!(conversation.said()[&call(7)], price, "a repeat is answered as the first was");
    assert_eq!(conversation.said()[&call(2_000)].1["error"], "sold_out");
    assert!(car.terminate().success(), "SIGTERM stops it in order");
}

#[test]
fn a_request_that_the_car_cannot_carry_out_is_refused_by_name_and_the_next_one_is_answered() {
    let _alone = alone();
    let mut conversation = Conversation::new(&broker(), &prefix("refused"));
    let car = Car::start(&conversation.topic);
    let book = |n: u32| Request::new("book", "Oslo", n);
    conversation.send_bare("Oslo");
    conversation.send([
        book(1).with("ce_replypartition", "none"),
        // These two are carried out, and their answers go nowhere.
        Request::new("cancel", "Oslo", 2).with("ce_replypartition", "99"),
        Request::new("cancel", "Oslo", 14).with("ce_replypartition", "99999999999"),
        book(3).saying("no JSON"),
        book(4).saying(&"[".repeat(100_000)),
        book(5).saying(r#"["a list"]"#),
        Request::new("paint", "Oslo", 6),
        book(7).with("ce_expirytime", "2020-01-01T00:00:00.000Z"),
        book(8).with("ce_expirytime", "soon"),
        Request::new("cancel", "Oslo", 9).with("ce_type", "nave.undo").with("ce_undoes", "op-10/1/2,op-11/1/2"),
        book(10),
        book(12),
        // A refused call stays refused, although it could be carried out now.
        book(7),
        book(13),
    ]);
    conversation.until_answered(13);
    let said = conversation.said();
    let error = |n: u32| said[&call(n)].1["error"].as_str().unwrap_or_default().to_owned();
    for (n, expected) in [
        (3, "unreadable"),
        (4, "unreadable"),
        (5, "unreadable"),
        (6, "unknown"),
        (7, "expired"),
        (8, "unreadable"),
        (10, "undone"),
    ] {
        assert_eq!((said[&call(n)].0.as_str(), error(n).as_str()), ("nave.refusal", expected), "call {n}");
    }
    assert_eq!(said[&call(9)], ("nave.reply".to_owned(), json!({"price": 0})));
    for n in [12, 13] {
        assert_eq!(said[&call(n)], ("nave.reply".to_owned(), json!({"price": 300})));
    }
    assert_eq!(car.taken(), ["trip-12", "trip-13"]);

    let answer = conversation.answer(12);
    answer.headers.head().expect("Nave reads its headers");
    assert_eq!((answer.partition, answer.key.as_deref()), (3, Some(&b"Oslo"[..])));
    assert_eq!(header(answer, "ce_causationid"), "op-12/1/2/car/1");
    let request = book(12).headers;
    for name in ["ce_specversion", "ce_subject", "ce_callid", "ce_attempt", "traceparent", "x-unheard-of"] {
        assert_eq!(header(answer, name), request[name], "{name} is given back");
    }
    for name in ["ce_expirytime", "ce_replypartition", "ce_replyto"] {
        assert_eq!(header(answer, name), "", "{name} was for the request");
    }
}
