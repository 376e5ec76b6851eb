//! Compares timeouts with the work that they cover when a topology is built, so that no caller
//! gives up before the service that it called.

/// A duration or a timeout, as a component reports it; see [`crate::SystemBolt::budgets`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Budget {
    /// The maximum duration of a service.
    Takes {
        /// The service.
        service: String,
        /// The maximum, in milliseconds.
        ms: u64,
        /// The terms of the maximum: "3 x 400 ms + 300 ms back-off".
        because: String,
    },
    /// The timeout of a caller.
    Allows {
        /// The caller: "workflow create-flow, step install rules".
        waiter: String,
        /// The service that it waits for; another component reports its [`Budget::Takes`].
        service: String,
        /// The timeout, in milliseconds.
        ms: u64,
        /// The remedy, with the name of the setting: "give the call at least {longest} ms,
        /// or the worker fewer attempts".
        remedy: String,
    },
}

/// Returns a message for each timeout that is shorter than the service may take.
pub(crate) fn too_short(budgets: &[Budget]) -> Vec<String> {
    budgets.iter().filter_map(|budget| shortfall(budget, budgets)).collect()
}

fn shortfall(waits: &Budget, budgets: &[Budget]) -> Option<String> {
    let Budget::Allows { waiter, service, ms, remedy } = waits else { return None };
    let (longest, because) = budgets.iter().filter_map(|budget| longest(budget, service)).max()?;
    (longest > *ms).then(|| {
        let remedy = remedy.replace("{longest}", &longest.to_string());
        format!("{waiter}: {service} may take {because} = {longest} ms, but it waits {ms} ms; {remedy}")
    })
}

fn longest<'a>(budget: &'a Budget, wanted: &str) -> Option<(u64, &'a str)> {
    match budget {
        Budget::Takes { service, ms, because } if service == wanted => Some((*ms, because)),
        Budget::Takes { .. } | Budget::Allows { .. } => None,
    }
}
