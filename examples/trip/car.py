"""A spoke in 20 lines: gives out cars. Needs a Kafka client, and nothing of Nave.  car.py HOST:PORT [TOPIC]"""
import json, sys
from confluent_kafka import Consumer, Producer

cars, given, replies = 2, {}, {}                # a spoke that is to outlive its process keeps these three on disk
broker, topic = sys.argv[1], (sys.argv[2:] + ["nave.spoke.car"])[0]
consumer = Consumer({"bootstrap.servers": broker, "group.id": topic + ".py", "auto.offset.reset": "earliest",
                     "isolation.level": "read_committed", "enable.auto.commit": False})
producer = Producer({"bootstrap.servers": broker})
consumer.subscribe([topic])
while True:
    record = consumer.poll(1)
    if record is None or record.error(): continue
    head = {name: value.decode() for name, value in record.headers()}
    order, call = json.loads(record.value()), head["ce_callid"]
    if call not in replies:                     # a call that is asked again is answered again, and done once
        trips, done = given.setdefault(order["to"], set()), ("nave.reply", {"price": 300 if order["verb"] == "book" else 0})
        if order["verb"] == "cancel": trips.discard(order["trip"])
        elif len(trips) < cars: trips.add(order["trip"])
        else: done = ("nave.refusal", {"error": "sold_out", "detail": "no car is left in " + order["to"]})
        replies[call] = done
    for undone in filter(None, head.get("ce_undoes", "").split(",")):   # what is undone is not done later
        replies.setdefault(undone, ("nave.refusal", {"error": "undone", "detail": "it was undone before it came"}))
    kind, body = replies[call]
    answer = {"ce_specversion": "1.0", "ce_id": head["ce_id"] + ":answer", "ce_source": "/spoke/car", "ce_type": kind,
              "ce_causationid": head["ce_id"], **{n: head[n] for n in ("ce_subject", "ce_operation", "ce_correlationid", "ce_callid") if n in head}}
    producer.produce(head["ce_replyto"], json.dumps(body), record.key(), int(head["ce_replypartition"]), headers=list(answer.items()))
    producer.flush()
    consumer.commit(record)
