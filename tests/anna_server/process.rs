//! The server as a command: its options, what it prints, how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use super::*;

/// The server as a command, and what its first line said.
struct Process {
    child: Child,
    ready: String,
}

impl Process {
    fn start(args: &[&str]) -> Self {
        let mut child = command(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.starts_with("ready "), "it said {ready:?}");
        Self { child, ready }
    }

    fn told(&self, name: &str) -> String {
        let mut words = self.ready.split_whitespace().filter_map(|word| word.split_once('='));
        words.find(|(found, _)| *found == name).unwrap().1.to_owned()
    }

    fn client(&self) -> Client {
        let endpoints =
            |name| -> Vec<String> { self.told(name).split(',').map(str::to_owned).collect() };
        Client::of(&endpoints("routing"), &endpoints("storage"))
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aft"));
    command.arg("anna-server").args(args);
    command
}

fn with_data(place: &Path, offset: &str, more: &[&str]) -> Process {
    let args = ["--data-dir", place.to_str().unwrap(), "--port-offset", offset];
    Process::start(&[&args[..], more].concat())
}

#[test]
fn acknowledged_writes_survive_kill_9() {
    for more in [&[][..], &["--no-sync"]] {
        let place = tempfile::tempdir().unwrap();
        let mut process = with_data(place.path(), "free", more);
        let offset = process.told("port-offset");
        let mut client = process.client();
        client.write(set("set", LatticeType::OrderedSet, &["b", "a"]));
        for number in 0..2_000 {
            client.put("many", [lww(&format!("key {number}"), 1, "kept")]);
        }
        let acknowledged: Vec<_> = (0..500).map(|_| client.reply().tuples.remove(0)).collect();
        // In the middle of the others.
        process.signal(rustix::process::Signal::KILL);
        process.child.wait().unwrap();

        let restarted = with_data(place.path(), &offset, more);
        assert_eq!(restarted.told("storage"), process.told("storage"));
        let mut client = restarted.client();
        for KeyTuple { key, .. } in &acknowledged {
            assert_eq!(lww_of(&client.value(key)), (1, "kept".to_owned()));
        }
        assert_eq!(set_of(&client.value("set")), ["a", "b"]);
    }
}

#[test]
fn signals_end_it_with_status_0() {
    use rustix::process::Signal;
    for signal in [Signal::TERM, Signal::INT] {
        let mut process = Process::start(&["--port-offset", "free"]);
        process.signal(signal);
        assert_eq!(process.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_taken_port_is_named() {
    let first = Process::start(&["--port-offset", "free"]);
    let second = command(&["--port-offset", &first.told("port-offset")]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&first.told("routing")), "{said}");
    assert!(said.contains("--port-offset"), "{said}");
}

#[test]
fn what_cannot_be_is_refused() {
    for args in [
        &["--threads", "0"][..],
        &["--routing-threads", "11"],
        &["--port-offset", "65000"],
        &["--twice", "1.5"],
        &["--delay-ms", "5-4"],
    ] {
        let output = command(args).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{args:?}: {output:?}");
    }
}

#[test]
fn is_controlled_over_http() {
    let args = ["--port-offset", "free", "--threads", "2", "--admin", "127.0.0.1:0"];
    let process = Process::start(&args);
    let mut client = process.client();
    let admin = process.told("admin");
    let (key, _) = one_key_of_each(&mut client);
    client.write(lww(&key, 1, "x"));
    let (code, status) = http(&admin, "GET", "/status", "");
    assert_eq!((code, &status["keys"]), (200, &1.into()));

    let keys = format!(r#"{{"keys": [{key:?}], "to": 1}}"#);
    assert_eq!(http(&admin, "POST", "/move", &keys).0, 200);
    assert_eq!(client.value(&key).error(), AnnaError::WrongThread);
    assert_eq!(http(&admin, "POST", "/move", r#"{"rotate": 1}"#).0, 200);
    assert_eq!(client.value(&key).error(), AnnaError::NoError);

    let (code, status) = http(&admin, "POST", "/misbehave", r#"{"no_servers": true}"#);
    assert_eq!((code, &status["misbehaviour"]["no_servers"]), (200, &true.into()));
    client.ask("id", &["a"]);
    assert_eq!(client.addresses().error(), AnnaError::NoServers);

    let (code, status) = http(&admin, "POST", "/forget", "");
    assert_eq!((code, &status["keys"]), (200, &0.into()));
    for (path, body) in [
        ("/misbehave", r#"{"no_servers": 1}"#),
        ("/misbehave", r#"{"unknown": 1}"#),
        ("/misbehave", r#"{"twice": 2}"#),
        ("/move", r#"{"keys": ["a"], "to": 2}"#),
        ("/move", r#"{"keys": ["a"]}"#),
    ] {
        let (code, answer) = http(&admin, "POST", path, body);
        assert_eq!(code, 400, "{path} {body}");
        assert!(answer["error"].is_string());
    }
}

fn http(at: &str, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
    let mut stream = TcpStream::connect(at).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (code, serde_json::from_str(body).unwrap())
}
