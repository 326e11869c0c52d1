//! Named cases.

use std::time::Duration;

use sidetone::calls::ids::Role;
use sidetone::calls::machine::*;
use sidetone::calls::mode::Mode;
use sidetone::media::leg::Leg;

use crate::simulation::{Fate, MAIN, Simulation, at, config};

fn drain(machine: &mut CallMachine) -> Vec<Action> {
    std::iter::from_fn(|| machine.poll_action()).collect()
}

fn requests(actions: &[Action]) -> Vec<Request> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Request { request, .. } => Some(request.clone()),
            _ => None,
        })
        .collect()
}

fn main_channel(state: ChannelState) -> ChannelView {
    ChannelView { id: MAIN.into(), name: "PJSIP/100-1".into(), state, ..ChannelView::default() }
}

fn wired(mode: Mode) -> Simulation {
    let mut sim = Simulation::new(mode, ChannelState::Ringing);
    sim.settle();
    assert_eq!(sim.count("leg.started"), 2);
    sim.log.clear();
    sim
}

/// Carry out what is asked with `fate` where `picks`, all else well, until there is nothing to carry out.
fn carry_out(sim: &mut Simulation, fate: Fate, picks: impl Fn(&Request) -> bool) {
    while let Some(picked) = sim.requests.values().next().map(&picks) {
        sim.carry_out(0, if picked { fate } else { Fate::Done });
        sim.enter(0);
        sim.enter(0);
        while !sim.asterisk.events.is_empty() {
            sim.tell(false);
        }
        while !sim.replies.is_empty() {
            sim.reply(0);
        }
        sim.attach(false);
    }
}

#[test]
fn a_tap_asks_for_everything_at_once_and_both_directions_start_together() {
    let mut sim = Simulation::new(Mode::Tap, ChannelState::Ringing);
    let first: Vec<_> = sim.requests.values().cloned().collect();
    assert_eq!(first.len(), 7, "two bridges, snoops, media channels and a subscription: {first:?}");
    sim.settle();
    let joins: Vec<usize> = ["media-in", "media-out", "snoop-in", "snoop-out"]
        .iter()
        .map(|name| {
            let is_join = |line: &String| {
                line.contains("-> Request")
                    && line.contains("AddChannel")
                    && line.contains(&format!("{name}\""))
            };
            sim.log.iter().position(is_join).unwrap()
        })
        .collect();
    assert!(joins[0].max(joins[1]) < joins[2].min(joins[3]), "media channels join first, then both snoops");
    assert_eq!(joins[2].abs_diff(joins[3]), 1, "the snoops join together");
    let let_go =
        sim.log.iter().position(|line| line.contains("-> Request") && line.contains("Continue")).unwrap();
    assert!(let_go > joins[3]);
    assert_eq!(sim.asterisk.continued, 1);
    assert_eq!(sim.machine.phase(), Phase::Live);
}

#[test]
fn the_hang_up_ends_the_media_and_removes_everything_in_order() {
    let mut sim = wired(Mode::Tap);
    sim.now = at(60_000);
    sim.asterisk.hang_up(MAIN, true);
    sim.settle();
    assert_eq!(sim.stopped, [MediaEnd::At(at(60_000))]);
    assert_eq!(sim.finished, Some((Outcome::Completed, vec![])));
    let removed: Vec<_> = sim.log.iter().filter(|line| line.contains("Delete")).cloned().collect();
    let roles = ["Media(Caller)", "Bridge(Caller)", "Media(Callee)", "Bridge(Callee)"];
    assert_eq!(removed.len(), roles.len(), "the snoops went by themselves: {removed:?}");
    assert!(removed.iter().zip(roles).all(|(line, role)| line.contains(role)));
}

