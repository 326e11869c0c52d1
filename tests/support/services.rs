//! PostgreSQL, RabbitMQ and Redis as users run them: Debian's programs, as private instances in a folder of their own, on ports that are free.

use std::fs::{self, File, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// On a machine that is busy with everything else.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

fn free_port() -> u16 {
    super::server::free_tcp().port()
}

fn until(what: &str, mut good: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !good() {
        assert!(begun.elapsed() < STARTS_WITHIN, "{what} did not start");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn listens(port: u16) -> bool {
    TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_ok()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn log(folder: &Path, name: &str) -> (Stdio, Stdio) {
    let file = File::create(folder.join(name)).unwrap();
    (file.try_clone().unwrap().into(), file.into())
}

/// A certificate for 127.0.0.1, its key, or the authority that signed it (tests/fixtures/tls).
pub fn tls(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

/// A PostgreSQL with an empty database.
pub struct Postgres {
    folder: TempDir,
    bin: PathBuf,
    port: u16,
    is_secure: bool,
    child: Option<Child>,
}

impl Postgres {
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// With TLS, besides.
    pub fn start_secure() -> Self {
        Self::start_with(true)
    }

    fn start_with(is_secure: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed by scripts/setup");
        let mut versions: Vec<PathBuf> = programs.map(|entry| entry.unwrap().path().join("bin")).collect();
        versions.sort();
        let bin = versions.pop().unwrap();
        if is_root() {
            let given = Command::new("chown").arg("postgres").arg(folder.path()).status().unwrap();
            assert!(given.success());
        }
        let mut server = Self { folder, bin, port: free_port(), is_secure, child: None };
        let made = server
            .program("initdb")
            .arg("-D")
            .arg(server.folder.path().join("data"))
            .args(["-U", "app", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        if is_secure {
            let data = server.folder.path().join("data");
            for name in ["server.pem", "server.key"] {
                fs::copy(tls(name), data.join(name)).unwrap();
            }
            // It takes no key that others can read.
            fs::set_permissions(data.join("server.key"), Permissions::from_mode(0o600)).unwrap();
            if is_root() {
                let given = Command::new("chown").arg("-R").arg("postgres").arg(&data).status().unwrap();
                assert!(given.success());
            }
        }
        server.run();
        server
    }

    /// It refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let program = self.bin.join(name);
        let mut command = Command::new(if is_root() { PathBuf::from("setpriv") } else { program.clone() });
        if is_root() {
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
        }
        command.current_dir("/");
        command
    }

    /// Start it, with what it kept.
    pub fn run(&mut self) {
        let (folder, port) = (self.folder.path(), self.port.to_string());
        let (out, err) = log(folder, "postgres.log");
        let child = self
            .program("postgres")
            .arg("-D")
            .arg(folder.join("data"))
            .args(["-p", &port, "-c", "listen_addresses=127.0.0.1", "-c"])
            .arg(format!("unix_socket_directories={}", folder.display()))
            .args(["-c", "fsync=off"])
            .args(["-c", if self.is_secure { "ssl=on" } else { "ssl=off" }])
            .args(["-c", "ssl_cert_file=server.pem", "-c", "ssl_key_file=server.key"])
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap();
        self.child = Some(child);
        until("PostgreSQL", || {
            let ready = self.program("pg_isready").args(["-q", "-h", "127.0.0.1", "-p", &port]).status();
            ready.unwrap().success()
        });
    }

    /// End it at once, and its connections with it.
    pub fn stop(&mut self) {
        // A signal to the first process ends the others at once.
        let pid = fs::read_to_string(self.folder.path().join("data/postmaster.pid")).unwrap_or_default();
        if let Some(pid) = pid.lines().next() {
            let _ = Command::new("kill").args(["-QUIT", pid]).status();
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// Of a new, empty database.
    pub fn url(&self) -> String {
        let name = format!("test{}", uuid::Uuid::now_v7().simple());
        self.ask(&format!("CREATE DATABASE {name}"));
        format!("postgres://app:secret@127.0.0.1:{}/{name}", self.port)
    }

    /// What the server answers.
    pub fn ask(&self, statement: &str) -> String {
        let made = Command::new("psql")
            .args([
                "-qAt",
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                "app",
                "-d",
                "postgres",
                "-c",
            ])
            .arg(statement)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8_lossy(&made.stdout).into_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A RabbitMQ.
pub struct RabbitMq {
    folder: TempDir,
    port: u16,
    dist: u16,
    epmd: u16,
    /// Where it listens with TLS, besides.
    secure: Option<u16>,
    child: Option<Child>,
}

impl RabbitMq {
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// With TLS, besides.
    pub fn start_secure() -> Self {
        Self::start_with(true)
    }

    fn start_with(is_secure: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["mnesia", "log", "home"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("enabled_plugins"), "[].\n").unwrap();
        fs::write(
            folder.path().join("rabbitmq.conf"),
            "loopback_users.guest = true\nlog.console = false\nvm_memory_high_watermark.absolute = 512MiB\n\
             disk_free_limit.absolute = 50MB\n",
        )
        .unwrap();
        let secure = is_secure.then(free_port);
        if let Some(port) = secure {
            let (ca, certificate, key) = (tls("ca.pem"), tls("server.pem"), tls("server.key"));
            let lines = format!(
                "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
                 ssl_options.keyfile = {}\nssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false\n",
                ca.display(),
                certificate.display(),
                key.display()
            );
            let file = folder.path().join("rabbitmq.conf");
            let text = fs::read_to_string(&file).unwrap() + &lines;
            fs::write(file, text).unwrap();
        }
        let mut broker = Self { folder, port: 0, dist: 0, epmd: 0, secure, child: None };
        // A port that was free a moment ago may be somebody else's by now: then it ends at once.
        for _ in 0..5 {
            (broker.port, broker.dist, broker.epmd) = (free_port(), free_port(), free_port());
            if broker.launch() {
                return broker;
            }
        }
        panic!("RabbitMQ does not start:\n{}", broker.said());
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("broker.log")).unwrap_or_default()
    }

    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// The same by TLS.
    pub fn secure_url(&self) -> String {
        format!("amqps://guest:guest@127.0.0.1:{}/%2f", self.secure.expect("a broker with TLS"))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Start it, with what it kept.
    pub fn run(&mut self) {
        assert!(self.launch(), "RabbitMQ does not start again:\n{}", self.said());
    }

    /// Says whether it listens; else it has ended.
    fn launch(&mut self) -> bool {
        let at = |name: &str| self.folder.path().join(name);
        let (out, err) = log(self.folder.path(), "broker.log");
        let child = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server")
            .env("HOME", at("home"))
            .env("RABBITMQ_NODENAME", format!("test{}@localhost", self.port))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.dist.to_string())
            .env("ERL_EPMD_PORT", self.epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_MNESIA_BASE", at("mnesia"))
            .env("RABBITMQ_LOG_BASE", at("log"))
            .env("RABBITMQ_PID_FILE", at("pid"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins"))
            .env("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 -kernel inet_dist_use_interface {127,0,0,1}")
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("RabbitMQ is installed by scripts/setup");
        let child = self.child.insert(child);
        let (port, secure, mut has_ended) = (self.port, self.secure, false);
        until("RabbitMQ", || {
            has_ended = child.try_wait().unwrap().is_some();
            has_ended || listens(port) && secure.is_none_or(listens)
        });
        !has_ended
    }

    /// As by a power cut: nothing is put in order.
    pub fn kill(&mut self) {
        self.signal("-KILL");
    }

    fn signal(&mut self, signal: &str) {
        let pid = fs::read_to_string(self.folder.path().join("pid")).unwrap_or_default();
        let _ = Command::new("kill").args([signal, pid.trim()]).status();
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
        let port = self.port;
        until("the end of RabbitMQ", || !listens(port));
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.signal("-KILL");
        // It outlives the broker.
        let _ = Command::new("epmd")
            .args(["-port", &self.epmd.to_string(), "-kill"])
            .stdout(Stdio::null())
            .status();
    }
}

/// A Redis that keeps nothing on the disk.
pub struct Redis {
    folder: TempDir,
    port: u16,
    secure: u16,
    child: Child,
}

impl Redis {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, secure) = (free_port(), free_port());
        let child = Self::launch(&folder, port, secure);
        Self { folder, port, secure, child }
    }

    fn launch(folder: &TempDir, port: u16, secure: u16) -> Child {
        let (out, err) = log(folder.path(), "redis.log");
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--tls-port", &secure.to_string(), "--tls-auth-clients", "no"])
            .arg("--tls-cert-file")
            .arg(tls("server.pem"))
            .arg("--tls-key-file")
            .arg(tls("server.key"))
            .arg("--tls-ca-cert-file")
            .arg(tls("ca.pem"))
            .arg("--dir")
            .arg(folder.path())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("Redis is installed by scripts/setup");
        until("Redis", || listens(port) && listens(secure));
        child
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// The same by TLS.
    pub fn secure_url(&self) -> String {
        format!("rediss://127.0.0.1:{}/", self.secure)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What `redis-cli` prints.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let said = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(arguments).output();
        String::from_utf8_lossy(&said.expect("redis-cli comes with Redis").stdout).into_owned()
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Start it again, empty.
    pub fn run(&mut self) {
        self.child = Self::launch(&self.folder, self.port, self.secure);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
