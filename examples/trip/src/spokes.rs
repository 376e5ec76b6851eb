//! The two services, and their spokes: a desk that books rooms, and one that books cars.

use std::collections::{BTreeMap, BTreeSet};

use nave::prelude::workflow::Service;
use nave::spoke::{Call, Spoke, SpokeError};
use serde::{Deserialize, Serialize};

/// Books rooms.
pub const HOTEL: Service<Order, Booked> = Service::named("hotel");
/// Books cars.
pub const CAR: Service<Order, Booked> = Service::named("car");

/// The request to a spoke.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// The place.
    pub to: String,
    /// The name of the trip.
    pub trip: String,
    /// `book` or `cancel`.
    pub verb: String,
}

/// The reply of a spoke.
#[derive(Debug, Serialize, Deserialize)]
pub struct Booked {
    /// The price of the booking; 0 for a cancellation.
    pub price: u64,
}

/// Books items of one kind, at one price, with the same stock in each place.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The price of one item.
    pub price: u64,
    /// The number of items in each place.
    pub stock: usize,
    /// The trips that hold an item, by place.
    pub holders: BTreeMap<String, BTreeSet<String>>,
}

impl Desk {
    /// Creates a desk without bookings.
    pub fn new(price: u64, stock: usize) -> Self {
        Self { price, stock, holders: BTreeMap::new() }
    }
}

impl Spoke for Desk {
    type Request = Order;
    type Reply = Booked;

    fn handle(&mut self, _: &Call, order: Order) -> Result<Booked, SpokeError> {
        let holders = self.holders.entry(order.to.clone()).or_default();
        match order.verb.as_str() {
            "book" if holders.len() < self.stock => {
                holders.insert(order.trip);
                Ok(Booked { price: self.price })
            }
            "book" => Err(SpokeError::refuse("sold_out", format!("nothing is left in {}", order.to))),
            // The hub also cancels bookings that only may have been made, so there may be none.
            "cancel" => {
                holders.remove(&order.trip);
                Ok(Booked { price: 0 })
            }
            other => Err(SpokeError::refuse("unknown", format!("`{other}` is neither book nor cancel"))),
        }
    }
}
