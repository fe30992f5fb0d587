//! Who connects to the programs that are servers.

use super::foreign::postgres_program;
use super::stage::{Mortal, Stage};
use std::future;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// Ten that say something once and are quiet then.
pub(super) fn quiet(port: u16) -> Stage {
    Stage::connect(port, 10, |mut stream| async move {
        stream.write_all(b"hello").await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        forever(stream).await
    })
}

/// Eight that come and go.
pub(super) fn leaving(port: u16) -> Stage {
    Stage::connect(port, 8, |stream| async move {
        let _open = stream;
        sleep(Duration::from_secs(1)).await;
        Ok(())
    })
}

/// Eighty that come and stay.
pub(super) fn staying(port: u16) -> Stage {
    Stage::connect(port, 80, forever)
}

/// Twenty browsers with nothing to say.
pub(super) fn web_sockets(port: u16) -> Stage {
    Stage::connect(port, 20, |mut stream| async move {
        // The key is the example of RFC 6455, section 1.3.
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: \
            Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: \
            13\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        if &answer != b"HTTP/1.1 101" {
            return Err(io::Error::other("no WebSocket"));
        }
        forever(stream).await
    })
}

/// Ten that say all they have to say, close their half, and take what comes.
pub(super) fn half_closing(port: u16) -> Stage {
    Stage::connect(port, 10, |mut stream| async move {
        stream.write_all(b"request").await?;
        stream.shutdown().await?;
        let mut byte = [0];
        while stream.read(&mut byte).await? > 0 {}
        Ok(())
    })
}

/// HTTP as fast as it goes, for 15 s.
pub(super) fn wrk(port: u16) -> Stage {
    let url = format!("http://127.0.0.1:{port}/");
    Stage::new(0, Mortal::start(&["wrk", "-t1", "-c50", "-d15s", &url]))
}

/// Redis commands as fast as they go.
pub(super) fn redis_benchmark(port: u16) -> Stage {
    let port = port.to_string();
    let words = ["redis-benchmark", "-p", &port, "-c", "50", "-n", "400000", "-q", "-t", "set,get"];
    Stage::new(0, Mortal::start(&words))
}

/// Transactions for 10 s, and five sessions that stay open without a query.
pub(super) fn pgbench(port: u16) -> Stage {
    let port = port.to_string();
    let pgbench = postgres_program("pgbench");
    let at = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres"];
    let made =
        std::process::Command::new(&pgbench).args(["-i", "-q"]).args(at).arg("postgres").output();
    let made = made.expect("pgbench is installed: `cargo xtask setup --with test`");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut words = vec![&pgbench[..], "-c", "8", "-T", "10"];
    words.extend(at);
    words.push("postgres");
    let mut stage = Stage::new(0, Mortal::start(&words));
    let psql = postgres_program("psql");
    for _ in 0..5 {
        let mut words = vec![&psql[..]];
        words.extend(at);
        words.push("postgres");
        stage = stage.keep(Mortal::start(&words));
    }
    stage
}

async fn forever(stream: TcpStream) -> io::Result<()> {
    let _open = stream;
    future::pending().await
}
