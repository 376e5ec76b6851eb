"""A spoke in 20 lines: gives out cars. Needs a Kafka client, and nothing of Nave.  car.py HOST:PORT"""
import json, sys
from confluent_kafka import Consumer, Producer

cars, given, replies = 2, {}, {}
consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": "car.py", "auto.offset.reset": "earliest",
                     "isolation.level": "read_committed", "enable.auto.commit": False})
producer = Producer({"bootstrap.servers": sys.argv[1]})
consumer.subscribe(["nave.spoke.car"])
while True:
    record = consumer.poll(1)
    if record is None or record.error(): continue
    head = {name: value.decode() for name, value in record.headers()}
    order, call, kind = json.loads(record.value()), head["ce_callid"], "nave.reply"
    if call not in replies:                     # a call that is asked again is answered again, and done once
        trips = given.setdefault(order["to"], set())
        if order["verb"] == "cancel": trips.discard(order["trip"])
        elif len(trips) < cars: trips.add(order["trip"])
        else: kind = "nave.refusal"
        if kind == "nave.reply": replies[call] = {"price": 300 if order["verb"] == "book" else 0}
    body = replies.get(call, {"error": "sold_out", "detail": "no car is left in " + order["to"]})
    answer = {"ce_specversion": "1.0", "ce_id": head["ce_id"] + ":answer", "ce_source": "/spoke/car", "ce_type": kind,
              "ce_causationid": head["ce_id"], **{n: head[n] for n in ("ce_subject", "ce_correlationid", "ce_callid")}}
    producer.produce(head["ce_replyto"], json.dumps(body), record.key(), int(head["ce_replypartition"]), headers=list(answer.items()))
    producer.flush()
    consumer.commit(record)
