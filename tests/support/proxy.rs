//! A wire that can be cut or go dead between a server and its Asterisk.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Passing,
    Frozen,
    /// Connections made before this generation end.
    Cut(u64),
}

/// Passes TCP on to one address. Dropping it closes everything.
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    acceptor: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// To the host and port of `url`.
    pub async fn to(url: &str) -> Proxy {
        let target: SocketAddr = url.trim_start_matches("http://").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (state, watching) = watch::channel(State::Passing);
        let acceptor = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, target, watching.clone()));
            }
        });
        Proxy { address, state, acceptor }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Close every connection; new ones pass.
    pub async fn cut(&self) {
        self.state.send_modify(|state| {
            *state = match *state {
                State::Cut(n) => State::Cut(n + 1),
                _ => State::Cut(1),
            };
        });
    }

    /// Keep every connection open and let nothing through.
    pub fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    /// Pass on what comes from now on, and what was held.
    pub fn thaw(&self) {
        self.state.send_replace(State::Passing);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn pass(client: TcpStream, target: SocketAddr, mut state: watch::Receiver<State>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let born = *state.borrow_and_update();
    tokio::select! {
        () = pump(client_read, server_write, state.clone()) => {}
        () = pump(server_read, client_write, state.clone()) => {}
        () = async {
            while state.changed().await.is_ok() {
                let now = *state.borrow();
                if matches!(now, State::Cut(_)) && now != born {
                    return;
                }
            }
        } => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if state.wait_for(|s| *s != State::Frozen).await.is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}
