//! Requests to a spoke, header by header, and its answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Clock, Headers, Kafka, KafkaOptions, Outgoing, Reader, Record, TopicSpec, Writer};
use nave::SystemClock;
use nave::serde_json::{Value, json};

/// An answer takes less than a second on an idle machine.
const TIMEOUT_MS: u64 = 120_000;
const PARTITIONS: u32 = 4;

/// A request to the car spoke. Tests change its headers and its body.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) headers: BTreeMap<&'static str, String>,
    pub(crate) body: String,
    key: String,
}

impl Request {
    /// Creates the request of call `n`, for trip `n` in this town.
    pub(crate) fn new(verb: &str, town: &str, n: u32) -> Self {
        let headers = [
            ("ce_specversion", "1.0".to_owned()),
            ("ce_id", format!("op-{n}/1/2/car/1")),
            ("ce_source", "/nave/trips/hub/3".to_owned()),
            ("ce_type", "nave.call".to_owned()),
            ("ce_subject", town.to_owned()),
            ("ce_callid", call(n)),
            ("ce_attempt", "1".to_owned()),
            ("ce_expirytime", "2100-01-01T00:00:00.000Z".to_owned()),
            ("ce_replypartition", "3".to_owned()),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
            ("x-unheard-of", "returned".to_owned()),
        ];
        let body = json!({"verb": verb, "to": town, "trip": format!("trip-{n}")}).to_string();
        Self { headers: headers.into(), body, key: town.to_owned() }
    }

    /// Sets the value of a header.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.to_owned());
        self
    }

    /// Sets the body.
    pub(crate) fn with_body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }
}

/// The id of call `n`.
pub(crate) fn call(n: u32) -> String {
    format!("op-{n}/1/2")
}

/// The type and the body of an answer.
pub(crate) type Reply = (String, Value);

/// One topic for requests, one for answers, and all answers so far.
pub(crate) struct Conversation {
    pub(crate) topic: String,
    inbox: String,
    writer: Box<dyn Writer>,
    reader: Box<dyn Reader>,
    clock: Arc<SystemClock>,
    answers: BTreeMap<String, Vec<Record>>,
}

impl Conversation {
    /// Creates the two topics below `prefix`.
    pub(crate) fn new(broker: &str, prefix: &str) -> Self {
        let clock = Arc::new(SystemClock::default());
        let bus = Kafka::open(Arc::clone(&clock) as _, KafkaOptions::new(broker.to_owned())).expect("a cluster");
        let (topic, inbox) = (format!("{prefix}.spoke.car"), format!("{prefix}.in"));
        let mut reader = bus.reader().expect("a reader");
        for topic in [&topic, &inbox] {
            bus.ensure_topic(&TopicSpec::log(topic, PARTITIONS)).expect("a topic");
        }
        for partition in 0..PARTITIONS {
            reader.assign(&inbox, partition, 0).expect("an assignment");
        }
        let writer = bus.writer(prefix).expect("a writer");
        Self { topic, inbox, writer, reader, clock, answers: BTreeMap::new() }
    }

    /// Writes the requests in one append, with the inbox as reply address.
    pub(crate) fn send(&mut self, requests: impl IntoIterator<Item = Request>) {
        let outgoing = |request: Request| {
            let reply_to = ("ce_replyto", self.inbox.clone());
            let headers: Headers = request.headers.into_iter().chain([reply_to]).collect();
            Outgoing { headers, ..Outgoing::keyed(&self.topic, request.key, request.body) }
        };
        let records: Vec<Outgoing> = requests.into_iter().map(outgoing).collect();
        self.writer.append(&records).expect("an append");
    }

    /// Writes a record without headers.
    pub(crate) fn send_bare(&mut self, key: &str) {
        self.writer.append(&[Outgoing::keyed(&self.topic, key.to_owned(), "{}")]).expect("an append");
    }

    /// Reads until `calls` calls have an answer.
    pub(crate) fn until(&mut self, calls: usize) {
        let end = self.clock.mono().plus_ms(TIMEOUT_MS);
        while self.answers.len() < calls {
            assert!(self.clock.mono() < end, "{} of {calls} calls have an answer", self.answers.len());
            let mut records = Vec::new();
            // One at a time, so that a test sees the first answer early and can kill the spoke.
            self.reader.poll(1, Duration::from_millis(100), &mut records).expect("a poll");
            for record in records {
                let call = header(&record, "ce_callid");
                self.answers.entry(call).or_default().push(record);
            }
        }
    }

    /// Reads until call `n` has an answer, and so all earlier calls of its town have one too.
    pub(crate) fn until_answered(&mut self, n: u32) {
        while !self.answers.contains_key(&call(n)) {
            self.until(self.answers.len() + 1);
        }
    }

    /// The reply to each answered call. Panics if a call has two different replies.
    pub(crate) fn replies(&self) -> BTreeMap<String, Reply> {
        let reply = |record: &Record| (header(record, "ce_type"), json_of(record));
        self.answers
            .iter()
            .map(|(call, records)| {
                let first = reply(&records[0]);
                assert!(
                    records.iter().all(|record| reply(record) == first),
                    "{call} has two different replies: {records:?}"
                );
                (call.clone(), first)
            })
            .collect()
    }

    /// The first answer to call `n`.
    pub(crate) fn answer(&self, n: u32) -> &Record {
        &self.answers[&call(n)][0]
    }
}

/// The value of a header, or an empty string.
pub(crate) fn header(record: &Record, name: &str) -> String {
    String::from_utf8_lossy(record.headers.get(name).unwrap_or_default()).into_owned()
}

fn json_of(record: &Record) -> Value {
    nave::serde_json::from_slice(&record.value).unwrap_or_else(|fault| panic!("{fault}: {record:?}"))
}