#[test]
fn a_failed_attempt_lets_the_caller_go_and_is_made_once_more() {
    let mut sim = Simulation::new(Mode::Tap, ChannelState::Ringing);
    let first_media = |request: &Request| matches!(request, Request::ExternalMedia { id, .. } if id.role == Role::Media(Leg::Caller) && id.generation == 1);
    carry_out(&mut sim, Fate::ReplyLost, first_media);
    assert_eq!(sim.asterisk.continued, 1);
    sim.settle();
    assert_eq!((sim.count("leg.started"), sim.count("leg.failed")), (2, 0));
    assert!(
        !sim.asterisk.ours().contains(&"sidetone-n1-0190a5b2call-media-in".to_owned()),
        "may have been made: removed"
    );
}

#[test]
fn one_direction_is_better_than_none() {
    let mut sim = Simulation::new(Mode::Tap, ChannelState::Ringing);
    carry_out(
        &mut sim,
        Fate::Refused,
        |request| matches!(request, Request::ExternalMedia { id, .. } if id.role == Role::Media(Leg::Callee)),
    );
    sim.settle();
    assert_eq!((sim.count("leg.started"), sim.count("leg.failed")), (1, 1));
    assert_eq!(sim.asterisk.continued, 1);
    sim.asterisk.hang_up(MAIN, true);
    sim.settle();
    assert_eq!(sim.finished, Some((Outcome::Partial, vec![])));
}

#[test]
fn without_any_direction_the_call_goes_on_without_us() {
    for mode in [Mode::Tap, Mode::Answer] {
        let mut sim = Simulation::new(mode, ChannelState::Ringing);
        carry_out(&mut sim, Fate::Refused, |request| matches!(request, Request::Snoop { .. }));
        sim.settle();
        assert_eq!(sim.finished, Some((Outcome::Failed, vec![])));
        assert!(!sim.asterisk.channels[MAIN].in_app, "the dialplan has its channel back");
        assert_eq!(sim.asterisk.ours(), Vec::<String>::new());
    }
}

#[test]
fn nobody_waits_longer_than_the_patience() {
    let mut machine = CallMachine::new(config(Mode::Tap), main_channel(ChannelState::Ringing), at(0));
    drain(&mut machine);
    assert_eq!(machine.next_deadline(), Some(at(1_000)));
    machine.handle_timeout(at(1_000));
    assert_eq!(requests(&drain(&mut machine)), [Request::Continue { channel: MAIN.into() }]);
}

#[test]
fn a_stasis_start_may_overtake_the_reply() {
    let mut sim = Simulation::new(Mode::Tap, ChannelState::Ringing);
    for _ in 0..7 {
        sim.carry_out(0, Fate::Done);
    }
    for _ in 0..4 {
        sim.enter(0);
        sim.tell(false);
    }
    assert!(sim.requests.is_empty(), "without the reply nobody knows where the RTP will come from");
    sim.settle();
    assert_eq!(sim.count("leg.started"), 2);
}

#[test]
fn an_h_extension_does_not_lengthen_the_call() {
    let mut sim = wired(Mode::Tap);
    sim.now = at(60_000);
    sim.input(Input::Event(AriEvent::HangupRequested { channel: MAIN.into(), cause: Some(16) }));
    assert!(sim.stopped.is_empty());
    sim.wait(None);
    assert_eq!(sim.now, at(60_500));
    assert_eq!(sim.stopped, [MediaEnd::At(at(60_000))]);
}

#[test]
fn without_a_subscription_the_end_shows_in_the_snoops() {
    let mut sim = Simulation::new(Mode::Tap, ChannelState::Ringing);
    carry_out(&mut sim, Fate::Refused, |request| matches!(request, Request::Subscribe { .. }));
    sim.now = at(30_000);
    sim.asterisk.hang_up(MAIN, true);
    sim.settle();
    assert_eq!(sim.stopped, [MediaEnd::At(at(30_000))]);
    assert_eq!(sim.finished.as_ref().map(|(outcome, _)| *outcome), Some(Outcome::Completed));
}

