//! The Python spoke on a real Kafka: alone, record by record, and as the car spoke of the trips.

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

/// Runs one test at a time: each test uses all cores, and a call times out after 2 s.
fn exclusive() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
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
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(90)));
        Self { url: &trips.url, agent: config.build().into() }
    }

    /// Requests a trip. A repeated `key` is the same trip. `prefer` is the `Prefer` header.
    fn request(&self, key: &str, town: &str, prefer: &str) -> (u16, Value) {
        let url = format!("{}/v1/topologies/trips/workflows/trip/{key}", self.url);
        let request = self.agent.post(url).header("Idempotency-Key", key).header("Prefer", prefer);
        let mut response = request.send(json!({"to": town}).to_string()).expect("a response");
        let body = response.body_mut().read_to_string().expect("text");
        (response.status().as_u16(), nave::serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// Waits for the answer to a trip and returns it.
    fn answer(&self, key: &str, town: &str) -> (u16, Value) {
        self.request(key, town, "wait=60")
    }
}

#[test]
fn the_python_spoke_books_cars_and_a_trip_without_one_cancels_its_room() {
    let _guard = exclusive();
    let prefix = prefix("rome");
    let trips = Trips::start(&prefix);
    let _car = Car::start(&format!("{prefix}.spoke.car"));
    let client = Client::new(&trips);

    let booked = (200, json!({"to": "Rome", "price": 900}));
    assert_eq!(client.answer("monday", "Rome"), booked, "600 for the hotel, 300 for the car in Python");
    assert_eq!(client.answer("tuesday", "Rome"), booked);
    for key in ["friday", "saturday"] {
        let (status, body) = client.answer(key, "Rome");
        let reason = "book a car in Rome: refused (sold_out: no car is left in Rome), sent once";
        assert_eq!((status, &body["detail"]), (409, &json!(reason)), "{body}");
        assert_eq!(body["left"], json!([]), "the third of three rooms is free again for the next trip");
    }
}

#[test]
fn answers_match_the_booked_cars_after_the_python_spoke_is_killed() {
    const TRIPS: usize = 1_000;
    let _guard = exclusive();
    let prefix = prefix("many");
    let trips = Trips::start(&prefix);
    let mut car = Car::start(&format!("{prefix}.spoke.car"));
    let client = Client::new(&trips);
    let (key, town) = (|n: usize| format!("trip-{n}"), |n: usize| format!("town-{n}"));

    // Clients do not wait for answers, so trips accumulate until the spoke is killed at half.
    std::thread::scope(|scope| {
        let (accepted, acceptances) = mpsc::sync_channel(TRIPS);
        for first in 0..8 {
            let (accepted, client) = (accepted.clone(), &client);
            scope.spawn(move || {
                for n in (first..TRIPS).step_by(8) {
                    let (status, body) = client.request(&key(n), &town(n), "respond-async");
                    assert_eq!(status, 202, "{body}");
                    accepted.send(()).ok();
                }
            });
        }
        drop(accepted);
        assert_eq!(acceptances.iter().take(TRIPS / 2).count(), TRIPS / 2);
        car.replace();
    });

    // On a busy machine some calls time out after 2 s. Their trips are undone or in doubt.
    let (mut booked, mut in_doubt, mut reasons) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
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
        *reasons.entry(reason).or_insert(0) += 1;
    }
    println!("{} of {TRIPS} trips are booked, {} are in doubt; the others: {reasons:?}", booked.len(), in_doubt.len());
    let taken: BTreeSet<String> = car.taken().into_iter().collect();
    assert_eq!(booked.difference(&taken).next(), None, "each booked trip has a car");
    let unexpected = taken.difference(&booked).find(|trip| !in_doubt.contains(*trip));
    assert_eq!(unexpected, None, "no other trip has a car");
    assert!(!reasons.keys().any(|reason| reason.contains("sold_out")), "each town has two cars: {reasons:?}");
}

