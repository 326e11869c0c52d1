//! Named cases.

use sidetone::calls::machine::*;
use sidetone::calls::mode::Mode;

use crate::simulation::Simulation;

#[test]
fn a_tap_goes_by_the_book() {
    let mut sim = Simulation::new(Mode::Tap, ChannelState::Ringing);
    sim.settle();
    assert_eq!(sim.asterisk.continued, 1);
    assert_eq!(sim.count("leg.started"), 2);
}
