"""A spoke that books cars. It needs only a Kafka client and the standard library.

    car.py HOST:PORT [TOPIC [FILE]]

FILE is a database with the booked cars and the answer to each call [default: TOPIC.db].
Run one process per TOPIC. It survives a kill at any moment: the next process finds completed calls
in FILE and unanswered calls in TOPIC.
"""
import json, signal, sqlite3, sys, time
from datetime import datetime, timezone
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

CARS = 2                # in each place
BATCH = 500             # requests per database commit, flush and offset commit
RETENTION_S = 3 * 3600  # Kafka keeps a request for at most two hours: no call repeats after that
# Headers that belong to one message. An answer returns all other headers of its request unchanged.
OWN = {"ce_id", "ce_source", "ce_type", "ce_time", "ce_causationid", "ce_expirytime", "ce_undoes", "ce_replyto",
       "ce_replypartition"}

arguments = dict(enumerate(sys.argv))
broker, topic = sys.argv[1], arguments.get(2, "nave.spoke.car")
db = sqlite3.connect(arguments.get(3, topic + ".db"))
db.executescript("""
    CREATE TABLE IF NOT EXISTS taken (place TEXT, trip TEXT, PRIMARY KEY (place, trip));
    CREATE TABLE IF NOT EXISTS calls (id TEXT PRIMARY KEY, kind TEXT, body TEXT, at REAL);
    CREATE INDEX IF NOT EXISTS calls_by_age ON calls (at);
""")


def refusal(error, detail):
    return "nave.refusal", {"error": error, "detail": detail}


def carry_out(head, value):
    """Carries out one call. Returns the type and the body of the answer."""
    try:
        if "ce_expirytime" in head:
            expires = datetime.fromisoformat(head["ce_expirytime"].replace("Z", "+00:00"))
            if expires < datetime.now(timezone.utc):
                return refusal("expired", f"the call expired at {expires}")
        order = json.loads(value)
        verb, place, trip = (str(order[name]) for name in ("verb", "to", "trip"))
        if verb == "cancel":
            db.execute("DELETE FROM taken WHERE place = ? AND trip = ?", (place, trip))
            return "nave.reply", {"price": 0}
        if verb != "book":
            return refusal("unknown", f"{verb!r} is neither book nor cancel")
        if db.execute("SELECT count(*) FROM taken WHERE place = ?", (place,)).fetchone()[0] >= CARS:
            return refusal("sold_out", f"no car is left in {place}")
        db.execute("INSERT OR IGNORE INTO taken VALUES (?, ?)", (place, trip))
        return "nave.reply", {"price": 300}
    except (KeyError, TypeError, ValueError, RecursionError) as fault:
        return refusal("unreadable", repr(fault))


def remember(call, kind, body):
    db.execute("INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?)", (call, kind, json.dumps(body), time.time()))


def answer(record):
    """Returns the answer as arguments of `produce`, or None if the request has no reply address."""
    try:
        head = {name: value.decode() for name, value in reversed(record.headers() or [])}
        message, kind, call = head["ce_id"], head["ce_type"], head["ce_callid"]
        to, partition = head["ce_replyto"], int(head["ce_replypartition"])
    except (KeyError, ValueError, AttributeError) as fault:
        print(f"not a request: partition {record.partition()}, offset {record.offset()}: {fault!r}", file=sys.stderr)
        return None
    if kind == "nave.undo":     # An undo may overtake its call, which must then not be carried out.
        for undone in filter(None, head.get("ce_undoes", "").split(",")):
            remember(undone, *refusal("undone", "the call was undone before it arrived"))
    select = "SELECT kind, body FROM calls WHERE id = ?"
    if not db.execute(select, (call,)).fetchone():      # A repeated call gets the first answer again.
        remember(call, *carry_out(head, record.value()))
    kind, body = db.execute(select, (call,)).fetchone()
    own = {"ce_id": f"{message}:{kind}", "ce_source": "/spoke/car", "ce_type": kind, "ce_causationid": message}
    returned = {name: value for name, value in head.items() if name not in OWN}
    return to, body, record.key(), partition, list((returned | own).items())


def delivered(fault, _):
    """Reports a failed delivery. The producer never stops retrying, so the cause is permanent."""
    if fault:
        print(f"cannot send an answer: {fault}", file=sys.stderr)


def handle(records):
    with db:                    # Commit to disk before sending any answer.
        db.execute("DELETE FROM calls WHERE at < ?", (time.time() - RETENTION_S,))
        answers = [answer(record) for record in records]
    for to, body, key, partition, headers in filter(None, answers):
        try:
            producer.produce(to, body, key, partition, delivered, headers=headers)
        except (KafkaException, OverflowError, ValueError) as fault:
            delivered(fault, None)
    while producer.flush(1) and running:
        pass
    if not len(producer):       # Commit offsets last: FILE answers a request that is read again.
        # Name the offsets: the client would fill them in later, when it has read further.
        read = {r.partition(): TopicPartition(r.topic(), r.partition(), r.offset() + 1) for r in records}
        consumer.commit(offsets=list(read.values()), asynchronous=True)


def stop(*_):
    global running
    running = False


running = True
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
# topic.metadata.propagation.max.ms: a missing reply topic delays other answers by at most 10 s. A
# shorter time loses answers to a new topic that a busy cluster has not announced yet. Each lost
# answer costs one more attempt of the call, which FILE answers.
producer = Producer({"bootstrap.servers": broker, "message.timeout.ms": 0, "topic.metadata.propagation.max.ms": 10_000})
# group.instance.id: a replacement gets the partitions of a killed process at once, without waiting
# for the session timeout. A second process with this id stops the first: FILE has one writer.
consumer = Consumer({"bootstrap.servers": broker, "group.id": topic + ".py", "group.instance.id": topic + ".py",
                     "session.timeout.ms": 6_000, "auto.offset.reset": "earliest", "enable.auto.commit": False,
                     "isolation.level": "read_committed"})
consumer.subscribe([topic])
while running:
    first = consumer.poll(1)
    records = [first, *consumer.consume(BATCH - 1, 0)] if first else []
    for fault in filter(None, (record.error() for record in records)):
        print(fault, file=sys.stderr)
        if fault.code() == KafkaError._FATAL:       # e.g. another process took over the instance id
            sys.exit(1)
    if requests := [record for record in records if not record.error()]:
        handle(requests)
consumer.close()
