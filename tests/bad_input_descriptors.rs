//! A hub in a process with few file descriptors. Peers leave a part of them to the program; and where the program has
//! taken them all, the listener meets `EMFILE`. Each in a process of its own.
#![cfg(target_os = "linux")]

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines, Read, Seek, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::log::Log;
use crate::support::peer::{Peer, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stepcast::{Hub, Limits, Timeouts};

const CHILD: &str = "STEPCAST_TEST_FEW_DESCRIPTORS";

/// One warning is that there are too few descriptors for the limits. And the hub says once that it cannot
/// accept, each time that this begins.
fn log_of_warnings() -> Log {
    let log = Log::warnings();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    log
}

fn until_warned(log: &Log, times: usize) {
    until("the hub to have tried, and failed", || log.count("") == times);
}

/// Takes all descriptors but as many.
fn hoard(but: usize) -> Vec<File> {
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    files.truncate(files.len() - but);
    files
}

/// Where the system says how much processor time the hub's thread has taken.
fn stat_of_hub() -> File {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let mut stats = tasks.map(|task| task.unwrap().path().join("stat"));
    let path = stats.find(|path| fs::read_to_string(path).unwrap().contains("(stepcast)"));
    File::open(path.unwrap()).unwrap()
}

/// That time in hundredths of a second, without another descriptor.
fn time_taken(mut stat: &File) -> u64 {
    let mut text = String::new();
    stat.rewind().unwrap();
    stat.read_to_string(&mut text).unwrap();
    let fields: Vec<_> = text.split(' ').collect();
    fields[13].parse::<u64>().unwrap() + fields[14].parse::<u64>().unwrap()
}

fn out_of_descriptors() {
    let warnings = log_of_warnings();
    let limits = Limits::default().clients(6).handshakes(6); // for which there are enough
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();

    // Nobody is connected, so nothing but its own clock makes the hub try again.
    let files = hoard(1);
    let waiting = TcpStream::connect(address).unwrap();
    until_warned(&warnings, 1);
    drop(files);
    let mut first = Peer::upgrade(waiting, address);

    // Those connected are served meanwhile, and the hub does not spin.
    let stat = stat_of_hub();
    let files = hoard(1);
    let waiting = TcpStream::connect(address).unwrap();
    until_warned(&warnings, 2);
    let before = time_taken(&stat);
    for _ in 0..10 {
        hub.broadcast("goes on");
        assert_eq!(first.text(), "goes on");
        thread::sleep(Duration::from_millis(50)); // half a second in which it has little to do
        assert_eq!(warnings.count(""), 2, "it says so once");
    }
    let taken = time_taken(&stat) - before;
    assert!(taken < 20, "{taken} hundredths of a second");
    drop(files);
    let mut second = Peer::upgrade(waiting, address);
    hub.broadcast("all in");
    assert_eq!((first.text(), second.text()), ("all in".into(), "all in".into()));
}

#[test]
fn out_of_descriptors_the_hub_serves_whom_it_has_does_not_spin_and_accepts_again_later() {
    if std::env::var_os(CHILD).is_some() {
        return out_of_descriptors();
    }
    let name =
        "out_of_descriptors_the_hub_serves_whom_it_has_does_not_spin_and_accepts_again_later";
    assert!(few_descriptors(48, name).status().unwrap().success());
}

/// A process with so many descriptors, which it may raise, that is this test.
fn few_descriptors(count: usize, test: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!(r#"ulimit -Sn {count}; exec "$0" "$@""#)])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1");
    command
}

/// What the limit of 1024 leaves for clients: of three quarters for all connections three quarters.
const CLIENTS: usize = 576;

/// A program with two hubs, which does what it is told on its standard input, line by line, and says so.
fn program() {
    let warnings = log_of_warnings();
    let long = Duration::from_secs(600); // peers do not answer pings while they wait for others
    let builder = Hub::builder().timeouts(Timeouts::default().keepalive(long).handshake(long));
    let hub = builder.clone().spawn_blocking("127.0.0.1:0").unwrap();
    assert_eq!(warnings.count(""), 1, "the default limits do not fit");
    let limits = Limits::default().clients(40).handshakes(20);
    let other = builder.limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    assert_eq!(warnings.count(""), 1, "these limits fit");

    println!("\nhubs {} {}", hub.local_addr().unwrap(), other.local_addr().unwrap());
    for line in std::io::stdin().lines() {
        match line.unwrap().as_str() {
            "checkpoint" => {
                let files: Vec<_> = (0..200).map(|_| File::open("/dev/null")).collect();
                let failed = files.iter().filter(|file| file.is_err()).count();
                println!("checkpoint {failed}");
            }
            "stats" => {
                let (stats, others) = (hub.stats(), other.stats());
                let (clients, most) = (stats.clients, stats.most_clients);
                println!("stats {clients} {most} {} {}", others.clients, others.most_clients);
            }
            "raise" => {
                let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
                setrlimit(Resource::Nofile, Rlimit { current: Some(1200), maximum }).unwrap();
                println!("raise");
            }
            "broadcast" => {
                hub.broadcast("to all");
                println!("broadcast");
            }
            other => panic!("{other}"),
        }
    }
}

/// That program, seen from outside.
struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(test: &str) -> Self {
        let mut command = few_descriptors(1024, test);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdin, stdout }
    }

    /// What the program says after this word.
    fn says(&mut self, word: &str) -> String {
        let mut lines = self.stdout.by_ref().map(Result::unwrap);
        let said = lines.find_map(|line| Some(line.strip_prefix(word)?.trim().to_owned()));
        said.unwrap_or_else(|| panic!("expected a line with {word}"))
    }

    fn tell(&mut self, word: &str) -> String {
        writeln!(self.stdin.as_ref().unwrap(), "{word}").unwrap();
        self.says(word)
    }

    fn ends(mut self) {
        drop(self.stdin.take());
        self.stdout.by_ref().for_each(drop);
        assert!(self.child.wait().unwrap().success());
    }
}

