use super::*;

const END: u8 = 0x80;

#[derive(Default)]
struct Line {
    events: TelephoneEvents,
    pressed: Vec<(char, u32)>,
}

impl Line {
    fn packet(&mut self, ms: u64, timestamp: u32, event: u8, flags: u8, duration: u16) {
        let [high, low] = duration.to_be_bytes();
        let at = MediaInstant::from_nanos(ms * 1_000_000);
        let pressed = &mut self.pressed;
        self.events.on_packet(
            Ssrc(7),
            RtpTimestamp(timestamp),
            &[event, flags | 10, high, low],
            at,
            |press| pressed.push((press.digit, press.duration_ms)),
        );
    }

    fn wait_until(&mut self, ms: u64) {
        let pressed = &mut self.pressed;
        self.events.on_deadline(MediaInstant::from_nanos(ms * 1_000_000), |press| {
            pressed.push((press.digit, press.duration_ms))
        });
    }
}

#[test]
fn three_ends_are_one_press() {
    let mut line = Line::default();
    line.packet(0, 1_000, 5, 0, 160);
    line.packet(20, 1_000, 5, 0, 320);
    for _ in 0..3 {
        line.packet(40, 1_000, 5, END, 480);
    }
    line.packet(50, 1_000, 5, 0, 320);
    assert_eq!(line.pressed, [('5', 60)]);
    assert_eq!(line.events.deadline(), None);
}

#[test]
fn only_the_end_arrives() {
    let mut line = Line::default();
    line.packet(40, 1_000, 11, END, 800);
    assert_eq!(line.pressed, [('#', 100)]);
}

#[test]
fn a_lost_end_times_out_150_ms_after_the_last_packet() {
    let mut line = Line::default();
    line.packet(0, 1_000, 10, 0, 160);
    line.packet(20, 1_000, 10, 0, 320);
    line.wait_until(169);
    assert_eq!(line.pressed, []);
    line.wait_until(170);
    assert_eq!(line.pressed, [('*', 40)]);
    line.packet(180, 1_000, 10, END, 480);
    assert_eq!(line.pressed.len(), 1);
}

#[test]
fn a_lost_end_is_told_by_the_next_press() {
    let mut line = Line::default();
    line.packet(0, 1_000, 1, 0, 400);
    line.packet(100, 1_900, 1, 0, 160);
    line.packet(120, 1_000, 1, END, 480);
    line.packet(140, 1_900, 1, END, 320);
    assert_eq!(line.pressed, [('1', 50), ('1', 40)]);
}

#[test]
fn a_press_longer_than_the_field_is_one_press() {
    let mut in_segments = Line::default();
    in_segments.packet(0, 0, 3, 0, 0xffff);
    in_segments.packet(8_200, 0xffff, 3, 0, 160);
    in_segments.packet(8_220, 0xffff, 3, END, 801);
    assert_eq!(in_segments.pressed, [('3', (0xffff + 801) / 8)]);

    let mut wrapping = Line::default();
    wrapping.packet(0, 0, 3, 0, 0xfff0);
    wrapping.packet(20, 0, 3, END, 0x0090);
    assert_eq!(wrapping.pressed, [('3', 0x1_0090 / 8)]);
}

#[test]
fn events_that_are_no_keys_are_ignored() {
    let mut line = Line::default();
    line.packet(0, 0, 16, END, 800);
    assert_eq!(line.pressed, []);
}

#[test]
fn timestamps_wrap_between_presses() {
    let mut line = Line::default();
    line.packet(0, u32::MAX - 100, 1, END, 800);
    line.packet(500, 3_900, 2, END, 800);
    assert_eq!(line.pressed, [('1', 100), ('2', 100)]);
}
