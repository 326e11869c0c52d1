//! The ports that a server takes: free, taken by a Sidetone that runs, or by a stranger.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use super::{Findings, Verdict};
use crate::config::Settings;
use crate::net::plane::{PlaneConfig, RtpPlane};

/// A server at hand that does not answer within this time is none of ours.
const ANSWER: Duration = Duration::from_secs(2);

pub(super) async fn look(settings: &Settings, findings: &mut Findings) {
    let bind = settings.http.bind;
    let taken = match TcpListener::bind(bind) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(true),
        Err(error) => Err(error),
    };
    match taken {
        Ok(true) if answers(bind).await => {
            // The RTP ports are its own, then.
            let message = format!("http.bind = {bind}: a Sidetone answers there");
            return findings.add("http port", Verdict::Good, message);
        }
        Ok(true) => findings.add(
            "http port",
            Verdict::Bad,
            format!(
                "http.bind = {bind} is in use, not by a Sidetone: choose another port, or stop the process that has it \
                 (`ss -tlpn 'sport = :{}'` shows it)",
                bind.port()
            ),
        ),
        Ok(false) => findings.add("http port", Verdict::Good, format!("http.bind = {bind} is free")),
        Err(error) => findings.add("http port", Verdict::Bad, format!("http.bind = {bind}: {error}")),
    }
    findings.result("rtp ports", free_rtp(settings));
}

/// Taken as the server takes them, and let go again.
fn free_rtp(settings: &Settings) -> Result<String, String> {
    let (bind, shards) = (settings.rtp.bind, settings.rtp.shards);
    let receive_buffer = settings.receive_buffer();
    RtpPlane::start(PlaneConfig { receive_buffer, ..PlaneConfig::new(bind, shards) })
        .map_err(|error| error.to_string())?;
    Ok(format!("rtp.bind = {bind} is free, for {shards} of rtp.shards"))
}

async fn answers(bind: SocketAddr) -> bool {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let url = format!("http://{}/health", SocketAddr::new(ip, bind.port()));
    let asked = async {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
        client.get(url).send().await?.json::<serde_json::Value>().await
    };
    let health = tokio::time::timeout(ANSWER, asked).await;
    health.is_ok_and(|reply| reply.is_ok_and(|health| health["service"] == "sidetone"))
}
