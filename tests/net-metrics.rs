//! What the RTP plane tells the metrics. Alone in its process, since the recorder is the process's.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use sidetone::clock;
use sidetone::net::plane::{PlaneConfig, RtpPlane};
use sidetone::telemetry::metric;

mod net_support;
use net_support::{RtpSender, receiver};

#[tokio::test]
async fn packets_are_counted_once_while_a_leg_lasts_and_at_its_end() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    metrics::set_global_recorder(recorder).unwrap();
    metric::describe();
    let value = |name: &str| -> Option<f64> {
        page.render().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    };

    let bind = "127.0.0.1:0".parse().unwrap();
    let plane =
        RtpPlane::start(PlaneConfig { receive_buffer: 1 << 20, ..PlaneConfig::new(bind, 1) }).unwrap();
    let seat = plane.seat();
    let (mut sender, mut stranger) = (RtpSender::new(seat.port()), RtpSender::new(seat.port()));
    let leg = seat.attach(sender.address(), receiver().into(), Arc::new(|_| ())).unwrap();
    for _ in 0..80 {
        sender.send();
        stranger.send();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sender.send_bytes(b"not RTP");
    // Once a second while it lasts: most of it by now.
    assert!(value("sidetone_rtp_packets_received_total").is_some_and(|n| (25.0..80.0).contains(&n)));
    leg.finish(clock::now()).await;
    plane.shutdown();
    assert_eq!(value("sidetone_rtp_packets_received_total"), Some(80.0));
    assert_eq!(value("sidetone_rtp_packets_lost_total"), Some(0.0));
    assert_eq!(value("sidetone_rtp_packets_invalid_total"), Some(1.0));
    assert_eq!(value("sidetone_rtp_packets_unroutable_total"), Some(80.0));
    assert_eq!(value("sidetone_leg_mos_count"), Some(1.0));
    assert_eq!(value("sidetone_leg_jitter_seconds_count"), Some(1.0));
}
