//! Steps at which a test has this process die, as by `kill -9`: so it is shown, step by step, that a crash loses nothing and does nothing
//! twice.
//!
//! A build without debug assertions, and so every release, has none of this: [`here`] is nothing there, and no variable is read. In one
//! with them nothing happens unless [`VARIABLE`] names a step.

macro_rules! steps {
    ($($(#[doc = $doc:literal])* $Step:ident = $name:literal,)*) => {
        /// A moment in the way of a job.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Step {
            $($(#[doc = $doc])* $Step,)*
        }

        impl Step {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$Step),*];

            /// As the variable has it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$Step => $name,)* }
            }
        }
    };
}

steps! {
    /// A message of a broker's is read and not in the database.
    Delivered = "delivered",
    /// A job is in the database, and whoever brought it does not know.
    Stored = "stored",
    /// A message of a broker's is in the database and kept by us, to be acknowledged when its job is over.
    Kept = "kept",
    /// A message that is no job lies among the dead letters, and where it was too.
    Buried = "buried",
    /// A worker has claimed a job.
    Claimed = "claimed",
    /// The work has begun.
    Begun = "begun",
    /// A file is written whole and on the disk, and has not its name yet.
    Written = "written",
    /// All is done, and that is not written down.
    Done = "done",
    /// What came of it is written down, and nobody has been told.
    Settled = "settled",
    /// The message that brought it is acknowledged.
    Acknowledged = "acknowledged",
    /// A message is written to the broker, and not confirmed.
    Sent = "sent",
    /// The broker has confirmed a message, and that is not noted.
    Confirmed = "confirmed",
    /// A webhook was taken, and that is not noted.
    Told = "told",
    /// The audio of a call lies ready, and that it will be placed is not noted.
    CallPrepared = "call-prepared",
    /// That a call will be placed is noted, and it is not placed.
    CallIntended = "call-intended",
    /// Asterisk has taken the order for a call.
    CallPlaced = "call-placed",
    /// It rings there.
    CallRinging = "call-ringing",
    /// The text is being spoken.
    CallSpeaking = "call-speaking",
    /// A call is over, and what came of it is not noted.
    CallOver = "call-over",
    /// What came of a call is noted, and Asterisk's database has its report still.
    CallNoted = "call-noted",
    /// It is noted that a call is to be placed once more, and the job does not wait for that yet.
    CallAgain = "call-again",
}

/// Names the step; after a space, at which time that it is come to (1, if there is none).
#[cfg(debug_assertions)]
pub const VARIABLE: &str = "SIDETONE_TEST_CRASH_AT";

/// The process dies here, if that is what a test wants.
#[cfg(debug_assertions)]
pub fn here(step: Step) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static WANTED: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| {
        let words = std::env::var(VARIABLE).ok()?;
        let (name, times) = words.split_once(' ').unwrap_or((&words, "1"));
        let times = times.parse().ok().filter(|_| Step::ALL.iter().any(|step| step.name() == name));
        let times = times.unwrap_or_else(|| panic!("{VARIABLE} is `{words}`: there is no such step"));
        Some((name.to_owned(), AtomicU32::new(times)))
    });
    if let Some((name, times)) = wanted
        && name == step.name()
        && times.fetch_sub(1, Ordering::SeqCst) == 1
    {
        let own = rustix::process::getpid();
        // Nothing is put in order, and nothing of this process can prevent it.
        while rustix::process::kill_process(own, rustix::process::Signal::KILL).is_ok() {
            std::thread::park();
        }
    }
}

/// Nothing: in this build no process dies of this.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn here(_: Step) {}