#[test]
fn a_leg_that_breaks_is_built_anew_into_the_same_ring() {
    let mut sim = wired(Mode::Tap);
    sim.asterisk.hang_up("sidetone-n1-0190a5b2call-media-in", true);
    sim.settle();
    assert!(sim.asterisk.is_wired(Role::Snoop(Leg::Caller)));
    assert_eq!((sim.count("leg.interrupted"), sim.count("leg.started")), (1, 3));
    assert!(sim.log.iter().any(|line| line.contains("MoveMedia { leg: Caller")));
}

#[test]
fn a_channel_that_comes_again_is_let_go_again_and_not_tapped_twice() {
    let mut sim = wired(Mode::Tap);
    let had = sim.asterisk.ours();
    sim.asterisk.enter_again(MAIN);
    sim.settle();
    assert_eq!(sim.asterisk.continued, 2);
    assert_eq!(sim.asterisk.ours(), had);
}

#[test]
fn a_rejected_channel_is_let_go_at_once() {
    let mut machine = CallMachine::rejected(
        config(Mode::Tap),
        main_channel(ChannelState::Up),
        "unknown mode `x`".into(),
        at(0),
    );
    let actions = drain(&mut machine);
    assert_eq!(requests(&actions), [Request::Continue { channel: MAIN.into() }]);
    assert!(matches!(actions.last(), Some(Action::Emit(CallEvent::Rejected { .. }))));
    machine.handle(at(1), Input::Reply { op: OpId(1), reply: Reply::Done });
    assert_eq!(drain(&mut machine), [Action::Finished { outcome: Outcome::Rejected, left_behind: vec![] }]);
    assert_eq!(machine.next_deadline(), None);
}

#[test]
fn an_answered_call_is_answered_when_it_can_be_heard_and_put_into_its_bridge() {
    let mut sim = wired(Mode::Answer);
    assert_eq!(sim.count("call.answered"), 1);
    assert_eq!(sim.asterisk.continued, 0);
    assert!(sim.asterisk.bridges["sidetone-n1-0190a5b2call-bridge-main"].contains(MAIN));
    sim.input(Input::Command(Command::Hangup));
    sim.settle();
    assert_eq!(sim.finished, Some((Outcome::Completed, vec![])));
    assert_eq!(sim.asterisk.ours(), Vec::<String>::new());
}

#[test]
fn a_voice_that_breaks_is_made_anew_under_another_id() {
    let mut sim = wired(Mode::Answer);
    sim.asterisk.hang_up("sidetone-n1-0190a5b2call-media-main", true);
    assert!(!sim.asterisk.is_spoken_to(MAIN));
    sim.settle();
    assert!(sim.asterisk.is_spoken_to(MAIN) && sim.machine.voice_is_heard());
    assert!(sim.asterisk.ours().contains(&"sidetone-n1-0190a5b2call-media-main-2".to_owned()));
    assert_eq!(sim.count("leg.interrupted"), 0, "the legs are none the worse");
}

#[test]
fn a_voice_moves_into_another_main_bridge() {
    let mut sim = wired(Mode::Answer);
    sim.asterisk.destroy_bridge("sidetone-n1-0190a5b2call-bridge-main");
    sim.settle();
    assert!(sim.asterisk.bridges["sidetone-n1-0190a5b2call-bridge-main-2"].contains(MAIN));
    assert!(sim.asterisk.is_spoken_to(MAIN) && sim.machine.voice_is_heard());
}

#[test]
fn a_call_without_a_voice_is_heard_all_the_same() {
    let mut sim = Simulation::new(Mode::Answer, ChannelState::Ringing);
    carry_out(
        &mut sim,
        Fate::Refused,
        |request| matches!(request, Request::ExternalMedia { id, .. } if id.role == Role::MainMedia),
    );
    sim.settle();
    assert!(sim.voice_failed && !sim.machine.voice_is_heard());
    assert_eq!((sim.count("leg.started"), sim.count("call.answered")), (2, 1));
    sim.asterisk.hang_up(MAIN, true);
    sim.settle();
    assert_eq!(sim.finished, Some((Outcome::Completed, vec![])));
}

