//! A Rust program that holds sockets as it is told, a line at a time; `apps/app.py` speaks the
//! same language. Arguments are a first order, carried out before anything is read.
//!
//! It is also the fast one: it opens more connections than an interpreter could.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::env;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

type Answer = Result<String, Box<dyn std::error::Error>>;

#[derive(Default)]
struct Held(BTreeMap<RawFd, OwnedFd>);

fn main() -> io::Result<()> {
    let mut held = Held::default();
    let first: Vec<String> = env::args().skip(1).collect();
    let mut stdout = io::stdout();
    if !first.is_empty() {
        let words: Vec<&str> = first.iter().map(String::as_str).collect();
        if let Err(error) = held.obey(&words) {
            return Err(io::Error::other(error.to_string()));
        }
    }
    writeln!(stdout, "ready")?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match held.obey(&words) {
            Ok(value) => writeln!(stdout, "ok {value}")?,
            Err(error) => writeln!(stdout, "error {line}: {error}")?,
        }
        stdout.flush()?;
    }
    Ok(())
}

impl Held {
    fn obey(&mut self, words: &[&str]) -> Answer {
        match *words {
            ["connect", host, port] => {
                let stream = TcpStream::connect(address(host, port)?)?;
                Ok(self.keep(stream.into()).to_string())
            }
            ["connect-many", count, host, port, ref sources @ ..] => {
                self.connect_many(count.parse()?, address(host, port)?, sources)
            }
            ["connect-threads", threads, count, host, port] => {
                self.connect_threads(threads.parse()?, count.parse()?, address(host, port)?)
            }
            ["listen", host, backlog] => {
                let listener = listen(address(host, "0")?, backlog.parse()?)?;
                let port = listener.local_addr()?.port();
                Ok(format!("{} {port}", self.keep(listener.into())))
            }
            ["accept", fd] => self.accept_many(fd, 1),
            ["accept-many", fd, count] => self.accept_many(fd, count.parse()?),
            ["read", fd, count] => {
                let mut buffer = vec![0; count.parse()?];
                let mut stream = self.stream(fd)?;
                let mut done = 0;
                while done < buffer.len() {
                    match stream.read(&mut buffer[done..])? {
                        0 => break,
                        more => done += more,
                    }
                }
                Ok(done.to_string())
            }
            ["write", fd, count] => {
                self.stream(fd)?.write_all(&vec![b'x'; count.parse()?])?;
                Ok(String::new())
            }
            ["dup", fd] => {
                let copy = self.fd(fd)?.try_clone()?;
                Ok(self.keep(copy).to_string())
            }
            ["close", fd] => {
                self.0.remove(&fd.parse()?).ok_or("no such descriptor")?;
                Ok(String::new())
            }
            ["close-last", count] => {
                // Listeners were opened first and stay.
                for _ in 0..count.parse::<usize>()? {
                    self.0.pop_last().ok_or("nothing left to close")?;
                }
                Ok(String::new())
            }
            ["churn", count, ref hosts @ ..] => churn(count.parse()?, hosts),
            _ => Err("no such verb".into()),
        }
    }

    fn keep(&mut self, fd: OwnedFd) -> RawFd {
        let number = fd.as_raw_fd();
        self.0.insert(number, fd);
        number
    }

    fn fd(&self, number: &str) -> Result<&OwnedFd, Box<dyn std::error::Error>> {
        Ok(self.0.get(&number.parse()?).ok_or("no such descriptor")?)
    }

    /// A second descriptor for one operation.
    fn stream(&self, number: &str) -> Result<TcpStream, Box<dyn std::error::Error>> {
        Ok(self.fd(number)?.try_clone()?.into())
    }

    /// Connects `count` times, from each of `sources` in turn: each source address has all ports
    /// for itself.
    fn connect_many(&mut self, count: usize, to: SocketAddr, sources: &[&str]) -> Answer {
        raise_limit();
        for source in sources.iter().cycle().take(count) {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.bind(&address(source, "0")?.into())?;
            socket.connect(&to.into())?;
            self.keep(socket.into());
        }
        Ok(count.to_string())
    }

    /// Connects `count` times in each of `threads` threads, all at the same time.
    fn connect_threads(&mut self, threads: usize, count: usize, to: SocketAddr) -> Answer {
        let connect = move || (0..count).map(|_| TcpStream::connect(to)).collect::<Vec<_>>();
        let threads: Vec<_> = (0..threads).map(|_| thread::spawn(connect)).collect();
        let mut connected = 0;
        for thread in threads {
            for stream in thread.join().map_err(|_| "a thread panicked")? {
                self.keep(stream?.into());
                connected += 1;
            }
        }
        Ok(connected.to_string())
    }

    fn accept_many(&mut self, listener: &str, count: usize) -> Answer {
        raise_limit();
        let listener: TcpListener = self.fd(listener)?.try_clone()?.into();
        let mut last = 0;
        for _ in 0..count {
            last = self.keep(listener.accept()?.0.into());
        }
        Ok(last.to_string())
    }
}

/// Connects, accepts and closes both ends, `count` times, as fast as it goes. The client resets:
/// nothing stays behind in TIME_WAIT, and no port is missed.
fn churn(count: usize, hosts: &[&str]) -> Answer {
    let listeners = hosts
        .iter()
        .map(|host| Ok(TcpListener::bind(address(host, "0")?)?))
        .collect::<Result<Vec<_>, Box<dyn std::error::Error>>>()?;
    for listener in listeners.iter().cycle().take(count) {
        let to = listener.local_addr()?;
        let client = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        client.set_linger(Some(Duration::ZERO))?;
        client.connect(&to.into())?;
        let (server, _) = listener.accept()?;
        drop(client);
        drop(server);
    }
    Ok(count.to_string())
}

fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

fn address(host: &str, port: &str) -> Result<SocketAddr, Box<dyn std::error::Error>> {
    Ok(SocketAddr::new(IpAddr::from_str(host)?, port.parse()?))
}

/// As many descriptors as this process may have.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // What cannot be raised shows itself at the first refused descriptor.
    let _ = setrlimit(Resource::Nofile, raised);
}
