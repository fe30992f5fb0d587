//! What the programs connect to.

use super::stage::{Stage, runtime};
use crate::Mosquitto;
use crate::kick::Kick;
use crate::peer::FullBacklog;
use pool::testing::{Behaviour, Takeover, TestBroker};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Devices of `paced_pool` that are kicked.
const KICKED: u32 = 60;

/// A broker.
pub(super) fn broker() -> Stage {
    let broker = Mosquitto::start();
    Stage::new(broker.port(), broker)
}

/// A broker that is killed.
pub(super) fn mortal_broker() -> Stage {
    let mut broker = Mosquitto::start();
    Stage::new(broker.port(), ()).on_act(move || broker.kill())
}

/// A broker that is killed and comes back.
pub(super) fn restarting_broker() -> Stage {
    let mut broker = Mosquitto::start();
    Stage::new(broker.port(), ()).on_act(move || broker.restart())
}

/// A broker whose sessions somebody else takes over once.
pub(super) fn kicking_broker() -> Stage {
    let broker = Mosquitto::start();
    let url = broker.url();
    let kicker = super::program::binary("kicker");
    Stage::new(broker.port(), broker).on_act(move || {
        Kick::start(&kicker.to_string_lossy(), &url, "dev-", KICKED).finish();
    })
}

/// A broker that lets two sessions have one client id.
pub(super) fn lenient_broker() -> Stage {
    test_broker(Behaviour { takeover: Takeover::Ignore, ..Behaviour::default() })
}

/// A broker that lost its power right after CONNACK.
pub(super) fn mute_broker() -> Stage {
    test_broker(Behaviour { half_open: true, ..Behaviour::default() })
}

fn test_broker(behaviour: Behaviour) -> Stage {
    let runtime = runtime();
    let broker = runtime.block_on(TestBroker::builder().behaviour(behaviour).start());
    let broker = broker.expect("the kernel has a free port");
    Stage::new(broker.address().port(), broker).keep(runtime)
}

/// HTTP/1.1 that keeps every connection; `/slow` takes 25 s.
pub(super) fn http() -> Stage {
    Stage::serve(|mut stream| async move {
        while let Some(request) = request(&mut stream).await? {
            if request.contains("/slow") {
                sleep(Duration::from_secs(25)).await;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await?;
        }
        Ok(())
    })
}

/// HTTP/1.1 that promises more than it sends, and closes.
pub(super) fn closing_http() -> Stage {
    Stage::serve(|mut stream| async move {
        request(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello").await?;
        sleep(Duration::from_secs(1)).await;
        Ok(())
    })
}

/// Takes everything and says nothing.
pub(super) fn patient() -> Stage {
    Stage::serve(drain)
}

/// Closes after a second.
pub(super) fn closing() -> Stage {
    Stage::serve(|stream| async move {
        let _in_time = timeout(Duration::from_secs(1), drain_ref(&stream)).await;
        Ok(())
    })
}

/// Resets after half a second.
pub(super) fn resetting() -> Stage {
    Stage::serve(|stream| async move {
        sleep(Duration::from_millis(500)).await;
        stream.set_zero_linger()
    })
}

/// Sends 20 kB at once, and nothing more.
pub(super) fn sending() -> Stage {
    Stage::serve(|mut stream| async move {
        stream.write_all(&[b'x'; 20_000]).await?;
        drain(stream).await
    })
}

/// Sends as much as is taken.
pub(super) fn pouring() -> Stage {
    Stage::serve(|mut stream| async move {
        loop {
            stream.write_all(&[b'x'; 4096]).await?;
        }
    })
}

/// Reads to the end, and then answers a byte each second.
pub(super) fn late_answers() -> Stage {
    Stage::serve(|mut stream| async move {
        stream.read_to_end(&mut Vec::new()).await?;
        loop {
            stream.write_all(b"x").await?;
            sleep(Duration::from_secs(1)).await;
        }
    })
}

/// Never accepts, and its queue is full.
pub(super) fn full() -> Stage {
    let peer = FullBacklog::new();
    Stage::new(peer.port(), peer)
}

/// A request up to its empty line; nothing at the end.
async fn request(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut said).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(String::from_utf8_lossy(&said).into_owned()))
}

async fn drain(stream: TcpStream) -> io::Result<()> {
    drain_ref(&stream).await
}

async fn drain_ref(stream: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Where the sources of the programs are.
pub(super) fn sources() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus"))
}
