//! Time limits of workflows, which the topology's build compares with the longest time that calls
//! can take.

use topology::{Budget, Settings};

use crate::machine::Workflows;

/// A call waits for its service, a step for its calls, a request for its steps.
pub(crate) fn budgets<W: Workflows>(settings: &Settings) -> Vec<Budget> {
    let mut budgets = Vec::new();
    for (workflow, steps, request_ms) in W::budgets(settings) {
        for step in &steps {
            let waiter = format!("workflow {workflow}, step {}", step.step);
            budgets.push(Budget::Allows {
                waiter: format!("{waiter}, a call"),
                service: step.service.to_owned(),
                ms: step.call_ms,
                remedy: "allow the call at least {longest} ms, or reduce the attempts of the worker".to_owned(),
            });
            let calls = format!("calls of step {} of {workflow}", step.step);
            let because = "the longest call".to_owned();
            budgets.push(Budget::Takes { service: calls.clone(), ms: step.call_ms, because });
            budgets.push(Budget::Allows {
                waiter,
                service: calls,
                ms: step.step_ms,
                remedy: "allow the step at least {longest} ms, or shorten its calls".to_owned(),
            });
        }
        let Some(request_ms) = request_ms else { continue };
        let service = format!("all steps of {workflow}, undo steps included,");
        let because: Vec<String> = steps.iter().map(|step| format!("{} ms for {}", step.step_ms, step.step)).collect();
        let ms = steps.iter().map(|step| step.step_ms).sum();
        budgets.push(Budget::Takes { service: service.clone(), ms, because: because.join(" + ") });
        budgets.push(Budget::Allows {
            waiter: format!("workflow {workflow}, a request"),
            service,
            ms: request_ms,
            remedy: "allow the request at least {longest} ms, or shorten its steps".to_owned(),
        });
    }
    budgets
}
