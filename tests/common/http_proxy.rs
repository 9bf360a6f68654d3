//! Stands between a client and a server, request by request, and does to them what a [`Rule`] says.
//!
//! It knows HTTP/1.1 with `Content-Length`, which is what this client and this server speak.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// One request on its way.
pub struct Request {
    /// The operation, such as `PutItem`, where the protocol has a header for that.
    pub operation: String,
    /// The method and what is asked for, such as `PUT /bucket/name`.
    pub line: String,
    pub body: String,
}

/// What happens to a request.
pub enum Act {
    Pass,
    /// It is done, and then the connection ends.
    LoseAnswer,
    /// The connection ends before it is done.
    Cut,
    /// It is held until [`Proxy::release`], then done; whether somebody still waits for it or not.
    Hold,
    /// It is not done. This is answered, with a status.
    Answer(u16, String),
}

type Rule = Arc<dyn Fn(&Request) -> Act + Send + Sync>;

/// A proxy on a free port.
pub struct Proxy {
    pub url: String,
    rule: Arc<Mutex<Rule>>,
    released: watch::Sender<u64>,
}

impl Proxy {
    pub async fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Arc::new(|_: &Request| Act::Pass)));
        let (released, _) = watch::channel(0);
        let rules = rule.clone();
        let releases = released.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server_port)).await;
                let Ok(server) = server else { continue };
                tokio::spawn(serve(client, server, rules.clone(), releases.subscribe()));
            }
        });
        Self { url, rule, released }
    }

    /// From now on this is done to each request.
    pub fn rule(&self, rule: impl Fn(&Request) -> Act + Send + Sync + 'static) {
        *self.rule.lock() = Arc::new(rule);
    }

    /// All requests that are held are done now.
    pub fn release(&self) {
        self.released.send_modify(|count| *count += 1);
    }
}

async fn serve(
    client: TcpStream,
    server: TcpStream,
    rule: Arc<Mutex<Rule>>,
    mut released: watch::Receiver<u64>,
) -> Option<()> {
    let (mut client, mut server) = (BufStream::new(client), BufStream::new(server));
    loop {
        let (head, body) = message(&mut client).await?;
        let target = header(&head, "x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let line = String::from_utf8_lossy(&head);
        let line = line.split_once(" HTTP/").map_or("", |(line, _)| line).to_owned();
        let body_text = String::from_utf8_lossy(&body).into_owned();
        let request = Request { operation, line, body: body_text };
        let rule = rule.lock().clone();
        let act = rule(&request);
        match &act {
            Act::Cut => return None,
            Act::Hold => {
                released.mark_unchanged();
                released.changed().await.ok()?;
            }
            Act::Answer(status, json) => {
                let answer = format!(
                    "HTTP/1.1 {status} As told\r\nContent-Type: application/x-amz-json-1.0\r\n\
                     ETag: \"none\"\r\nContent-Length: {}\r\n\r\n{json}",
                    json.len()
                );
                client.write_all(answer.as_bytes()).await.ok()?;
                client.flush().await.ok()?;
                continue;
            }
            Act::Pass | Act::LoseAnswer => {}
        }
        send(&mut server, &head, &body).await?;
        let (head, body) = message(&mut server).await?;
        if matches!(act, Act::LoseAnswer) {
            return None;
        }
        send(&mut client, &head, &body).await?;
    }
}

async fn message(from: &mut BufStream<TcpStream>) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(from.read_u8().await.ok()?);
    }
    let length = header(&head, "content-length").and_then(|text| text.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    from.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

fn header(head: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    let mut headers = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = headers.find(|(found, _)| found.eq_ignore_ascii_case(name))?;
    Some(value.trim().to_owned())
}

async fn send(to: &mut BufStream<TcpStream>, head: &[u8], body: &[u8]) -> Option<()> {
    to.write_all(head).await.ok()?;
    to.write_all(body).await.ok()?;
    to.flush().await.ok()
}