#[test]
fn after_kill_9_the_voice_is_made_anew_and_the_old_one_removed() {
    let mut sim = wired(Mode::Answer);
    sim.restart();
    assert!(!sim.machine.voice_is_heard());
    sim.settle();
    assert!(sim.asterisk.is_spoken_to(MAIN) && sim.machine.voice_is_heard());
    let voices = sim.asterisk.ours().into_iter().filter(|id| id.contains("media-main"));
    assert_eq!(voices.collect::<Vec<_>>(), ["sidetone-n1-0190a5b2call-media-main-2"]);
}

#[test]
fn a_released_call_goes_on_without_us() {
    for mode in [Mode::Tap, Mode::Answer] {
        let mut sim = wired(mode);
        sim.input(Input::Command(Command::Release));
        sim.settle();
        assert_eq!(sim.finished, Some((Outcome::Released, vec![])));
        assert!(sim.asterisk.channels.contains_key(MAIN) && !sim.asterisk.channels[MAIN].in_app);
    }
}

#[test]
fn what_cannot_be_removed_is_left_to_the_sweep() {
    let mut sim = wired(Mode::Tap);
    sim.asterisk.hang_up(MAIN, true);
    for _ in 0..400 {
        if sim.finished.is_some() {
            break;
        }
        carry_out(&mut sim, Fate::Lost, |request| matches!(request, Request::Delete { .. }));
        sim.tell(false);
        sim.wait(Some(Duration::from_secs(1)));
    }
    let (_, left_behind) = sim.finished.clone().unwrap();
    let mut left: Vec<_> = left_behind.iter().map(ToString::to_string).collect();
    let mut ours = sim.asterisk.ours();
    left.sort();
    ours.sort();
    assert_eq!(left, ours);
}

#[test]
fn a_lost_connection_changes_nothing_but_the_subscription() {
    let mut sim = wired(Mode::Tap);
    sim.disconnect();
    assert_eq!(sim.machine.next_deadline(), None);
    sim.reconnect();
    let asked: Vec<_> = sim.requests.values().cloned().collect();
    assert_eq!(asked, [Request::Subscribe { channel: MAIN.into() }]);
}

#[test]
fn a_call_that_ended_unseen_ends_with_its_last_packet() {
    let mut sim = wired(Mode::Tap);
    sim.disconnect();
    sim.asterisk.hang_up(MAIN, true);
    sim.settle();
    assert_eq!(sim.stopped, [MediaEnd::LastPacket]);
    assert_eq!(sim.finished, Some((Outcome::Completed, vec![])));
    assert_eq!(sim.asterisk.ours(), Vec::<String>::new());
}

#[test]
fn after_kill_9_a_wired_call_goes_on_untouched() {
    let mut sim = wired(Mode::Tap);
    sim.restart();
    assert!(sim.machine.wired_sources().iter().all(Option::is_some));
    let asked: Vec<_> = sim.requests.values().cloned().collect();
    assert_eq!(asked, [Request::Subscribe { channel: MAIN.into() }]);
    sim.asterisk.hang_up(MAIN, true);
    sim.settle();
    assert_eq!(sim.asterisk.ours(), Vec::<String>::new());
}

#[test]
fn after_kill_9_a_held_channel_is_let_go() {
    let mut sim = Simulation::new(Mode::Tap, ChannelState::Ringing);
    sim.restart();
    carry_out(&mut sim, Fate::Done, |_| true);
    assert_eq!(
        (sim.asterisk.continued, sim.now),
        (1, at(0)),
        "after the subscription, before anything has to wait"
    );
}

#[test]
fn a_key_of_the_caller_is_passed_on() {
    let mut sim = wired(Mode::Tap);
    sim.input(Input::Event(AriEvent::Dtmf { channel: MAIN.into(), digit: '5', duration_ms: 120 }));
    assert_eq!(sim.events.last(), Some(&CallEvent::Dtmf { digit: '5', duration_ms: 120 }));
    assert_eq!(sim.events.last().map(|event| event.body()["digit"].clone()), Some("5".into()));
}

