"""A spoke that gives out cars. It needs a Kafka client and the standard library, and nothing of Nave.

    car.py HOST:PORT [TOPIC [FILE]]

FILE holds the cars that are taken, and the answer to each call [default: TOPIC.db]. Run one process for each TOPIC. It may be
killed at any moment: the next one finds in FILE what was done, and in TOPIC what was not answered.
"""
import json, signal, sqlite3, sys, time
from datetime import datetime, timezone
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

CARS = 2                # in each place
BATCH = 500             # requests that share one commit to disk, one flush and one commit of offsets
REMEMBER_S = 3 * 3600   # Kafka keeps a request for one hour, at most two: no call comes again after that
# Headers of one message alone. An answer has its own; it gives back all others, whatever their names are.
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
    """Does what is asked. Returns the type and the body of the answer."""
    try:
        if "ce_expirytime" in head:
            expires = datetime.fromisoformat(head["ce_expirytime"].replace("Z", "+00:00"))
            if expires < datetime.now(timezone.utc):
                return refusal("expired", f"this call was of no use after {expires}")
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
    """Returns the answer to a request as arguments of `produce`; None where the request names no place for an answer."""
    try:
        head = {name: value.decode() for name, value in reversed(record.headers() or [])}
        message, kind, call = head["ce_id"], head["ce_type"], head["ce_callid"]
        to, partition = head["ce_replyto"], int(head["ce_replypartition"])
    except (KeyError, ValueError, AttributeError) as fault:
        print(f"not a request: partition {record.partition()}, offset {record.offset()}: {fault!r}", file=sys.stderr)
        return None
    if kind == "nave.undo":     # A call that is undone before it comes must not be carried out later.
        for undone in filter(None, head.get("ce_undoes", "").split(",")):
            remember(undone, *refusal("undone", "this call was undone before it came"))
    known = "SELECT kind, body FROM calls WHERE id = ?"
    if not db.execute(known, (call,)).fetchone():       # A repeated call gets the same answer; it is carried out once.
        remember(call, *carry_out(head, record.value()))
    kind, body = db.execute(known, (call,)).fetchone()
    own = {"ce_id": f"{message}:{kind}", "ce_source": "/spoke/car", "ce_type": kind, "ce_causationid": message}
    given_back = {name: value for name, value in head.items() if name not in OWN}
    return to, body, record.key(), partition, list((given_back | own).items())


def delivered(fault, _):
    """The producer retries for ever, so a fault here is final: for example, there is no such topic or partition."""
    if fault:
        print(f"an answer cannot be sent: {fault}", file=sys.stderr)


def handle(records):
    with db:                    # Everything that was done is on disk before an answer says so.
        db.execute("DELETE FROM calls WHERE at < ?", (time.time() - REMEMBER_S,))
        answers = [answer(record) for record in records]
    for to, body, key, partition, headers in filter(None, answers):
        try:
            producer.produce(to, body, key, partition, delivered, headers=headers)
        except (KafkaException, OverflowError, ValueError) as fault:
            delivered(fault, None)
    while producer.flush(1) and running:
        pass
    if not len(producer):       # Offsets follow the answers: a request that is read again is answered from FILE.
        consumer.commit(asynchronous=True)


def stop(*_):
    global running
    running = False


running = True
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
# A request that names a topic that is not there holds up others for at most 10 s. A shorter time loses the answers to a topic that
# a busy cluster has not announced yet: each call then comes again, and is answered from FILE.
producer = Producer({"bootstrap.servers": broker, "message.timeout.ms": 0, "topic.metadata.propagation.max.ms": 10_000})
# With an instance id, a process that replaces a killed one has its partitions at once, not when the session has timed out. A second
# process with this id ends the first, so that two never serve one FILE for long.
consumer = Consumer({"bootstrap.servers": broker, "group.id": topic + ".py", "group.instance.id": topic + ".py",
                     "session.timeout.ms": 6_000, "auto.offset.reset": "earliest", "enable.auto.commit": False,
                     "isolation.level": "read_committed"})
consumer.subscribe([topic])
while running:
    first = consumer.poll(1)
    records = [first, *consumer.consume(BATCH - 1, 0)] if first else []
    for fault in filter(None, (record.error() for record in records)):
        print(fault, file=sys.stderr)
        if fault.code() == KafkaError._FATAL:       # for example, another process has this instance id
            sys.exit(1)
    if requests := [record for record in records if not record.error()]:
        handle(requests)
consumer.close()
