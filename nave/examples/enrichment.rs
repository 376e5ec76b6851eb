//! Joins orders with their customers, from Kafka to Kafka:
//! `cargo run -p nave --example enrichment -- up --bus kafka --brokers 127.0.0.1:9092`.
//!
//! It reads the topics `shop.customers`, of which it keeps the last record of each key, and
//! `shop.orders`, and writes `shop.deliveries`. An order of an unknown or deleted customer goes to the
//! dead-letter topic. The two topics have no common order: an order that is read before its
//! customer is of an unknown customer.

use std::process::ExitCode;

use nave::prelude::stream::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Customer {
    address: String,
}

/// A key of `shop.customers`, with the customer unless it was deleted.
type CustomerRow = (String, Option<Customer>);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Delivery {
    order: u64,
    address: String,
}

/// The inputs of the join: one variant for each stream.
enum Input {
    Customer(CustomerRow),
    Order(Order),
}

impl From<CustomerRow> for Input {
    fn from(customer: CustomerRow) -> Self {
        Self::Customer(customer)
    }
}

impl From<Order> for Input {
    fn from(order: Order) -> Self {
        Self::Order(order)
    }
}

/// The addresses by customer.
#[derive(Default)]
struct Join(StateMap<String, String>);

impl Bolt for Join {
    type In = Input;
    type Out = Delivery;

    fn state(&mut self, saved: &mut SavedState<'_>) {
        saved.map("addresses", &mut self.0);
    }

    fn execute(&mut self, input: Input, out: &mut Emitter<Delivery>) {
        match input {
            Input::Customer((id, Some(Customer { address }))) => {
                self.0.insert(id, address);
            }
            Input::Customer((id, None)) => {
                self.0.remove(&id);
            }
            Input::Order(Order { id, customer }) => match self.0.get(&customer) {
                Some(address) => out.emit(Delivery { order: id, address: address.clone() }),
                None => out.fail(format!("order {id} is of the unknown customer `{customer}`")),
            },
        }
    }
}

pub(crate) fn enrichment() -> Result<Topology, BuildErrors> {
    let t = Topology::named("enrichment");
    let customers = t.kafka_source("customers", KafkaSource::table("shop.customers"));
    let orders = t.kafka_source("orders", "shop.orders");
    t.bolt("join", Join::default)
        .lanes(2)
        .reads(customers.fields(|(id, _): &CustomerRow| id.as_str()))
        .reads(orders.fields(|order: &Order| order.customer.as_str()))
        .kafka_sink("deliveries", "shop.deliveries");
    t.build()
}

fn main() -> ExitCode {
    nave::main(nave::about!(), [enrichment])
}
