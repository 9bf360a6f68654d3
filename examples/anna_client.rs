//! Reads and writes values in any Anna store:
//!
//! ```sh
//! cargo run --example anna_client -- 127.0.0.1
//! cargo run --example anna_client -- 10.0.0.7 10.0.0.5   # a store elsewhere, and this machine's address
//! ```

use std::error::Error;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use aft::anna::client::{Acks, Client, ClientConfig, parse_routing};
use aft::anna::lattice::Lattice;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let store = arguments.next().ok_or("usage: anna_client HOST[:PORT] [THIS MACHINE'S IP]")?;
    let mut config = ClientConfig { routing: parse_routing(&store)?, ..ClientConfig::default() };
    if let Some(ip) = arguments.next() {
        config.ip = ip.parse()?;
    }
    let client = Client::open(config)?;

    // A value of which the last writer wins; the writer says what "last" is.
    #[expect(clippy::disallowed_methods, reason = "an example of a timestamp")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let timestamp = now.as_micros() as u64;
    let greeting = Lattice::Lww { timestamp, value: "moin".into() };
    client.put("example greeting", greeting, Acks::Any).await?;
    println!("greeting: {:?}", client.get("example greeting").await?);

    // A set, which grows: nobody needs to read it to add to it.
    for guest in ["anna", "berta"] {
        let guests = Lattice::Set(vec![guest.into()]);
        client.put("example guests", guests, Acks::All).await?;
    }
    println!("guests: {:?}", client.get("example guests").await?);

    println!("nobody: {:?}", client.get("example nobody").await?);
    println!("{:?}", client.counters());
    Ok(())
}
