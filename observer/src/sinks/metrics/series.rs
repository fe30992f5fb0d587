//! PURE. The values of one family, in the types of the text encoder.

use std::time::Duration;

use prometheus::proto::{Bucket, Counter, Gauge, LabelPair, Metric};

use crate::model::TcpState;
use crate::reading::{ByState, Histogram};

/// Values with their labels.
pub(super) struct Series<'a> {
    names: &'static [&'static str],
    /// The values of the first labels, for all that follows.
    outer: &'a [String],
    metrics: Vec<Metric>,
}

/// What a value is made from.
pub(super) trait Number {
    fn number(self) -> f64;
}

impl<'a> Series<'a> {
    pub(super) fn new(names: &'static [&'static str]) -> Self {
        Self { names, outer: &[], metrics: Vec::new() }
    }

    /// From now on all values have these for their first labels.
    pub(super) fn within(&mut self, outer: &'a [String]) {
        self.outer = outer;
    }

    /// A value without labels of its own.
    pub(super) fn value(&mut self, value: impl Number) {
        self.labelled(&[], value);
    }

    /// A value with these labels.
    pub(super) fn labelled(&mut self, labels: &[&str], value: impl Number) {
        let value = value.number();
        let mut metric = self.metric(labels);
        // Only one of them is read, by the type of the family.
        let (mut counter, mut gauge) = (Counter::default(), Gauge::default());
        counter.set_value(value);
        gauge.set_value(value);
        metric.set_counter(counter);
        metric.set_gauge(gauge);
        self.metrics.push(metric);
    }

    /// A value for each of `names`, in the order of `values`.
    pub(super) fn each(&mut self, names: &[&str], values: &[u64]) {
        for (name, value) in names.iter().zip(values) {
            self.labelled(&[name], *value);
        }
    }

    /// A value for each TCP state, 0 included.
    ///
    /// The states and their names are those of node_exporter's `tcpstat` collector. It has no
    /// `new_syn_recv`, for the kernel shows such a request as SYN_RECV to everybody who asks
    /// (`inet_req_diag_fill` in net/ipv4/inet_diag.c, `get_openreq4` in net/ipv4/tcp_ipv4.c), and so
    /// do we.
    pub(super) fn by_state(&mut self, values: &ByState) {
        let of = |state: TcpState| {
            let index = TcpState::ALL.iter().position(|other| *other == state);
            index.map_or(0, |index| values[index])
        };
        for state in TcpState::ALL {
            let value = match state {
                TcpState::NewSynRecv => continue,
                TcpState::SynRecv => of(state).saturating_add(of(TcpState::NewSynRecv)),
                _ => of(state),
            };
            self.labelled(&[&state.name().to_ascii_lowercase()], value);
        }
    }

    /// A histogram.
    pub(super) fn histogram(&mut self, read: &Histogram) {
        let mut cumulated = 0_u64;
        // The encoder adds the bucket without a bound: all there are.
        let buckets = Histogram::BOUNDS.iter().zip(&read.counts).map(|(bound, count)| {
            cumulated = cumulated.saturating_add(*count);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(cumulated);
            bucket
        });
        let mut histogram = prometheus::proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(read.count());
        histogram.set_sample_sum(read.sum.as_secs_f64());
        let mut metric = self.metric(&[]);
        metric.set_histogram(histogram);
        self.metrics.push(metric);
    }

    pub(super) fn finish(self) -> Vec<Metric> {
        self.metrics
    }

    fn metric(&self, labels: &[&str]) -> Metric {
        let values = self.outer.iter().map(String::as_str).chain(labels.iter().copied());
        let pairs: Vec<LabelPair> = self.names.iter().zip(values).map(pair).collect();
        debug_assert_eq!(
            (pairs.len(), pairs.len()),
            (self.names.len(), self.outer.len() + labels.len()),
            "each label has a value"
        );
        Metric::from_label(pairs)
    }
}

fn pair((name, value): (&&'static str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name((*name).to_owned());
    pair.set_value(value.to_owned());
    pair
}

impl Number for u64 {
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for u32 {
    fn number(self) -> f64 {
        self.into()
    }
}

impl Number for usize {
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for bool {
    fn number(self) -> f64 {
        u32::from(self).into()
    }
}

/// In seconds.
impl Number for Duration {
    fn number(self) -> f64 {
        self.as_secs_f64()
    }
}

/// In seconds since 1970.
impl Number for jiff::Timestamp {
    fn number(self) -> f64 {
        self.as_millisecond() as f64 / 1e3
    }
}
