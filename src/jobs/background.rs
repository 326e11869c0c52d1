//! Work that takes a processor for long: on threads of its own, which come after whatever serves a call.

use tokio::sync::oneshot;

use super::error::JobError;

/// As low as the recognisers' threads.
const NICENESS: i32 = 10;

/// Run `work` on a thread called `name`, and wait for what it says. Whoever stops waiting does not stop it.
///
/// # Errors
/// [`JobError::Transient`] where there can be no thread, [`JobError::Permanent`] where the work panics: it will again.
pub(super) async fn run<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JobError> {
    let (done, outcome) = oneshot::channel();
    let body = move || {
        if let Err(reason) = rustix::process::setpriority_process(None, NICENESS) {
            tracing::debug!(%reason, "a thread for jobs runs at the priority of calls");
        }
        // Whoever waited may be gone.
        let _ = done.send(work());
    };
    std::thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map_err(|error| JobError::transient(format!("no thread can be started: {error}")))?;
    outcome.await.map_err(|_| JobError::permanent("the work broke off; the log has the panic"))
}
