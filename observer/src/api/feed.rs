//! EDGE: what happens, as an endless answer.
//!
//! A reader that is slower than the events loses the oldest ones, never the daemon its memory: what
//! waits for readers is one ring that they share, and a reader that was overtaken is told how much
//! it missed.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::{
    sync::{
        broadcast::{Receiver, error::RecvError},
        watch,
    },
    time::{Interval, MissedTickBehavior, interval_at},
};

use super::{Counters, json};

/// So often a stream of server-sent events says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Server-sent events (HTML standard, section 9.2).
    Events,
    /// One JSON object a line.
    Lines,
}

impl Format {
    /// What the client asked for; lines unless it named server-sent events.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|it| it.to_str().ok());
        let mut kinds = accepts.flat_map(|accept| accept.split(','));
        let is_events = |kind: &str| {
            let kind = kind.split(';').next().unwrap_or_default();
            kind.trim().eq_ignore_ascii_case("text/event-stream")
        };
        if kinds.any(is_events) { Self::Events } else { Self::Lines }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Events => "text/event-stream",
            Self::Lines => "application/x-ndjson",
        })
    }

    /// One entry. `json` has no line break.
    fn write(self, number: u64, kind: &str, json: &str) -> Bytes {
        match self {
            Self::Events => format!("event: {kind}\nid: {number}\ndata: {json}\n\n").into(),
            Self::Lines => format!("{json}\n").into(),
        }
    }
}

/// One entry: its type and its JSON.
pub(super) type Entry = (&'static str, String);

/// An entry of this type.
pub(super) fn entry(kind: &'static str, value: &impl Serialize) -> Option<Entry> {
    json::to_string(value).ok().map(|json| (kind, json))
}

#[derive(Serialize)]
struct Gap {
    #[serde(rename = "type")]
    kind: &'static str,
    lost: u64,
}

/// What goes into a stream.
pub(super) struct Feed<T, F> {
    pub(super) source: Receiver<T>,
    /// Makes an entry, or leaves it out.
    pub(super) pick: F,
    pub(super) format: Format,
    pub(super) counters: Arc<Counters>,
    /// Becomes true when the stream has to end.
    pub(super) ending: watch::Receiver<bool>,
}

impl<T, F> Feed<T, F>
where
    T: Clone + Send + 'static,
    F: Fn(T) -> Option<Entry> + Send + 'static,
{
    /// The answer that never ends by itself.
    pub(super) fn into_response(self) -> Response {
        let content_type = self.format.content_type();
        let reader = Reader::new(self);
        let parts = stream::unfold(reader, |mut reader| async move {
            let part = reader.next().await?;
            Some((Ok::<_, std::convert::Infallible>(part), reader))
        });
        ([(header::CONTENT_TYPE, content_type)], Body::from_stream(parts)).into_response()
    }
}

struct Reader<T, F> {
    feed: Feed<T, F>,
    number: u64,
    heartbeat: Interval,
}

impl<T, F> Reader<T, F>
where
    T: Clone,
    F: Fn(T) -> Option<Entry>,
{
    fn new(feed: Feed<T, F>) -> Self {
        feed.counters.streams_open.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut heartbeat = interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { feed, number: 0, heartbeat }
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let beats = self.feed.format == Format::Events;
            let received = tokio::select! {
                biased;
                _ = self.feed.ending.wait_for(|ending| *ending) => return None,
                received = self.feed.source.recv() => received,
                _ = self.heartbeat.tick(), if beats => return Some(": alive\n\n".into()),
            };
            let picked = match received {
                Ok(news) => (self.feed.pick)(news),
                Err(RecvError::Lagged(lost)) => {
                    let counter = &self.feed.counters.entries_lost;
                    counter.fetch_add(lost, std::sync::atomic::Ordering::Relaxed);
                    entry("gap", &Gap { kind: "gap", lost })
                }
                Err(RecvError::Closed) => return None,
            };
            if let Some((kind, json)) = picked {
                self.number += 1;
                return Some(self.feed.format.write(self.number, kind, &json));
            }
        }
    }
}

impl<T, F> Drop for Reader<T, F> {
    fn drop(&mut self) {
        self.feed.counters.streams_open.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;

    use super::*;

    fn accepting(accept: &[&'static str]) -> HeaderMap {
        accept.iter().map(|it| (header::ACCEPT, HeaderValue::from_static(it))).collect()
    }

    #[test]
    fn the_client_chooses_the_format() {
        let cases: [(&[&str], Format); 6] = [
            (&[], Format::Lines),
            (&["*/*"], Format::Lines),
            (&["application/x-ndjson"], Format::Lines),
            (&["text/event-stream"], Format::Events),
            (&["text/html, Text/Event-Stream;q=0.9"], Format::Events),
            (&["text/html", "text/event-stream"], Format::Events),
        ];
        for (accept, expected) in cases {
            assert_eq!(Format::of(&accepting(accept)), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_slow_reader_is_told_what_it_missed_and_a_quick_one_misses_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be made").block_on(async {
            let (source, slow) = broadcast::channel(4);
            let counters = Arc::new(Counters::default());
            let (end, ending) = watch::channel(false);
            let mut reader = Reader::new(Feed {
                source: slow,
                pick: |number: u64| (number != 7).then(|| ("number", number.to_string())),
                format: Format::Events,
                counters: Arc::clone(&counters),
                ending,
            });
            assert_eq!(counters.read().streams_open, 1);
            for number in 0..10 {
                source.send(number).expect("there is a reader");
            }
            let mut told = Vec::new();
            for _ in 0..4 {
                told.extend(reader.next().await.expect("there is more"));
            }
            let expected = "event: gap\nid: 1\ndata: {\"type\":\"gap\",\"lost\":6}\n\n\
                event: number\nid: 2\ndata: 6\n\nevent: number\nid: 3\ndata: 8\n\n\
                event: number\nid: 4\ndata: 9\n\n";
            assert_eq!(String::from_utf8_lossy(&told), expected);
            assert_eq!(counters.read().entries_lost, 6);
            end.send(true).expect("there is a reader");
            assert_eq!(reader.next().await, None);
            drop(reader);
            assert_eq!(counters.read().streams_open, 0);
        });
    }
}