#[test]
fn what_is_made_after_it_was_given_up_is_removed_again() {
    let media = |request: &Request| matches!(request, Request::ExternalMedia { id, .. } if id.role == Role::Media(Leg::Caller));
    let mut machine = CallMachine::new(config(Mode::Tap), main_channel(ChannelState::Ringing), at(0));
    let ops: Vec<_> = drain(&mut machine)
        .into_iter()
        .filter_map(|action| match action {
            Action::Request { op, request } => Some((op, media(&request))),
            _ => None,
        })
        .collect();
    let (slow, _) = *ops.iter().find(|(_, is_media)| *is_media).unwrap();
    // DELETEs of the caller's first media channel; each DELETE is answered with 404.
    let removals = |machine: &mut CallMachine, now: u64| {
        let mut removals = 0;
        while let Some(action) = machine.poll_action() {
            if let Action::Request { op, request: Request::Delete { id } } = action {
                removals += usize::from(id.role == Role::Media(Leg::Caller) && id.generation == 1);
                machine.handle(at(now), Input::Reply { op, reply: Reply::NotFound });
            }
        }
        removals
    };
    machine.handle_timeout(at(2_500));
    assert_eq!(removals(&mut machine, 2_500), 0, "it may yet be made");
    machine.handle_timeout(at(6_000));
    assert_eq!(removals(&mut machine, 6_000), 1);
    let source = MediaSource::Rtp(([127, 0, 0, 1], 20_000).into());
    machine.handle(at(6_001), Input::Reply { op: slow, reply: Reply::Media { source } });
    assert_eq!(removals(&mut machine, 6_001), 1, "the late reply says that it is there after all");
    let late = ChannelView { id: "sidetone-n1-0190a5b2call-media-in".into(), ..ChannelView::default() };
    machine.handle(at(6_002), Input::Event(AriEvent::StasisStart { channel: late, replaces: None }));
    assert_eq!(removals(&mut machine, 6_002), 1, "and so does a late StasisStart");
}

#[test]
fn a_leg_of_which_nothing_is_heard_makes_the_outcome_partial_and_both_make_it_failed() {
    let outcome_with = |inputs: &[Input]| {
        let mut sim = wired(Mode::Tap);
        inputs.iter().for_each(|input| sim.input(input.clone()));
        sim.asterisk.hang_up(MAIN, true);
        sim.settle();
        sim.finished.map(|(outcome, _)| outcome)
    };
    let [heard, unheard] = [|leg| Input::MediaHeard { leg }, |leg| Input::MediaUnheard { leg }];
    let (caller, callee) = (Leg::Caller, Leg::Callee);
    assert_eq!(outcome_with(&[]), Some(Outcome::Completed), "hung up before anything could come");
    assert_eq!(outcome_with(&[heard(caller), unheard(callee)]), Some(Outcome::Partial));
    assert_eq!(outcome_with(&[unheard(caller), unheard(callee)]), Some(Outcome::Failed));
    assert_eq!(outcome_with(&[heard(caller), unheard(callee), heard(callee)]), Some(Outcome::Completed));
    // Before a restart it was heard.
    let after = [heard(caller), heard(callee), unheard(caller), unheard(callee)];
    assert_eq!(outcome_with(&after), Some(Outcome::Partial));
}

#[test]
fn an_adopted_leg_that_cannot_be_received_is_made_anew() {
    let mut sim = wired(Mode::Tap);
    sim.restart();
    sim.settle();
    (sim.log, sim.events) = (vec![], vec![]);
    sim.refuse_what_was_wired(Leg::Caller);
    sim.settle();
    assert_eq!((sim.count("leg.interrupted"), sim.count("leg.started")), (1, 1), "{:#?}", sim.log);
    assert!(sim.log.iter().any(|line| line.contains("AttachMedia")), "{:#?}", sim.log);
    sim.asterisk.hang_up(MAIN, true);
    sim.settle();
    assert_eq!(sim.finished, Some((Outcome::Completed, vec![])));
}
