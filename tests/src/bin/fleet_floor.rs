//! The least that a fleet can cost: a socket and a task for each device, and MQTT by hand.
//!
//! It keeps the contract of [`harness::fleet`], without messages.

#![forbid(unsafe_code)]

use harness::fleet::order::{Order, orders};
use harness::fleet::{self, Fleet, RETRY, raw};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// What all devices share.
struct Shared {
    fleet: Fleet,
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    gate: Semaphore,
}

fn main() -> io::Result<()> {
    let fleet = Fleet::from_command_line();
    fleet.args.refuse(&[("--subscribe", fleet.args.subscribe.is_some())])?;
    let shared = Arc::new(Shared {
        address: fleet.args.broker.address()?,
        tls: tls(&fleet)?,
        gate: Semaphore::new(fleet.args.permits()),
        fleet,
    });
    let runtime = fleet::runtime();
    runtime.block_on(run(shared));
    runtime.shutdown_background();
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the floor: one bare task for each connection")]
async fn run(shared: Arc<Shared>) {
    let mut orders = orders(shared.fleet.report);
    shared.fleet.begin();
    for number in 0..shared.fleet.args.devices {
        let shared = Arc::clone(&shared);
        match shared.tls {
            None => drop(tokio::spawn(plain(shared, number))),
            Some(_) => drop(tokio::spawn(over_tls(shared, number))),
        }
    }
    while let Some(order) = orders.recv().await {
        match order {
            Order::Status => shared.fleet.status(),
            Order::Quit => break,
            Order::Publish { .. } => shared.fleet.report.refuse("the floor has no messages"),
        }
    }
}

async fn plain(shared: Arc<Shared>, number: u32) {
    loop {
        let permit = shared.gate.acquire().await;
        // Boxed, for a device that is connected should not pay for what connecting needs.
        let connected = Box::pin(connect(&shared, number)).await;
        drop(permit);
        match connected {
            Ok(stream) => live(&shared.fleet, stream).await,
            Err(_) => wait_after_failure(&shared.fleet).await,
        }
    }
}

async fn over_tls(shared: Arc<Shared>, number: u32) {
    loop {
        let permit = shared.gate.acquire().await;
        let connected = Box::pin(connect_over_tls(&shared, number)).await;
        drop(permit);
        match connected {
            Ok(stream) => live(&shared.fleet, stream).await,
            Err(_) => wait_after_failure(&shared.fleet).await,
        }
    }
}

async fn connect(shared: &Shared, number: u32) -> io::Result<tokio::net::TcpStream> {
    let args = &shared.fleet.args;
    let mut stream = raw::dial(args, shared.address, number).await?;
    raw::greet(&mut stream, args, number).await?;
    Ok(stream)
}

async fn connect_over_tls(
    shared: &Shared,
    number: u32,
) -> io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let args = &shared.fleet.args;
    let (connector, name) = shared.tls.as_ref().expect("invariant: called with TLS only");
    let stream = raw::dial(args, shared.address, number).await?;
    let mut stream = connector.connect(name.clone(), stream).await?;
    raw::greet(&mut stream, args, number).await?;
    Ok(stream)
}

/// From CONNACK to the end of the connection.
async fn live<S: AsyncRead + AsyncWrite + Unpin>(fleet: &Fleet, mut stream: S) {
    fleet.up();
    let keep_alive = Duration::from_secs(fleet.args.keep_alive.max(1).into());
    let mut answer = [0; 8];
    loop {
        match timeout(keep_alive, stream.read(&mut answer)).await {
            // PINGRESP; nothing else is sent to whom subscribes to nothing.
            Ok(Ok(1..)) => {}
            Ok(_) => break,
            Err(_) => {
                let pinged = stream.write_all(&raw::PINGREQ).await;
                if pinged.is_err() || stream.flush().await.is_err() {
                    break;
                }
            }
        }
    }
    // The socket goes first: nobody may find the device absent while it is still held.
    drop(stream);
    fleet.down();
}

async fn wait_after_failure(fleet: &Fleet) {
    fleet.failed();
    sleep(RETRY).await;
}

fn tls(fleet: &Fleet) -> io::Result<Option<(TlsConnector, ServerName<'static>)>> {
    let Some(ca) = &fleet.args.ca else {
        return Ok(None);
    };
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(ca).map_err(io::Error::other)?;
    roots.add(certificate).map_err(io::Error::other)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(fleet.args.broker.host.clone()).map_err(io::Error::other)?;
    Ok(Some((TlsConnector::from(Arc::new(config)), name)))
}