#[test]
fn the_python_spoke_carries_out_each_call_once_although_it_is_killed() {
    const CALLS: u32 = 1_000;
    let _guard = exclusive();
    let mut conversation = Conversation::new(&broker(), &prefix("killed"));
    let mut car = Car::start(&conversation.topic);
    // The two cars of a town go to the trips `n` and `n + CALLS`.
    let book = |n: u32| Request::new("book", &format!("town-{}", n % CALLS), n);
    conversation.send((0..CALLS).map(book));
    conversation.until(1_000);
    conversation.send((CALLS..2 * CALLS).map(book));
    conversation.until(1_001);
    car.replace();
    conversation.until(2_000);
    // A spoke that had lost its bookings would refuse repeated calls as sold out.
    let price = ("nave.reply".to_owned(), json!({"price": 300}));
    let replies = conversation.replies();
    let other: Vec<_> = replies.iter().filter(|(_, reply)| **reply != price).collect();
    assert!(other.is_empty(), "{} of {} are not a price, like {:?}", other.len(), replies.len(), other[0]);
    assert_eq!(car.taken().len(), 2_000);

    let again = book(7).with("ce_id", "op-7/1/2/car/2").with("ce_attempt", "2");
    conversation.send([again, Request::new("book", "town-7", 2_000)]);
    conversation.until_answered(2_000);
    assert_eq!(conversation.replies()[&call(7)], price, "a repeat gets the first answer");
    assert_eq!(conversation.replies()[&call(2_000)].1["error"], "sold_out");
    assert!(car.terminate().success(), "SIGTERM stops the spoke with status 0");
}

#[test]
fn the_python_spoke_refuses_bad_calls_by_name_and_answers_the_next() {
    let _guard = exclusive();
    let mut conversation = Conversation::new(&broker(), &prefix("refused"));
    let car = Car::start(&conversation.topic);
    let book = |n: u32| Request::new("book", "Oslo", n);
    conversation.send_bare("Oslo");
    conversation.send([
        book(1).with("ce_replypartition", "none"),
        // The spoke carries out these two, but cannot deliver their answers.
        Request::new("cancel", "Oslo", 2).with("ce_replypartition", "99"),
        Request::new("cancel", "Oslo", 14).with("ce_replypartition", "99999999999"),
        book(3).with_body("no JSON"),
        book(4).with_body(&"[".repeat(100_000)),
        book(5).with_body(r#"["a list"]"#),
        Request::new("paint", "Oslo", 6),
        book(7).with("ce_expirytime", "2020-01-01T00:00:00.000Z"),
        book(8).with("ce_expirytime", "soon"),
        Request::new("cancel", "Oslo", 9).with("ce_type", "nave.undo").with("ce_undoes", "op-10/1/2,op-11/1/2"),
        book(10),
        book(12),
        // A refused call stays refused, even if it could now be carried out.
        book(7),
        book(13),
    ]);
    conversation.until_answered(13);
    let replies = conversation.replies();
    let error = |n: u32| replies[&call(n)].1["error"].as_str().unwrap_or_default().to_owned();
    for (n, expected) in [
        (3, "unreadable"),
        (4, "unreadable"),
        (5, "unreadable"),
        (6, "unknown"),
        (7, "expired"),
        (8, "unreadable"),
        (10, "undone"),
    ] {
        assert_eq!((replies[&call(n)].0.as_str(), error(n).as_str()), ("nave.refusal", expected), "call {n}");
    }
    assert_eq!(replies[&call(9)], ("nave.reply".to_owned(), json!({"price": 0})));
    for n in [12, 13] {
        assert_eq!(replies[&call(n)], ("nave.reply".to_owned(), json!({"price": 300})));
    }
    assert_eq!(car.taken(), ["trip-12", "trip-13"]);

    let answer = conversation.answer(12);
    answer.headers.head().expect("Nave can read the headers");
    assert_eq!((answer.partition, answer.key.as_deref()), (3, Some(&b"Oslo"[..])));
    assert_eq!(header(answer, "ce_causationid"), "op-12/1/2/car/1");
    let request = book(12).headers;
    for name in ["ce_specversion", "ce_subject", "ce_callid", "ce_attempt", "traceparent", "x-unheard-of"] {
        assert_eq!(header(answer, name), request[name], "{name} is returned");
    }
    for name in ["ce_expirytime", "ce_replypartition", "ce_replyto"] {
        assert_eq!(header(answer, name), "", "{name} belongs to the request");
    }
}