/// Those who get in, of so many who come.
fn come(count: usize, address: SocketAddr) -> Vec<Peer> {
    let mut peers = Vec::new();
    for _ in 0..count {
        match Peer::try_upgrade_at(TcpStream::connect(address).unwrap(), address, "/") {
            Ok(peer) => peers.push(peer),
            Err(error) => assert!(error.to_string().contains("503"), "{error}"),
        }
    }
    peers
}

#[test]
fn peers_leave_the_program_a_part_of_its_descriptors_whatever_its_limits_are_and_its_hubs_share() {
    if std::env::var_os(CHILD).is_some() {
        return program();
    }
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let mut program = Program::start(
        "peers_leave_the_program_a_part_of_its_descriptors_whatever_its_limits_are_and_its_hubs_share",
    );
    let hubs = program.says("hubs");
    let hubs: Vec<SocketAddr> = hubs.split(' ').map(|hub| hub.parse().unwrap()).collect();

    // Who says nothing.
    let idle: Vec<_> = (0..1100).map(|_| TcpStream::connect(hubs[0]).unwrap()).collect();
    let mut peers = come(1, hubs[0]); // accepted after all of them
    assert_eq!(program.tell("checkpoint"), "0");

    // Clients.
    peers.extend(come(1100, hubs[0]));
    assert_eq!(peers.len(), CLIENTS);
    assert_eq!(program.tell("checkpoint"), "0");
    let stats = |program: &mut Program| {
        let numbers = program.tell("stats");
        numbers.split(' ').map(|number| number.parse().unwrap()).collect::<Vec<usize>>()
    };
    assert_eq!(stats(&mut program)[..2], [CLIENTS; 2]);
    program.tell("broadcast");
    assert!(peers.iter_mut().all(|peer| peer.text() == "to all"));

    // Those who have left make room at the other hub; and those who come here then take it again.
    drop(idle);
    until("another hub of the process to have room", || stats(&mut program)[3] == 40);
    let mut others = come(30, hubs[1]);
    let idle: Vec<_> = (0..400).map(|_| TcpStream::connect(hubs[0]).unwrap()).collect();
    assert_eq!(come(1, hubs[0]).len(), 0); // who is answered after all of them are accepted
    until("another hub to have no room", || stats(&mut program)[3] < 30);
    assert_eq!((others.len(), come(5, hubs[1]).len()), (30, 0));
    assert_eq!(program.tell("checkpoint"), "0");
    drop(idle);
    until("another hub to have room again", || stats(&mut program)[3] == 40);
    others.extend(come(20, hubs[1]));
    assert_eq!(others.len(), 40);

    // A program that raises its limit.
    program.tell("raise");
    until("the hub to have seen it", || stats(&mut program)[1] > CLIENTS);
    assert_eq!(come(10, hubs[0]).len(), 10);
    program.ends();
}
