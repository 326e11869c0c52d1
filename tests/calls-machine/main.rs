//! The call machine against a model of Asterisk: every interleaving that a script of random bytes can make of requests,
//! replies, events, faults, hang-ups, lost connections and restarts.

mod cases;
mod model;
mod simulation;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use proptest::prelude::*;
use sidetone::calls::ids::Role;
use sidetone::calls::machine::{ChannelState, Command, Input, Outcome};
use sidetone::calls::mode::Mode;
use sidetone::media::leg::Leg;
use simulation::{Fate, MAIN, Simulation};

/// One step: what, and which of several.
fn step(sim: &mut Simulation, what: u8, which: u8) {
    let n = usize::from(which >> 3);
    match what {
        0..=59 => sim.carry_out(n, Fate::Done),
        60..=64 => sim.carry_out(n, Fate::ReplyLost),
        65..=69 => sim.carry_out(n, Fate::Lost),
        70..=74 => sim.carry_out(n, Fate::Refused),
        75..=76 => sim.carry_out(n, Fate::Forgotten),
        77..=116 => sim.reply(n),
        117..=146 => sim.tell(false),
        147..=150 => sim.tell(true),
        151..=180 => sim.enter(n),
        181..=205 => sim.attach(false),
        206..=208 => sim.attach(true),
        209..=230 => {
            // Slowness beyond what is granted is a fault as any other.
            sim.faults += 1;
            sim.wait((what < 225).then(|| Duration::from_millis(u64::from(which))));
        }
        231..=232 => sim.disconnect(),
        233..=236 => sim.reconnect(),
        237..=239 => {
            let ours = sim.asterisk.ours();
            if let Some(id) = simulation::nth(ours.iter(), n) {
                sim.faults += 1;
                if sim.asterisk.channels.contains_key(&id) {
                    sim.asterisk.hang_up(&id, true);
                } else {
                    sim.asterisk.destroy_bridge(&id);
                }
            }
        }
        240..=242 => {
            let main = sim.main.clone();
            sim.asterisk.enter_again(&main);
        }
        243 => {
            let old = sim.main.clone();
            // The driver would have to be told of the move first; a second one at once does not happen.
            if sim.asterisk.events.is_empty() && sim.asterisk.listening {
                let new = format!("{MAIN}.{}", sim.actions);
                sim.asterisk.replace(&old, &new);
            }
        }
        244..=245 => sim.restart(),
        246 => sim.input(Input::Command(Command::Hangup)),
        247 => sim.input(Input::Command(Command::Release)),
        248..=249 => {
            let main = sim.main.clone();
            sim.asterisk.hang_up(&main, which & 1 == 0);
        }
        _ => {}
    }
}

fn run(mode: Mode, up: bool, script: &[(u8, u8)]) -> Result<(), TestCaseError> {
    let state = if up { ChannelState::Up } else { ChannelState::Ringing };
    let mut sim = Simulation::new(mode, state);
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| play(&mut sim, script)));
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| {
            panic.downcast_ref::<&str>().map_or("panic".into(), |text| (*text).to_owned())
        });
        TestCaseError::fail(format!("{text}\n{}", sim.log.join("\n")))
    })
}

fn play(sim: &mut Simulation, script: &[(u8, u8)]) {
    for &(what, which) in script {
        if sim.finished.is_some() || sim.ended_on_disk {
            break;
        }
        step(sim, what, which);
    }
    sim.settle();
    if sim.finished.is_none() && !sim.ended_on_disk {
        // Nothing goes wrong any more, so all that can be wired is, and a tapped channel is on its way.
        let main = sim.main.clone();
        let is_alive = sim.asterisk.channels.contains_key(&main);
        assert!(is_alive, "it goes on without its main channel");
        assert!(sim.mode == Mode::Answer || !sim.asterisk.channels[&main].in_app, "still held");
        let failed = sim.count("leg.failed");
        let wired = Leg::BOTH.iter().filter(|leg| sim.asterisk.is_wired(Role::Snoop(**leg))).count();
        assert!(wired + failed >= 2, "a leg neither wired nor failed");
        if sim.asterisk.is_spoken_to(&main) {
            assert!(sim.machine.voice_is_heard(), "it does not know that the caller can hear us");
        } else {
            let is_missed = sim.mode == Mode::Answer && sim.asterisk.channels[&main].in_app;
            assert!(!is_missed || sim.voice_failed || sim.faults > 0, "the caller cannot hear us");
            assert!(!sim.machine.voice_is_heard(), "it speaks to nobody");
        }
        sim.asterisk.hang_up(&main, true);
        sim.settle();
    }
    if sim.ended_on_disk {
        return;
    }
    let (outcome, left_behind) =
        sim.finished.clone().expect("the main channel is gone, yet it is not finished");
    assert_eq!(sim.stopped.len(), 1, "media is stopped once");
    assert!(
        sim.count("call.ended") == 1 && sim.count("call.started") == 1 && sim.count("call.answered") <= 1
    );
    assert!(left_behind.is_empty() || sim.delete_faults, "left behind without need");
    assert!(sim.faults > 0 || matches!(outcome, Outcome::Completed | Outcome::Released));
    for id in sim.asterisk.ours() {
        assert!(left_behind.iter().any(|left| left.to_string() == id), "{id} is an orphan");
    }
    assert!(sim.actions <= 120 + 60 * (sim.faults + 4), "{} actions for {} faults", sim.actions, sim.faults);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tapped_call_survives_any_order_of_things(up: bool, script in prop::collection::vec(any::<(u8, u8)>(), 0..160)) {
        run(Mode::Tap, up, &script)?;
    }

    #[test]
    fn an_answered_call_survives_any_order_of_things(up: bool, script in prop::collection::vec(any::<(u8, u8)>(), 0..160)) {
        run(Mode::Answer, up, &script)?;
    }

    /// No faults at all: any order ends with both legs wired, nothing left and nothing asked twice.
    #[test]
    fn without_faults_any_order_completes(answer: bool, script in prop::collection::vec(any::<(u8, u8)>(), 0..100)) {
        let kind = [0u8, 77, 117, 151, 181];
        let script: Vec<_> = script.into_iter().map(|(what, which)| (kind[usize::from(what) % 5], which)).collect();
        let mode = if answer { Mode::Answer } else { Mode::Tap };
        let mut sim = Simulation::new(mode, ChannelState::Ringing);
        for (what, which) in script {
            step(&mut sim, what, which);
        }
        sim.settle();
        prop_assert_eq!(sim.count("leg.started"), 2);
        prop_assert_eq!(sim.asterisk.continued, usize::from(!answer));
        prop_assert_eq!((sim.asterisk.is_spoken_to(MAIN), sim.machine.voice_is_heard()), (answer, answer));
        sim.asterisk.hang_up(MAIN, true);
        sim.settle();
        prop_assert_eq!(sim.finished.clone(), Some((Outcome::Completed, vec![])));
        prop_assert_eq!(sim.asterisk.ours(), Vec::<String>::new());
        prop_assert!(sim.actions <= 45, "{} actions", sim.actions);
    }
}
